"""One update: micro-batches in, new weights out. Reads top to bottom; nothing here waits for the device."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from hornet_train.data.address import batch_rng, device_seed
from hornet_train.data.collate import Batch
from hornet_train.engine.distributed import World
from hornet_train.engine.precision import PrecisionName, autocast
from hornet_train.engine.state import TrainState
from hornet_train.engine.task import Task
from hornet_train.optim.optimizers import set_learning_rate


@dataclass(frozen=True)
class StepResult:
    """Left on the device.

    Attributes:
        loss_sum: this rank's sum of the loss over its images, 0-d.
        grad_norm: the global gradient norm before clipping, 0-d.
        skipped: 1 where fp16 overflowed, the loss scale was halved and the weights kept, else 0; 0-d.
    """

    loss_sum: Tensor
    grad_norm: Tensor
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

    Args:
        state: what is updated.
        network: the state's model as it is trained: under DDP, compiled.
        micro_batches: this rank's; as many as `sizes`.
        sizes: images each micro-batch counts for; 0 for the stand-in of a rank that has none.
        step_size: images of the step over all ranks. A micro-batch's mean loss has weight size / step_size,
            so the gradient is that of the mean over the step however it was cut up, also in the shorter
            last step of an epoch.
        precision: with fp16 a step whose gradient overflows changes no weight; the schedule goes on.
        clip_grad: the greatest norm of the whole gradient; None does not clip.
    """
    set_learning_rate(state.optimizer, learning_rate)
    loss_sum = torch.zeros((), device=world.device)
    for micro, (size, batch) in enumerate(zip(sizes, micro_batches, strict=True)):
        torch.manual_seed(device_seed(seed, state.step, world.rank, micro))
        rng = batch_rng(seed, state.step, world.rank, micro)
        with _synchronising(network, last=micro == len(sizes) - 1):
            with autocast(precision, world.device):
                loss = task.loss(network, batch, rng)
            weighted = loss * (size / step_size * world.size)  # DDP takes the mean over the ranks
            state.scaler.scale(weighted).backward()
        loss_sum += loss.detach() * size
    state.scaler.unscale_(state.optimizer)
    parameters = [p for group in state.optimizer.param_groups for p in group["params"] if p.grad is not None]
    grad_norm = get_total_norm([p.grad for p in parameters if p.grad is not None])
    if clip_grad is not None:
        clip_grads_with_norm_(parameters, clip_grad, grad_norm)
    state.scaler.step(state.optimizer)
    state.scaler.update()
    state.optimizer.zero_grad(set_to_none=True)
    if state.average is not None:
        state.average.update(state.step)
    state.step += 1
    skipped = (~grad_norm.isfinite()).float() if precision == "fp16" else torch.zeros_like(grad_norm)
    return StepResult(loss_sum, grad_norm, skipped)


def _synchronising(network: nn.Module, *, last: bool) -> AbstractContextManager[object]:
    """DDP adds the ranks' gradients up once a step, in the last micro-batch's backward pass."""
    if isinstance(network, DistributedDataParallel) and not last:
        return network.no_sync()
    return nullcontext()
