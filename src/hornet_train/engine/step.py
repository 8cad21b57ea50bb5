"""One update: micro-batches in, new weights out. Nothing here waits for the device."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from hornet_train.data.address import batch_rng, device_seed
from hornet_train.data.batch import Batch
from hornet_train.engine.distributed import World
from hornet_train.engine.out_of_memory import fits
from hornet_train.engine.precision import PrecisionName, autocast
from hornet_train.engine.sharding import is_sharded, set_gradient_sync
from hornet_train.engine.state import TrainState
from hornet_train.engine.task import Task
from hornet_train.optim.optimizers import set_learning_rate
from hornet_train.optim.shards import local


@dataclass(frozen=True)
class StepResult:
    """The numbers of a step, as tensors on the device.

    Attributes:
        loss: the mean loss of the step over all ranks, times `weight`, 0-d.
        weight: what the loss is a mean over, on all ranks: 0-d, or the number of the step's images.
        parts: the named parts of the loss, each times `weight`, 0-d.
        micro_losses: the mean loss of each of this rank's micro-batches, (micro-batches,).
        grad_norm: the global gradient norm before clipping, 0-d.
        norms: the norm of each parameter's gradient, (parameters,).
        names: the names of these parameters.
        skipped: 1 if the loss or the gradient was not finite and nothing was changed, else 0; 0-d.
    """

    loss: Tensor
    weight: Tensor | int
    parts: dict[str, Tensor]
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

    A step whose loss or gradient is not finite on any rank changes nothing on all of them: no weights, no
    moments, no average and no running statistics. Only `state.step` is increased.

    Args:
        state: is updated.
        network: the state's model as it is trained: compiled, under DDP.
        micro_batches: those of this rank, as many as `sizes`.
        sizes: images that each micro-batch counts for; 0 for a stand-in, which takes part in collectives
            but changes neither the gradient nor running statistics. As many on every rank.
        step_size: images of the step over all ranks. The gradient is that of the mean loss over the step, by
            the losses' weights. It does not depend on the split into micro-batches.
        clip_grad: the greatest norm of the whole gradient; None does not clip.
    """
    set_learning_rate(state.optimizer, learning_rate)
    buffers_before = [buffer.clone() for buffer in state.model.buffers()]
    means, weights = _accumulate(
        *(state, network, task, micro_batches, sizes),
        step_size=step_size,
        seed=seed,
        precision=precision,
        world=world,
    )
    totals, weight = _totals(means, weights, step_size, world)
    state.scaler.unscale_(state.optimizer)
    names, gradients = _gradients(state)
    if isinstance(weight, Tensor):  # known only now; the micro-batches were divided by step_size instead
        torch._foreach_mul_(gradients, torch.where(weight > 0, step_size / weight, 0.0))
    norms = _norms(gradients, world, sharded=is_sharded(state.model))
    grad_norm = norms.norm()
    if clip_grad is not None:
        torch._foreach_mul_(gradients, (clip_grad / (grad_norm + 1e-6)).clamp(max=1.0))
    skipped = (~(totals["loss"].isfinite() & grad_norm.isfinite())).float()
    _step_unless(skipped, state.optimizer)
    state.scaler.update()
    state.optimizer.zero_grad(set_to_none=True)
    for buffer, before in zip(state.model.buffers(), buffers_before, strict=True):
        buffer.copy_(torch.where(skipped.bool(), before, buffer))
    if state.average is not None:
        state.average.update(state.step, unless=skipped)
    state.step += 1
    micro_losses = torch.stack([one["loss"] for one in means])
    return StepResult(totals.pop("loss"), weight, totals, micro_losses, grad_norm, norms, names, skipped)


def try_batch(
    state: TrainState, network: nn.Module, task: Task, batch: Batch, precision: PrecisionName, world: World
) -> None:
    """Forward and backward of a batch, of which nothing remains but the memory that they take.

    Every rank together: a sharded model is gathered.

    Raises:
        DoesNotFit: there is not enough memory.
    """
    sharded = is_sharded(state.model)
    set_gradient_sync(state.model, now=True)
    with fits(batch), _reduce_gradients(network, now=sharded), _keep_buffers(state.model, stand_in=True):
        with autocast(precision, world.device):
            loss = task.loss(network, batch, batch_rng(0, 0, 0, 0))
        state.scaler.scale(loss.mean).backward()
    state.optimizer.zero_grad(set_to_none=True)


def _accumulate(
    state: TrainState,
    network: nn.Module,
    task: Task,
    micro_batches: Iterable[Batch],
    sizes: list[int],
    *,
    step_size: int,
    seed: int,
    precision: PrecisionName,
    world: World,
) -> tuple[list[dict[str, Tensor]], list[Tensor | int]]:
    """Add the gradients of all micro-batches up; see `train_step`.

    Returns:
        The mean `loss` and the mean of each part of each micro-batch, without graphs; and its weight.
    """
    means: list[dict[str, Tensor]] = []
    weights: list[Tensor | int] = []
    for micro, (size, batch) in enumerate(zip(sizes, micro_batches, strict=True)):
        torch.manual_seed(device_seed(seed, state.step, world.rank, micro))
        rng = batch_rng(seed, state.step, world.rank, micro)
        last = micro == len(sizes) - 1
        set_gradient_sync(state.model, now=last)
        with (
            fits(batch),
            _reduce_gradients(network, now=last),
            _keep_buffers(state.model, stand_in=size == 0),
        ):
            with autocast(precision, world.device):
                loss = task.loss(network, batch, rng)
            weight = size if loss.weight is None else loss.weight.detach().float() * (size > 0)
            weighted = loss.mean * (weight / step_size * world.size)  # DDP takes the mean over the ranks
            state.scaler.scale(weighted).backward()
        means.append({k: v.detach().float() for k, v in {"loss": loss.mean, **loss.parts}.items()})
        weights.append(weight)
    return means, weights


def _totals(
    means: list[dict[str, Tensor]], weights: list[Tensor | int], step_size: int, world: World
) -> tuple[dict[str, Tensor], Tensor | int]:
    """The sums of weight times mean, of `loss` and of each part, and the sum of weights, over the step's
    micro-batches on all ranks.

    Raises:
        ValueError: the micro-batches' losses do not have the same parts, or only some have a weight.
    """
    given = [weight for weight in weights if isinstance(weight, Tensor)]
    if len({tuple(one) for one in means}) > 1 or len(given) not in (0, len(weights)):
        raise ValueError("a task's losses must always have the same parts, and either all or none a weight")
    sums = [
        torch.stack([one[name] * weight for one, weight in zip(means, weights, strict=True)]).sum()
        for name in means[0]
    ]
    packed = torch.stack([*sums, torch.stack(given).sum()] if given else sums)
    world.all_reduce(packed)
    total = packed[-1] if given else step_size
    return dict(zip(means[0], packed.unbind(), strict=False)), total


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
    """The norm of each parameter's gradient, (parameters,); of a sharded one over all its shards."""
    norms = torch.stack(torch._foreach_norm(gradients))
    if sharded:
        norms.square_()
        world.all_reduce(norms)
        norms.sqrt_()
    return norms


def _step_unless(skipped: Tensor, optimizer: Optimizer) -> None:
    """Make the optimizer's step unless `skipped` is 1. A fused optimizer reads it on the device; for others
    the host waits."""
    if optimizer.param_groups[0].get("fused"):
        optimizer.found_inf = skipped  # type: ignore[attr-defined]  # as torch's GradScaler does
        try:
            optimizer.step()
        finally:
            del optimizer.found_inf  # type: ignore[attr-defined]
    elif not skipped:
        optimizer.step()


@contextmanager
def _keep_buffers(model: nn.Module, *, stand_in: bool) -> Iterator[None]:
    """Keep a stand-in out of the running statistics of batch norm: its images have no weight in the step."""
    before = [buffer.clone() for buffer in model.buffers()] if stand_in else []
    yield
    # after the backward pass, which may need the buffers unchanged, and may run parts of the model again
    for buffer, value in zip(model.buffers() if stand_in else (), before, strict=True):
        buffer.copy_(value)


def _reduce_gradients(network: nn.Module, *, now: bool) -> AbstractContextManager[object]:
    """Whether DDP adds the ranks' gradients up in this backward pass: once a step, in the last one."""
    if isinstance(network, DistributedDataParallel) and not now:
        return network.no_sync()
    return nullcontext()
