"""The size of gnConv's gating products: the first thing to look at when a training diverges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hornet_train.models.gnconv import GnConv
from hornet_train.models.hornet import HorNet


class GateMonitor:
    """The largest magnitude of a gating product in each stage, of the forward passes in training mode.

    The products are the p_{k+1} of eq. (3.3), of every order: the inputs of gnConv's `pws` and `proj_out`.
    The peaks stay on the device, so that nothing waits for them. Once a product was NaN, so is its stage's
    peak. A copy of the model has peaks of its own. TorchScript does not take a model with a monitor.

    Args:
        model: the bare model, on its device; compile it afterwards.

    Attributes:
        names: one for each value of `read`: gate_product_0 .. for the stages, counted as in the state dict.

    Raises:
        ValueError: the model has no gnConv.
    """

    def __init__(self, model: HorNet) -> None:
        self.peaks = torch.zeros(len(model.stages), device=next(model.parameters()).device)
        self.names = tuple(f"gate_product_{stage}" for stage in range(len(model.stages)))
        self._hooks = [
            inner.register_forward_pre_hook(_Watch(self.peaks[stage]))
            for stage, blocks in enumerate(model.stages)
            for module in blocks.modules()
            if isinstance(module, GnConv)
            for inner in (*module.pws, module.proj_out)
        ]
        if not self._hooks:
            raise ValueError("the model has no gnConv, whose gating products could be watched")

    def read(self) -> Tensor:
        """The largest magnitude of each stage since `restart`, (stages,); a copy."""
        return self.peaks.clone()

    def restart(self, greatest: Mapping[str, float]) -> None:
        """Forget what was seen. Values in `greatest`, by name, count as seen; others are 0."""
        for stage, name in enumerate(self.names):
            self.peaks[stage].fill_(greatest.get(name, 0.0))

    def close(self) -> None:
        """Watch no more."""
        for hook in self._hooks:
            hook.remove()


@dataclass
class _Watch:
    """A hook; an object and no closure, so that copies and pickles of the model have one each."""

    peak: Tensor  # a view of the monitor's

    def __call__(self, module: nn.Module, inputs: tuple[Tensor]) -> None:
        if module.training:
            greatest = inputs[0].detach().abs().amax().to(self.peak.dtype)
            self.peak.copy_(torch.maximum(self.peak, greatest))
