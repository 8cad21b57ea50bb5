"""CIFAR and MNIST: files in the published formats, small ones that the test writes."""

from __future__ import annotations

import hashlib
import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from labelled import labelled
from torchvision import datasets

from hornet_train.errors import DataError
from hornet_train.tasks.classification.sources import TorchvisionSource

Command = Callable[..., tuple[int, str, str]]
RNG = np.random.default_rng(0)


def write_cifar10(root: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[np.ndarray, list[int]]]:
    """Ten images a batch; torchvision is given the checksums of these files instead of the published ones."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    written, sums = {}, {}
    for name in [*(f"data_batch_{k}" for k in range(1, 6)), "test_batch", "batches.meta"]:
        pixels, labels = RNG.integers(0, 256, (10, 3072), dtype=np.uint8), RNG.integers(0, 10, 10).tolist()
        content = {"label_names": list("abcdefghij")}
        if name != "batches.meta":
            content = {"data": pixels, "labels": labels}
            written[name] = (pixels.reshape(10, 3, 32, 32), labels)
        (folder / name).write_bytes(pickle.dumps(content))
        sums[name] = hashlib.md5((folder / name).read_bytes()).hexdigest()
    cifar = datasets.CIFAR10
    monkeypatch.setattr(cifar, "train_list", [[n, sums[n]] for n in sums if n.startswith("data")])
    monkeypatch.setattr(cifar, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(cifar, "meta", {**cifar.meta, "md5": sums["batches.meta"]})
    return written


def write_idx(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape) + values.tobytes())


def test_cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = write_cifar10(tmp_path, monkeypatch)
    train, val = (TorchvisionSource("cifar10", tmp_path, split) for split in ("train", "val"))
    assert (len(train), len(val)) == (50, 10)
    assert train.classes == tuple("abcdefghij")
    pixels, labels = written["data_batch_3"]
    image, label = labelled(train, 24)
    assert torch.equal(image, torch.from_numpy(pixels[4]))
    assert label == labels[4]
    assert train.fingerprint != val.fingerprint
    path = tmp_path / "cifar-10-batches-py" / "test_batch"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"no readable cifar10 .*cifar-10-python\.tar\.gz"):
        TorchvisionSource("cifar10", tmp_path, "val")


def test_fashion_mnist_trains_and_a_missing_file_is_reported(tmp_path: Path, command: Command) -> None:
    arguments = ("data=fashion_mnist", f"data.root={tmp_path}", "data.workers=0", "model=hornet_pico_7x7")
    run = (*arguments, f"run_dir={tmp_path}/run", "epochs=2it", "batch_size=4", "schedule.warmup=0ep")
    code, _, err = command("hornet-train", *run)
    assert code == 2
    assert "FashionMNIST/raw/ with {train,t10k}-images-idx3-ubyte" in err
    raw = tmp_path / "FashionMNIST" / "raw"
    for split, count in (("train", 8), ("t10k", 5)):
        images = RNG.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        write_idx(raw / f"{split}-images-idx3-ubyte", images)
        write_idx(raw / f"{split}-labels-idx1-ubyte", np.arange(count, dtype=np.uint8))
    image, label = labelled(TorchvisionSource("fashion_mnist", tmp_path, "val"), 3)
    assert torch.equal(image, torch.from_numpy(images[3]).expand(3, 28, 28))
    assert label == 3
    code, out, err = command("hornet-train", *run)
    assert code == 0, err
    assert "8 training images, 5 held out, 10 classes" in " ".join(out.split())
