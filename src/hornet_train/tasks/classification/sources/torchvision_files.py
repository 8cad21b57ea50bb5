"""CIFAR and MNIST files, by torchvision's readers."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch

from hornet_train.data.sources.source import Fields, sha256_of
from hornet_train.errors import DataError
from hornet_train.tasks.classification.sources.labelled import IMAGE, LABEL, Split

TorchvisionName = Literal["cifar10", "cifar100", "mnist", "fashion_mnist"]

_EXPECTED = {  # what the readers open, below the root
    "cifar10": "cifar-10-batches-py/ with data_batch_1..5, test_batch and batches.meta "
    "(unpack cifar-10-python.tar.gz there)",
    "cifar100": "cifar-100-python/ with train, test and meta (unpack cifar-100-python.tar.gz there)",
    "mnist": "MNIST/raw/ with {train,t10k}-images-idx3-ubyte and -labels-idx1-ubyte (unpack the .gz files)",
    "fashion_mnist": "FashionMNIST/raw/ with {train,t10k}-images-idx3-ubyte and -labels-idx1-ubyte (unpack "
    "the .gz files)",
}


class TorchvisionSource:
    """A small data set that torchvision reads from its published files, as one block of bytes."""

    absent: tuple[str, ...] = ()

    def __init__(self, name: TorchvisionName, root: str | os.PathLike[str], split: Split) -> None:
        """Read it.

        Args:
            name: which data set.
            root: the folder that torchvision's reader is given.
            split: "val" is the published test set.

        Raises:
            DataError: the files are not there, or are not the published ones.
        """
        from torchvision import datasets  # slow to import

        if name not in get_args(TorchvisionName):
            raise DataError(f"{name} is none of {', '.join(get_args(TorchvisionName))}")
        readers = {
            "cifar10": datasets.CIFAR10,
            "cifar100": datasets.CIFAR100,
            "mnist": datasets.MNIST,
            "fashion_mnist": datasets.FashionMNIST,
        }
        place = Path(root).expanduser()
        try:
            data: Any = readers[name](place, train=split == "train", download=False)
        except (RuntimeError, OSError, ValueError, LookupError, EOFError, pickle.UnpicklingError) as error:
            raise DataError(
                f"data.root={root} has no readable {name} ({error}): it takes {_EXPECTED[name]}"
            ) from error
        self.classes: tuple[str, ...] = tuple(data.classes)
        self._pixels = np.ascontiguousarray(np.asarray(data.data))  # (N, H, W, 3) or (N, H, W)
        self._labels = np.asarray(data.targets, dtype=np.int32)
        self._where = f"{name} {split} sample"

    def __len__(self) -> int:
        return len(self._labels)

    def read(self, index: int) -> Fields:
        pixels = self._pixels[index]
        if pixels.ndim == 2:
            pixels = np.repeat(pixels[:, :, None], 3, axis=2)
        image = torch.from_numpy(pixels.copy()).permute(2, 0, 1)
        return {IMAGE: image, LABEL: int(self._labels[index])}

    def locate(self, index: int) -> str:
        return f"{self._where} {index}"

    @property
    def fingerprint(self) -> str:
        return sha256_of(self._labels, repr(self.classes).encode())
