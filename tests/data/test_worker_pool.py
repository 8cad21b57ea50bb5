"""Reading processes that are killed while they read: the batches are those that nobody disturbs."""

from __future__ import annotations

import io
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from hornet_train.data import worker_pool
from hornet_train.data.address import sample_rng
from hornet_train.data.loader import EvalLoader, Loaded, LoaderSettings, TrainLoader
from hornet_train.data.order import Address, EpochPlan
from hornet_train.data.sources.source import Encoded, Fields
from hornet_train.data.stream_plan import StreamPlan
from hornet_train.data.streaming import StreamEvalLoader, StreamTrainLoader
from hornet_train.data.worker_pool import RestartingLoader
from hornet_train.errors import DataError, SampleError
from hornet_train.tasks.classification.samples import EvalSamples, TrainSamples
from hornet_train.tasks.classification.transforms import EvalTransform, TrainTransform

PLAN = EpochPlan(31, 8, 3, rank=0, world_size=1, seed=4, drop_last=False)
SETTINGS = LoaderSettings(torch.device("cpu"), workers=2)


@pytest.fixture(autouse=True)
def _as_in_a_command_but_soon(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No handler that other tests' loaders left; torch looks after its workers twice a second."""
    monkeypatch.setattr(_MultiProcessingDataLoaderIter._try_get_data, "__defaults__", (0.5,))
    before = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGCHLD, before)


@dataclass(frozen=True)
class Deadly:
    """Who reads one of some samples is killed, if it is the first to; None: nobody is."""

    marks: Path | None
    deadly: tuple[int, ...] = ()
    always: bool = False

    def kill(self, image: int) -> None:
        if self.marks is None or image not in self.deadly:
            return
        mark = self.marks / str(image)
        if self.always or not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class Samples:
    """Storage and samples in one: each tells its address and a draw from it; sample 6 is damaged."""

    deaths: Deadly

    def __len__(self) -> int:
        return 31

    ragged: ClassVar[tuple[str, ...]] = ("rows",)

    def read(self, index: int) -> Fields:
        self.deaths.kill(index)
        if index == 6:
            raise SampleError("6.jpg", "it is damaged")
        return {"number": index}

    def decode(self, fields: Fields) -> int:
        number: int = fields["number"]
        return number

    def nbytes(self, decoded: int) -> int:  # noqa: ARG002
        return 768

    def make(self, address: Address, decoded: int) -> dict[str, Any]:
        draw = sample_rng(3, address.epoch, address.index, address.repeat).random()
        return {
            "image": torch.full((16, 16, 3), decoded, dtype=torch.uint8).permute(2, 0, 1),
            "at": torch.tensor([address.epoch, address.index, decoded]),
            "draw": draw,
            "rows": torch.full((decoded, 2), decoded),
        }


@dataclass(frozen=True)
class Shards:
    """Four shards of as many coloured pictures."""

    deaths: Deadly
    lengths: tuple[int, ...] = (12, 12, 12, 12)
    classes: tuple[str, ...] = ("a", "b")
    fingerprint: str = ""

    def read(self, shard: int, start: int) -> Iterator[Fields]:
        for at in range(start, self.lengths[shard]):
            self.deaths.kill(100 * shard + at)
            file = io.BytesIO()
            Image.new("RGB", (6, 6), (shard, at, 7)).save(file, "PNG")
            yield {"image": Encoded(file.getvalue(), f"{shard}, {at}"), "label": at % 2}


def train_loader(samples: Samples) -> TrainLoader:
    return TrainLoader(samples, samples, PLAN, SETTINGS)


def same(one: list[Loaded], other: list[Loaded]) -> None:
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert a.bad == b.bad
        torch.testing.assert_close(a.batch, b.batch, rtol=0, atol=0)


def test_training_goes_on_with_the_batch_that_was_not_delivered(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def batches(deaths: Deadly) -> list[Loaded]:
        return list(train_loader(Samples(deaths)).batches(1, 7))

    same(batches(Deadly(tmp_path, (3, 20))), batches(Deadly(None)))
    assert {path.name for path in tmp_path.iterdir()} == {"3", "20"}  # a worker each
    assert 1 <= caplog.text.count("was killed by SIGKILL, as the system does when memory runs out") <= 2


def test_a_stream_goes_on_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    transform = TrainTransform(4, scale=(0.5, 1.0), ratio=(1.0, 1.0), hflip=0.5)
    plan = StreamPlan((12,) * 4, 8, 4, rank=0, world_size=1, workers=2, seed=1)

    def batches(deaths: Deadly) -> list[Loaded]:
        loader = StreamTrainLoader(Shards(deaths), TrainSamples(transform, 1), plan, SETTINGS, block=5)
        return list(loader.batches(1, 2 * plan.steps_per_epoch))

    same(batches(Deadly(tmp_path, (7, 207))), batches(Deadly(None)))
    assert caplog.text.count("others read on") >= 1


def test_an_evaluation_still_sees_each_sample_once(tmp_path: Path) -> None:
    def batches(deaths: Deadly) -> list[Loaded]:
        return list(EvalLoader(Samples(deaths), Samples(deaths), SETTINGS, on_bad="skip").batches(0, 1, 4))

    disturbed = batches(Deadly(tmp_path, (9,)))
    same(disturbed, batches(Deadly(None)))
    seen = torch.cat([loaded.batch["at"][:, 1] for loaded in disturbed]).tolist()
    assert sorted(seen) == [i for i in range(31) if i != 6]


def test_a_streamed_evaluation_cannot_and_says_so(tmp_path: Path) -> None:
    shards = Shards(Deadly(tmp_path, (203,)))
    loader = StreamEvalLoader(shards, EvalSamples(EvalTransform(4, 1.0)), SETTINGS)
    with pytest.raises(DataError, match=r"killed by SIGKILL.*, and shards are read in one go: fewer"):
        list(loader.batches(0, 1, 4))


def test_who_always_dies_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_pool, "MOST_DEATHS", 1)
    loader = train_loader(Samples(Deadly(tmp_path, (3,), always=True)))
    with pytest.raises(DataError, match="2 times in a row: fewer") as raised:
        list(loader.batches(0, 4))
    assert raised.value.of_one_rank


class DeadAtOnce(DataLoader[int]):
    """Its first worker has died before anyone can look for it."""

    def __iter__(self) -> Iterator[int]:  # type: ignore[override]
        batches = super().__iter__()
        assert isinstance(batches, _MultiProcessingDataLoaderIter)
        worker = batches._workers[0]
        worker.kill()
        worker.join()
        return batches


def test_who_died_at_once_is_found(caplog: pytest.LogCaptureFixture) -> None:
    def begin(first: int) -> DataLoader[int]:
        kind = DataLoader if caplog.records else DeadAtOnce
        return kind(range(first, 4), batch_size=None, num_workers=1)  # type: ignore[arg-type]

    assert list(RestartingLoader(begin, resumable=True)) == [0, 1, 2, 3]
    assert "was killed by SIGKILL" in caplog.text


def test_an_error_of_the_code_is_no_death() -> None:
    class Wrong(Samples):
        def read(self, index: int) -> Fields:
            raise RuntimeError(f"a bug at {index}")

    with pytest.raises(RuntimeError, match="a bug"):
        list(train_loader(Wrong(Deadly(None))).batches(0, 4))
