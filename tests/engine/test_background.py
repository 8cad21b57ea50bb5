"""Checkpoints written in the background of a training."""

import threading
import time

import pytest
import torch
from gpu import DEVICES

from hornet_train.engine import background
from hornet_train.engine.background import BackgroundSaver, SaveOutcome
from hornet_train.engine.checkpoint import CheckpointStore, read_checkpoint
from hornet_train.errors import CheckpointError


def state(value, width=5, device="cpu"):
    tied = torch.full((3, width, 2, 2), float(value)).contiguous(memory_format=torch.channels_last)
    tied = tied.to(device)
    return {
        "model": {"a": tied, "b": tied, "count": torch.tensor(value), "none": torch.zeros(0, 4)},
        "optimizer": {"a/exp_avg": torch.full((7,), float(value), dtype=torch.bfloat16, device=device)},
    }


def numbers(step):
    return {"step": step, "evaluated": 0, "best": None, "loss_scaler": {}}


class Blocked(CheckpointStore):
    """Begins to write when `go` is set."""

    def __init__(self, folder):
        super().__init__(folder, keep=9)
        self.go = threading.Event()

    def save(self, tensors, numbers):
        assert self.go.wait(60)
        return super().save(tensors, numbers)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("prepared", [False, True])
def test_a_checkpoint_has_the_values_of_the_time_of_the_save(tmp_path, prepared, device):
    store = Blocked(tmp_path)
    tensors, step_numbers = state(1, device=device), numbers(1)
    with BackgroundSaver(store) as saver:
        if prepared:
            saver.preallocate(tensors)
        saver.save(tensors, step_numbers)
        assert not list(tmp_path.iterdir())
        assert saver._copies["model"]["a"].is_pinned() == (device != "cpu")  # else no copy is asynchronous
        for tensor in (tensors["model"]["a"], tensors["model"]["count"], *tensors["optimizer"].values()):
            tensor.add_(1)  # the training goes on
        step_numbers["step"] = 2
        store.go.set()
        saver.save(tensors, step_numbers)
        saver.save(state(3, width=6, device=device), numbers(3))  # another model
    for step, width in ((1, 5), (2, 5), (3, 6)):
        saved = read_checkpoint(tmp_path / f"step_{step:08d}")
        for group, named in state(step, width).items():
            for name, tensor in named.items():
                assert torch.equal(saved.tensors[group][name], tensor), (step, name)
                assert saved.tensors[group][name].dtype == tensor.dtype
    assert (tmp_path / "last").read_text().strip() == "step_00000003"


class Refusing(CheckpointStore):
    """A store on a disk that is full for its first `refused` writes."""

    def __init__(self, folder, refused):
        super().__init__(folder, keep=9)
        self.refused = refused

    def save(self, tensors, numbers):
        self.refused -= 1
        if self.refused >= 0:
            raise CheckpointError("the disk is full")
        return super().save(tensors, numbers)


def polled(saver, until, seconds=60):
    """Poll until there are `until` outcomes; returns them."""
    outcomes, end = [], time.monotonic() + seconds
    while len(outcomes) < until and time.monotonic() < end:
        outcomes += saver.poll()
        time.sleep(0.001)
    return outcomes


def test_a_failed_write_is_reported_at_once_and_tried_again(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(background, "FIRST_RETRY_SECONDS", 0.01)
    monkeypatch.setattr(background, "MAX_RETRY_SECONDS", 0.02)
    tensors = state(1)
    with BackgroundSaver(Refusing(tmp_path, refused=3)) as saver:
        saver.save(tensors, numbers(1))
        tensors["model"]["a"].add_(1)  # the training goes on
        outcomes = polled(saver, until=4)
        assert outcomes == [*3 * [SaveOutcome(1, "the disk is full")], SaveOutcome(1, None)]
        assert saver.poll() == []
        saver.wait()
    assert "step 1 is not saved: the disk is full; the run goes on" in caplog.text
    assert "step 1 is saved, after all" in caplog.text
    saved = read_checkpoint(tmp_path / "step_00000001")
    assert torch.equal(saved.tensors["model"]["a"], state(1)["model"]["a"])


def test_a_newer_checkpoint_replaces_one_that_could_not_be_written(tmp_path):
    with BackgroundSaver(Refusing(tmp_path, refused=1)) as saver:
        saver.save(state(1), numbers(1))
        saver.save(state(2), numbers(2))
        saver.wait()
        assert saver.poll() == [SaveOutcome(1, "the disk is full"), SaveOutcome(2, None)]
    assert [path.name for path in saver.store.step_folders()] == ["step_00000002"]


def save_and_end(store, error=None):
    with BackgroundSaver(store) as saver:
        saver.save(state(2), numbers(2))
        if error is not None:
            raise error


def test_the_last_checkpoint_is_retried_for_a_while_and_then_raises(tmp_path, caplog):
    CheckpointStore(tmp_path, keep=9).save(state(1), numbers(1))
    with BackgroundSaver(Refusing(tmp_path, refused=2)) as saver:
        saver.save(state(2), numbers(2))
        saver.wait(retry_seconds=60)
        assert saver.poll() == [SaveOutcome(2, "the disk is full"), SaveOutcome(2, None)]
    assert "trying again for 60 s" in caplog.text
    with pytest.raises(CheckpointError, match=r"step 2 is lost: the disk is full.*step_00000002: make room"):
        save_and_end(Refusing(tmp_path, refused=9**9))


def test_an_error_of_the_run_is_raised_rather_than_one_of_a_checkpoint(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    store = CheckpointStore(tmp_path / "file" / "checkpoints", keep=1)
    with pytest.raises(ZeroDivisionError):
        save_and_end(store, ZeroDivisionError())
    assert f"{tmp_path}/file/checkpoints cannot be written (Not a directory); the run ends" in caplog.text
