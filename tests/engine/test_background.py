"""Checkpoints written beside a training."""

import threading

import pytest
import torch

from hornet_train.engine.background import BackgroundSaver
from hornet_train.engine.checkpoint import CheckpointStore, read_checkpoint
from hornet_train.errors import CheckpointError


def state(value, width=5):
    tied = torch.full((3, width, 2, 2), float(value)).contiguous(memory_format=torch.channels_last)
    return {
        "model": {"a": tied, "b": tied, "count": torch.tensor(value), "none": torch.zeros(0, 4)},
        "optimizer": {"a/exp_avg": torch.full((7,), float(value), dtype=torch.bfloat16)},
    }


def numbers(step):
    return {"step": step, "best": None, "loss_scaler": {}}


class HeldUp(CheckpointStore):
    """Begins to write when it is told to."""

    def __init__(self, folder):
        super().__init__(folder, keep=9)
        self.go = threading.Event()

    def save(self, tensors, numbers):
        assert self.go.wait(60)
        return super().save(tensors, numbers)


@pytest.mark.parametrize("prepared", [False, True])
def test_what_is_written_is_what_was_saved_however_long_it_takes(tmp_path, prepared):
    store = HeldUp(tmp_path)
    tensors, told = state(1), numbers(1)
    with BackgroundSaver(store) as saver:
        if prepared:
            saver.prepare(tensors)
        saver.save(tensors, told)
        assert not list(tmp_path.iterdir())
        for tensor in (tensors["model"]["a"], tensors["model"]["count"], *tensors["optimizer"].values()):
            tensor.add_(1)  # the training goes on
        told["step"] = 2
        store.go.set()
        saver.save(tensors, told)
        saver.save(state(3, width=6), numbers(3))  # another model
    for step, width in ((1, 5), (2, 5), (3, 6)):
        saved = read_checkpoint(tmp_path / f"step_{step:08d}")
        for group, named in state(step, width).items():
            for name, tensor in named.items():
                assert torch.equal(saved.tensors[group][name], tensor), (step, name)
                assert saved.tensors[group][name].dtype == tensor.dtype
    assert (tmp_path / "last").read_text().strip() == "step_00000003"


def save_twice(store):
    with BackgroundSaver(store) as saver:
        saver.save(state(1), numbers(1))
        saver.save(state(2), numbers(2))
        pytest.fail("the second call tells of the first")


def save_and_fail(store, error=None):
    with BackgroundSaver(store) as saver:
        saver.save(state(1), numbers(1))
        if error is not None:
            raise error


def test_a_checkpoint_that_cannot_be_written_ends_the_run(tmp_path):
    (tmp_path / "file").write_text("")
    store = CheckpointStore(tmp_path / "file" / "checkpoints", keep=1)
    with pytest.raises(CheckpointError, match="cannot be written"):
        save_twice(store)
    with pytest.raises(CheckpointError, match="cannot be written"):
        save_and_fail(store)


def test_an_error_of_the_run_is_not_hidden_by_one_of_a_checkpoint(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    store = CheckpointStore(tmp_path / "file" / "checkpoints", keep=1)
    with pytest.raises(ZeroDivisionError):
        save_and_fail(store, ZeroDivisionError())
    assert "cannot be written" in caplog.text
