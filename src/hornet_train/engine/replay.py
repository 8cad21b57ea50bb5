"""Replays a dumped step, to find where numbers stop being finite, and for which samples."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from hornet_train.data.address import batch_rng, device_seed
from hornet_train.data.batch import size, to_device
from hornet_train.engine.dump import Dump
from hornet_train.engine.guard import norm_by_stage
from hornet_train.engine.precision import PrecisionName, autocast
from hornet_train.engine.task import Task


@dataclass
class Finding:
    """The result for a micro-batch.

    Attributes:
        micro: its index in the rank's step.
        size: its number of samples.
        loss: its mean loss.
        module: the first module with a number in its output that is not finite; "" for none.
        greatest: the greatest finite magnitude in the model's input and any module's output up to there.
        where: the module with that output; "" for the input.
        places: positions, within the micro-batch, of the samples whose output of `module` is not finite.
        norms: the gradient's norm by stage; empty if the loss is not finite.
    """

    micro: int
    size: int
    loss: float = 0.0
    module: str = ""
    greatest: float = 0.0
    where: str = ""
    places: list[int] = field(default_factory=list)
    norms: dict[str, float] = field(default_factory=dict)


def replay(task: Task, model: nn.Module, dump: Dump, precision: PrecisionName) -> list[Finding]:
    """Forward and backward of each micro-batch, with the same random draws as in the run.

    Args:
        model: with the weights of the dump.
    """
    device = next(model.parameters()).device
    numbers, findings = dump.numbers, []
    model.train()
    for micro, batch in zip(numbers.micros, dump.batches, strict=True):
        on_device = to_device(batch, device)
        finding = Finding(micro, size(batch))
        torch.manual_seed(device_seed(numbers.seed, numbers.step, numbers.rank, micro))
        rng = batch_rng(numbers.seed, numbers.step, numbers.rank, micro)
        model.zero_grad(set_to_none=True)
        with _watched(model, finding), autocast(precision, device):
            loss = task.loss(model, on_device, rng).mean
        finding.loss = loss.item()
        if loss.isfinite():
            loss.backward()
            named = [(name, p.grad) for name, p in model.named_parameters() if p.grad is not None]
            finding.norms = norm_by_stage({name: gradient.norm().item() for name, gradient in named})
        findings.append(finding)
    return findings


@contextmanager
def _watched(model: nn.Module, finding: Finding) -> Iterator[None]:
    """Examine the model's input, and the output of each module, in the forward pass."""

    def examine(name: str, output: Any) -> None:
        if finding.module or not isinstance(output, Tensor) or not output.is_floating_point():
            return
        finite = output.isfinite()
        greatest = output.where(finite, 0.0).abs().max().item() if output.numel() else 0.0
        if greatest > finding.greatest:
            finding.greatest, finding.where = greatest, name
        if not finite.all():
            finding.module = name
            if len(output) == finding.size:
                finding.places = (~finite.flatten(1).all(dim=1)).nonzero().flatten().tolist()

    def examine_input(_model: nn.Module, inputs: tuple[Any, ...]) -> None:
        for one in inputs:
            if isinstance(one, Tensor) and one.is_floating_point() and one.numel():
                values = one.where(one.isfinite(), 0.0).abs()
                finding.greatest = max(finding.greatest, values.max().item())

    hooks: list[Any] = [model.register_forward_pre_hook(examine_input)]
    hooks += [
        module.register_forward_hook(lambda _module, _inputs, output, name=name: examine(name, output))
        for name, module in model.named_modules()
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
