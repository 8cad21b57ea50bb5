"""What a worker does: samples read, replaced and made, in groups; and how it starts and ends."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hornet_train.data.order import Address
from hornet_train.data.sources.source import Fields
from hornet_train.data.worker import GROUP, GROUP_BYTES, BadSample, grouped, make_samples
from hornet_train.errors import SampleError

SIZES = st.one_of(st.integers(0, 2 << 20), st.integers(0, 3 * GROUP_BYTES))


@given(st.lists(SIZES, max_size=60))
def test_no_more_is_decoded_than_a_group_may_hold(sizes: list[int]) -> None:
    decoded: list[int] = []

    def decoding() -> Iterator[int]:
        for size in sizes:
            decoded.append(size)
            yield size

    seen: list[int] = []
    last: list[int] = []
    for group in grouped(decoding(), int):
        assert group is last or not last  # the one before was emptied, its images can be freed
        last = group
        assert decoded == seen + group, "decoded ahead of the group"
        assert 1 <= len(group) <= GROUP
        assert sum(group[:-1]) < GROUP_BYTES
        seen += group
    assert seen == sizes


@dataclass(frozen=True)
class Numbers:
    """A sample is its number; some cannot be read, some cannot be decoded."""

    unread: tuple[int, ...] = ()
    damaged: tuple[int, ...] = ()
    log: list[str] = field(default_factory=list)
    ragged: ClassVar[tuple[str, ...]] = ()

    def read(self, index: int) -> Fields:
        if index in self.unread:
            raise SampleError(f"{index}", "cannot be read")
        return {"number": index}

    def decode(self, fields: Fields) -> int:
        number: int = fields["number"]
        if number in self.damaged:
            raise SampleError(f"{number}", "is damaged")
        self.log.append(f"decoded {number}")
        return number

    def nbytes(self, decoded: int) -> int:  # noqa: ARG002
        return 1

    def make(self, address: Address, decoded: int) -> dict[str, Any]:
        self.log.append(f"made {decoded}")
        return {"wanted": address.index, "found": decoded}


def test_a_spare_stands_in_for_what_cannot_be_read_or_decoded() -> None:
    numbers = Numbers(unread=(1, 9), damaged=(2, 8))
    addresses = [
        Address(0, 0, spares=(5,)),
        Address(0, 1, spares=(2, 5, 6)),
        Address(0, 2, spares=(1, 8, 9)),
        Address(0, 9),
    ]
    items = make_samples(numbers, addresses, numbers.read)
    assert items[0] == ({"wanted": 0, "found": 0, "index": 0}, [])
    unread, damaged = BadSample(1, "1", "cannot be read"), BadSample(2, "2", "is damaged")
    assert items[1] == ({"wanted": 1, "found": 5, "index": 5}, [unread, damaged])
    error, bad = items[2]
    assert isinstance(error, SampleError)
    assert error.where == "2", "not the sample that was asked for"
    assert [one.index for one in bad] == [2, 1, 8, 9]
    assert isinstance(items[3][0], SampleError)


def test_samples_are_decoded_in_groups_before_they_are_made() -> None:
    numbers = Numbers()
    make_samples(numbers, [Address(0, i) for i in range(GROUP + 2)], numbers.read)
    groups = (range(GROUP), range(GROUP, GROUP + 2))
    assert numbers.log == [f"{what} {i}" for group in groups for what in ("decoded", "made") for i in group]


WARM = """
import sys, numpy as np, torch
from hornet_train.images.policies import parse_policy
from hornet_train.tasks.classification.transforms import TrainTransform
policy = parse_policy("rand-m9-mstd0.5-inc1", (124, 116, 104), "bicubic")
transform = TrainTransform(32, policies=(policy,))
assert "numba" not in sys.modules, "imported by those who load no images"
transform.warm_up()
from numba.core.dispatcher import Dispatcher
import gc
kernels = [one for one in gc.get_objects() if isinstance(one, Dispatcher)]
loaded = sum(len(one.overloads) for one in kernels if one.py_func.__module__.startswith("hornet_train"))
image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (90, 60, 3)).astype(np.uint8))
for seed in range(300):
    transform(image.permute(2, 0, 1), np.random.default_rng(seed))
again = [one for one in gc.get_objects() if isinstance(one, Dispatcher)]
after = sum(len(one.overloads) for one in again if one.py_func.__module__.startswith("hornet_train"))
print(loaded, after)
"""


def test_once_warm_nothing_is_left_to_compile() -> None:
    """What a worker compiles or loads itself, every worker does, and keeps a copy of."""
    done = subprocess.run([sys.executable, "-c", WARM], capture_output=True, text=True, check=True)
    loaded, after = map(int, done.stdout.split())
    assert loaded == after >= 16


ABANDONED = """
import os, signal, sys, time
from torch.utils.data import DataLoader, Dataset
from hornet_train.data.worker import set_up_worker

class Endless(Dataset):
    def __len__(self): return 8
    def __getitem__(self, index):
        if index >= 2: time.sleep(1000)
        return os.getpid()

if __name__ == "__main__":
    batches = iter(DataLoader(Endless(), batch_size=None, num_workers=2, worker_init_fn=set_up_worker))
    workers = [int(next(batches)), int(next(batches))]
    if sys.argv[1] == "signalled" and os.fork() == 0:  # a stranger, as a launcher is
        [os.kill(worker, number) for worker in workers for number in (signal.SIGTERM, signal.SIGINT)]
        os._exit(0)
    time.sleep(0.5)
    states = [open(f"/proc/{worker}/stat").read().split(") ")[1][0] for worker in workers]
    print(*states, flush=True)
    raise SystemExit(3)
"""


@pytest.mark.parametrize("how", ["left", "signalled"])
def test_readers_outlive_a_group_s_signal_and_end_with_their_parent(how: str) -> None:
    done = subprocess.run([sys.executable, "-c", ABANDONED, how], capture_output=True, text=True, timeout=60)
    assert done.returncode == 3, done.stderr
    assert set(done.stdout.split()) <= {"S", "R"}, done.stdout


SIGNALLED = """
import os, signal, torch
from torch.utils.data import Dataset
import hornet_train.data.loader as loader
from hornet_train.data.worker import set_up_worker

def signalled(worker):
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
        os.kill(os.getpid(), number)
    set_up_worker(worker)

class One(Dataset):
    def __len__(self):
        return 1
    def __getitem__(self, index):
        return index

loader.set_up_worker = signalled
settings = loader.LoaderSettings(torch.device("cpu"), workers=1)
collate = lambda items: loader.CollatedBatch({"x": torch.tensor(items)}, {}, [])
what = {"dataset": One(), "collate_fn": collate}
print([batch.batch["x"].item() for batch in loader.load_batches(settings, lambda _: what)])
"""


def test_what_asks_to_stop_does_not_end_a_reader_that_starts() -> None:
    done = subprocess.run([sys.executable, "-c", SIGNALLED], capture_output=True, text=True, check=False)
    assert done.stdout == "[0]\n", done.stderr
