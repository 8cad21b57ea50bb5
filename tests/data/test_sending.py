"""Batches arrive as they are, also where there is little shared memory, or none."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Sequence

import pytest
import torch
from numbered import Numbered
from torch import Tensor

from hornet_train.data import loader as loader_module
from hornet_train.data import sending
from hornet_train.data.loader import EvalLoader, LoaderSettings
from hornet_train.data.sending import Piped, received

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    "tensor",
    [
        torch.arange(24).view(2, 3, 4),
        torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last),
        torch.rand(6, 4)[::2, 1:],
        torch.tensor(3.5),
        torch.empty(0, 4),
        torch.rand(7) < 0.5,
        torch.rand(4, 3).bfloat16(),
    ],
)
def test_a_tensor_comes_out_of_the_pipe_as_it_went_in(tensor: Tensor) -> None:
    piped = pickle.loads(pickle.dumps(Piped.of(tensor)))
    out = received({"x": piped})["x"]
    assert out.dtype == tensor.dtype
    torch.testing.assert_close(out, tensor, rtol=0, atol=0)
    if tensor.dim() == 4:
        assert out.is_contiguous(memory_format=torch.channels_last)
    out.fill_(0)  # it is memory of its own, which may be written to


def numbers(settings: LoaderSettings) -> Sequence[int]:
    source = Numbered(40, 150, 200)  # of 90 kB each
    batches = [loaded.batch for loaded in EvalLoader(source, source, settings).batches(0, 1, 4)]
    for batch in batches:
        images = batch["image"]
        assert isinstance(images, Tensor)
        assert images.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(images.flatten(1).amax(1), images.flatten(1).amin(1))
        assert torch.equal(images[:, 0, 0, 0].long(), batch["label"])
    return torch.cat([batch["label"] for batch in batches]).tolist()


def test_without_room_batches_come_through_the_pipe_and_it_is_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sending, "_has_room", lambda _size: False)
    monkeypatch.setattr(loader_module, "_warned", set())
    with caplog.at_level(logging.WARNING, "hornet_train"):
        assert numbers(LoaderSettings(CPU, workers=2, prefetch=1)) == list(range(40))
    (said,) = caplog.messages
    assert "batches need 1 MB" in said  # 4 images for each of 2 workers x 2
    assert "--shm-size" in said


def test_without_locks_samples_are_read_in_this_process(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(loader_module, "no_processes", lambda _: "/dev/shm cannot be written (why)")
    monkeypatch.setattr(loader_module, "_warned", set())
    with caplog.at_level(logging.WARNING, "hornet_train"):
        assert numbers(LoaderSettings(CPU, workers=2)) == list(range(40))
    assert caplog.messages == [
        "samples are read in this process itself, which takes longer: /dev/shm cannot be written (why)"
    ]
