"""One update: micro-batches in, new weights out. Reads top to bottom; nothing here waits for the device."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from hornet_train.data.address import batch_rng, device_seed
from hornet_train.data.collate import Batch
from hornet_train.engine.distributed import World
from hornet_train.engine.precision import PrecisionName, autocast
from hornet_train.engine.sharding import is_sharded, synchronise
from hornet_train.engine.state import TrainState
from hornet_train.engine.task import Task
from hornet_train.optim.optimizers import set_learning_rate
from hornet_train.optim.shards import local


@dataclass(frozen=True)
class StepResult:
    """Left on the device.

    Attributes:
        loss: sum of the loss over the step's images, of all ranks, 0-d.
        micro_losses: the mean loss of each of this rank's micro-batches, (micro-batches,).
        grad_norm: the global gradient norm before clipping, 0-d.
        norms: that of each parameter's gradient, (parameters,).
        names: of these parameters.
        skipped: 1 where the loss or the gradient was no number and nothing was changed, else 0; 0-d.
    """

    loss: Tensor
    micro_losses: Tensor
    grad_norm: Tensor
    norms: Tensor
    names: tuple[str, ...]
    skipped: Tensor


def train_step(
    state: TrainState,
    network: nn.Module,
    task: Task,
    micro_batches: Iterable[Batch],
    sizes: list[int],
    *,
    step_size: int,
    learning_rate: float,
    seed: int,
    precision: PrecisionName,
    clip_grad: float | None,
    world: World,
) -> StepResult:
    """Forward and backward of this rank's micro-batches, then one clipped update of weights and average.

    A step whose loss or gradient is no number on any rank changes nothing on all of them: not weights, nor
    moments, nor average, nor running statistics. Only the schedule goes on.

    Args:
        state: what is updated.
        network: the state's model as it is trained: under DDP, compiled.
        micro_batches: this rank's; as many as `sizes`.
        sizes: images of each micro-batch, 0 for a stand-in, which changes nothing; as many on every rank.
        step_size: images of the step over all ranks. A micro-batch's mean loss has weight size / step_size,
            so the gradient is that of the mean over the step however it was cut up, also in the shorter
            last step of an epoch.
        clip_grad: the greatest norm of the whole gradient; None does not clip.
    """
    set_learning_rate(state.optimizer, learning_rate)
    losses: list[Tensor] = []
    statistics = [buffer.clone() for buffer in state.model.buffers()]
    for micro, (size, batch) in enumerate(zip(sizes, micro_batches, strict=True)):
        torch.manual_seed(device_seed(seed, state.step, world.rank, micro))
        rng = batch_rng(seed, state.step, world.rank, micro)
        synchronise(state.model, now=micro == len(sizes) - 1)
        with _synchronising(network, last=micro == len(sizes) - 1), _leaving_no_trace(state.model, size):
            with autocast(precision, world.device):
                loss = task.loss(network, batch, rng)
            weighted = loss * (size / step_size * world.size)  # DDP takes the mean over the ranks
            state.scaler.scale(weighted).backward()
        losses.append(loss.detach().float())
    loss_sum = torch.stack([loss * size for loss, size in zip(losses, sizes, strict=True)]).sum()
    world.all_reduce(loss_sum)
    state.scaler.unscale_(state.optimizer)
    names, gradients = _gradients(state)
    norms = _norms(gradients, world, sharded=is_sharded(state.model))
    grad_norm = norms.norm()
    if clip_grad is not None:
        torch._foreach_mul_(gradients, (clip_grad / (grad_norm + 1e-6)).clamp(max=1.0))
    skipped = (~(loss_sum.isfinite() & grad_norm.isfinite())).float()
    _step_unless(skipped, state.optimizer)
    state.scaler.update()
    state.optimizer.zero_grad(set_to_none=True)
    for buffer, before in zip(state.model.buffers(), statistics, strict=True):
        buffer.copy_(torch.where(skipped.bool(), before, buffer))
    if state.average is not None:
        state.average.update(state.step, unless=skipped)
    state.step += 1
    return StepResult(loss_sum, torch.stack(losses), grad_norm, norms, names, skipped)


def _gradients(state: TrainState) -> tuple[tuple[str, ...], list[Tensor]]:
    """Names of the parameters that have a gradient, and this rank's part of each."""
    pairs = [
        (name, local(parameter.grad))
        for group in state.optimizer.param_groups
        for name, parameter in zip(group["names"], group["params"], strict=True)
        if parameter.grad is not None
    ]
    return tuple(name for name, _ in pairs), [gradient for _, gradient in pairs]


def _norms(gradients: list[Tensor], world: World, *, sharded: bool) -> Tensor:
    """The norm of each whole gradient, (parameters,)."""
    norms = torch.stack(torch._foreach_norm(gradients))
    if sharded:
        norms.square_()
        world.all_reduce(norms)
        norms.sqrt_()
    return norms


def _step_unless(skipped: Tensor, optimizer: Optimizer) -> None:
    """The optimizer's step where `skipped` is 0. A fused one looks by itself, for others the host waits."""
    if optimizer.param_groups[0].get("fused"):
        optimizer.found_inf = skipped  # type: ignore[attr-defined]  # as torch's GradScaler tells it
        try:
            optimizer.step()
        finally:
            del optimizer.found_inf  # type: ignore[attr-defined]
    elif not skipped:
        optimizer.step()


@contextmanager
def _leaving_no_trace(model: nn.Module, size: int) -> Iterator[None]:
    """Keep a stand-in, which counts for 0 images, out of the running statistics of batch norm."""
    buffers = [] if size else list(model.buffers())
    before = [buffer.clone() for buffer in buffers]
    yield
    # after the backward pass, which may need the buffers as they are, and may run parts of the model again
    for buffer, value in zip(buffers, before, strict=True):
        buffer.copy_(value)


def _synchronising(network: nn.Module, *, last: bool) -> AbstractContextManager[object]:
    """DDP adds the ranks' gradients up once a step, in the last micro-batch's backward pass."""
    if isinstance(network, DistributedDataParallel) and not last:
        return network.no_sync()
    return nullcontext()
