"""One process or many: ranks, devices and the few collectives the loop needs."""

from __future__ import annotations

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

from hornet_train.engine.rendezvous import fresh_store
from hornet_train.engine.watch import SILENT, NoWatch, PeerWatch, Store, Watch
from hornet_train.errors import DataError, PeerError, SampleError, UserError
from hornet_train.track.files import TRAFFIC

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """This process among its peers.

    Attributes:
        rank: 0 .. size - 1; rank 0 writes files and speaks.
        size: processes in all.
        device: where this process computes.
        watch: told how far this process is; it tells where the group hangs.
    """

    rank: int
    size: int
    device: torch.device
    watch: Watch = field(default_factory=NoWatch, compare=False)

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
        """Sum or greatest value over the ranks, in place."""
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
        """What `action` gives on rank 0, on every rank; a UserError there is raised on every rank."""
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

    def together(self, action: Callable[[], T]) -> T:
        """What `action` gives on this rank, when all have done it.

        Raises:
            UserError: that of any rank, on every rank, so that none waits for one that has gone.
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
            told = [(rank, fault) for rank, fault in enumerate(self.gather(failure)) if fault is not None]
            if len(told) == self.size:
                raise told[0][1]
            for rank, fault in told:
                kind = DataError if isinstance(fault, SampleError) else type(fault)
                raise kind(f"rank {rank}: {fault}")
        return cast(T, result)

    def agree(self, value: object) -> bool:
        """Whether every rank has the same value."""
        return all(other == value for other in self.gather(value))

    def gather(self, value: T) -> list[T]:
        """Every rank's value, in the order of the ranks, on every rank."""
        if not self.is_distributed:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def share_buffers(self, model: nn.Module) -> None:
        """Give every rank rank 0's buffers: the running statistics of batch norm, which DDP shares later."""
        if self.is_distributed:
            for buffer in model.buffers():
                dist.broadcast(buffer, src=0)

    def wrap(self, model: nn.Module, *, find_unused_parameters: bool = False) -> nn.Module:
        """The model under DDP, or itself for one process."""
        if not self.is_distributed:
            return model
        return DistributedDataParallel(
            model,
            device_ids=[self.device.index] if self.device.type == "cuda" else None,
            find_unused_parameters=find_unused_parameters,
            gradient_as_bucket_view=True,
        )


def launched_world_size() -> int:
    """How many processes torchrun started; 1 without torchrun."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def may_restart() -> bool:
    """Whether torchrun starts the processes anew when one is lost."""
    return int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0")) > 0


def choose_device(kind: Literal["auto", "cpu", "cuda"]) -> torch.device:
    """The device of this process: the GPU of its local rank, or the CPU.

    Raises:
        ValueError: a GPU is asked for that is not there.
    """
    if kind == "cpu" or (kind == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if local_rank >= count:
        raise ValueError(
            f"process {local_rank} of this node has no GPU of its own: torch sees {count} "
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
    timeout = timedelta(minutes=timeout_minutes + 1)  # longer than a hang takes to be noticed and told
    try:
        with _group(chosen, device, timeout) as (rank, size, talk):
            watch = PeerWatch(talk, rank, size, 60 * timeout_minutes, also=lambda: TRAFFIC.pieces)
            try:
                yield World(rank=rank, size=size, device=device, watch=watch)
            finally:
                watch.close()
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and "gloo" not in str(error).lower():
            raise
        rank = int(os.environ["RANK"])
        raise PeerError(rank, str(error).strip().splitlines()[0]) from error


@contextmanager
def _group(backend: str, device: torch.device, timeout: timedelta) -> Iterator[tuple[int, int, Store]]:
    """The group of all processes: this one's rank, how many there are, and a connection to their store."""
    shared, rank, size = next(iter(rendezvous("env://", timeout=timeout)))
    store = fresh_store(shared, rank, size, timeout)
    talk = store.clone()
    talk.set_timeout(timedelta(seconds=SILENT))
    dist.init_process_group(
        backend,
        store=store,
        rank=rank,
        world_size=size,
        timeout=timeout,
        device_id=device if backend == "nccl" else None,
    )
    try:
        yield rank, size, talk
    finally:
        dist.destroy_process_group()
