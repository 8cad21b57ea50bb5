"""One process or many: ranks, devices and the few collectives that the loop needs."""

from __future__ import annotations

import atexit
import gc
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from hornet_train.engine.launched import launch_fault, launched_world_size
from hornet_train.engine.rendezvous import fresh_store
from hornet_train.engine.watchdog import SILENCE_SECONDS, NoWatchdog, PeerWatchdog, Store, Watchdog
from hornet_train.errors import DataError, PeerError, SampleError, UserError
from hornet_train.track.durable_files import DISK_PROGRESS

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """This process among the processes of a run.

    Attributes:
        rank: 0 .. size - 1; rank 0 writes files and messages.
        size: number of processes.
        device: where this process computes.
        watchdog: receives reports of how far this process is, and ends a group that hangs.
    """

    rank: int
    size: int
    device: torch.device
    watchdog: Watchdog = field(default_factory=NoWatchdog, compare=False)

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    @property
    def is_distributed(self) -> bool:
        return self.size > 1

    def barrier(self) -> None:
        if self.is_distributed:
            dist.barrier()

    def all_reduce(self, tensor: Tensor, how: Literal["sum", "max"] = "sum") -> None:
        """Reduce to the sum or the greatest value over the ranks, in place."""
        if self.is_distributed:
            dist.all_reduce(tensor, dist.ReduceOp.MAX if how == "max" else dist.ReduceOp.SUM)

    def broadcast(self, value: T) -> T:
        """Rank 0's value, on every rank. Any picklable value; only ever sent between our own processes."""
        if not self.is_distributed:
            return value
        box: list[Any] = [value]
        dist.broadcast_object_list(box, src=0, device=self.device if self.device.type == "cuda" else None)
        received: T = box[0]
        return received

    def on_main(self, action: Callable[[], T]) -> T:
        """Run `action` on rank 0; returns its result on every rank. A UserError is raised on every rank."""
        outcome: T | UserError | None = None
        if self.is_main:
            try:
                outcome = action()
            except UserError as error:
                outcome = error
        outcome = self.broadcast(outcome)
        if isinstance(outcome, UserError):
            raise outcome
        return cast(T, outcome)

    def on_all_ranks(self, action: Callable[[], T]) -> T:
        """Run `action` on every rank; returns this rank's result once all have finished.

        Raises:
            UserError: that of any rank, on every rank, so that none waits for one that has ended.
        """
        result: T | None = None
        failure: UserError | None = None
        try:
            result = action()
        except UserError as error:
            if not self.is_distributed:
                raise
            failure = error
        if self.is_distributed:
            failures = [(rank, one) for rank, one in enumerate(self.gather(failure)) if one is not None]
            if len(failures) == self.size:
                raise failures[0][1]
            for rank, one in failures:
                kind = DataError if isinstance(one, SampleError) else type(one)
                raise kind(f"rank {rank}: {one}")
        return cast(T, result)

    def same_on_all_ranks(self, value: object) -> bool:
        """Whether every rank has the same value."""
        return all(other == value for other in self.gather(value))

    def gather(self, value: T) -> list[T]:
        """All-gather: every rank's value, in the order of the ranks, on every rank. Any picklable value."""
        if not self.is_distributed:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def broadcast_buffers(self, model: nn.Module) -> None:
        """Copy rank 0's buffers to every rank: the running statistics of batch norm differ until DDP's next
        forward pass."""
        if self.is_distributed:
            for buffer in model.buffers():
                dist.broadcast(buffer, src=0)

    def wrap(self, model: nn.Module, *, find_unused_parameters: bool = False) -> nn.Module:
        """The model under DDP; for one process the model itself."""
        if not self.is_distributed:
            return model
        return DistributedDataParallel(
            model,
            device_ids=[self.device.index] if self.device.type == "cuda" else None,
            find_unused_parameters=find_unused_parameters,
            gradient_as_bucket_view=True,
        )


def choose_device(kind: Literal["auto", "cpu", "cuda"]) -> torch.device:
    """The device of this process: the GPU of its local rank, or the CPU.

    Raises:
        ValueError: there is no GPU for this process.
    """
    if kind == "cpu" or (kind == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if local_rank >= count:
        raise ValueError(
            f"process {local_rank} of this node has no GPU of its own: torch finds {count} here "
            "(start at most as many processes a node, or dist=cpu)"
        )
    return torch.device("cuda", local_rank)


@contextmanager
def distributed(
    device: torch.device, *, backend: Literal["auto", "nccl", "gloo"], timeout_minutes: float
) -> Iterator[World]:
    """Join the group that torchrun describes in the environment, if any, and leave it at the end."""
    if device.type == "cuda":
        torch.cuda.set_device(device)
    size = launched_world_size()
    if size == 1:
        yield World(rank=0, size=1, device=device)
        return
    chosen = ("nccl" if device.type == "cuda" else "gloo") if backend == "auto" else backend
    timeout = timedelta(minutes=timeout_minutes + 1)  # longer than the watchdog needs to report a hang
    try:
        with _group(chosen, device, timeout) as (rank, size, store):
            watchdog = PeerWatchdog(
                store, rank, size, 60 * timeout_minutes, other_progress=lambda: DISK_PROGRESS.chunks
            )
            try:
                yield World(rank=rank, size=size, device=device, watchdog=watchdog)
            finally:
                watchdog.close()
    except RuntimeError as error:
        if "EADDRINUSE" in str(error):
            port = os.environ.get("MASTER_PORT")
            raise launch_fault(f"MASTER_PORT={port} is in use by another program") from error
        if not isinstance(error, dist.DistError) and "gloo" not in str(error).lower():
            raise
        rank = int(os.environ["RANK"])
        raise PeerError(rank, str(error).strip().splitlines()[0]) from error


@contextmanager
def _group(backend: str, device: torch.device, timeout: timedelta) -> Iterator[tuple[int, int, Store]]:
    """The group of all processes: this one's rank, their number, and a second connection to their store."""
    shared, rank, size = next(iter(rendezvous("env://", timeout=timeout)))
    store = fresh_store(shared, rank, size, timeout)
    watchdog_store = store.clone()
    watchdog_store.set_timeout(timedelta(seconds=SILENCE_SECONDS))
    dist.init_process_group(
        backend,
        store=store,
        rank=rank,
        world_size=size,
        timeout=timeout,
        device_id=device if backend == "nccl" else None,
    )
    atexit.unregister(_free_groups)
    atexit.register(_free_groups)
    try:
        yield rank, size, watchdog_store
    finally:
        dist.destroy_process_group()


def _free_groups() -> None:
    """Free the groups that nothing uses any more, which joins their threads.

    Gloo's threads release tensors after a collective has returned, and need Python for that: a late one
    aborts a process that is ending.
    """
    gc.collect()
