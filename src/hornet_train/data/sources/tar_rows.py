"""Samples of local tars with random access: read where they lie, nothing is converted or copied."""

from __future__ import annotations

from itertools import accumulate

import numpy as np

from hornet_train.data.sources.source import Encoded, Fields
from hornet_train.data.sources.tar_index import Integers, TarIndex
from hornet_train.errors import DataError, SampleError


class TarRows:
    """The samples of scanned tars, by their number over all of these."""

    def __init__(self, index: TarIndex, name: str, split: str) -> None:
        """Take over a scan.

        Args:
            index: of the tars.
            name: of the data set, as `data.name` gives it, for messages.
            split: likewise.
        """
        self._index = index
        self._where = f"{name}, split {split}"
        self._ends = np.array(list(accumulate(index.lengths)), dtype=np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def read(self, row: int) -> Fields:
        """A sample: `Encoded` for files, int for numbers.

        Raises:
            SampleError: its tar is gone, cannot be read, or is shorter by now.
        """
        path = self._path(row)
        fields: Fields = {}
        try:
            with open(path, "rb") as tar:
                for field, found in self._index.files.items():
                    fields[field] = Encoded(found.read(tar, row, path).data, self.locate(row))
        except OSError as error:
            raise SampleError(self.locate(row), f"cannot be read ({error.strerror or error})") from error
        except DataError as error:
            raise SampleError(self.locate(row), "its tar is shorter than it was") from error
        return {**fields, **{field: int(values[row]) for field, values in self._index.numbers.items()}}

    def locate(self, row: int) -> str:
        """The row, its tar, and the name of its first file in that."""
        first = next(iter(self._index.files.values()))
        return f"{self._where}, row {row} ({self._path(row)}: {first.name(row)})"

    def sizes(self, field: str) -> list[Integers]:
        """Bytes of each sample's file; for a fingerprint."""
        return [self._index.files[field].sizes]

    def _path(self, row: int) -> str:
        return self._index.paths[int(np.searchsorted(self._ends, row, side="right"))]
