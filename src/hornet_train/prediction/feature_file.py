"""Files with the vector of each picture: NumPy's .npy, or Parquet. Written on the way, as pictures come."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np

from hornet_train.file_names import as_text
from hornet_train.prediction.answer_output import unfinished
from hornet_train.prediction.wanted import FEATURE_SUFFIXES

_GROUP = 4096  # rows that Parquet has together
Vector = np.ndarray[Any, np.dtype[np.float32]]


class FeatureFile(Protocol):
    """Takes the vectors of pictures in their order."""

    def add(self, where: str, vector: Vector | None, fault: str) -> None:
        """The next picture's.

        Args:
            where: the picture's path.
            vector: float32 (C,); None where it could not be read.
            fault: what is wrong with it then.
        """

    def end(self) -> None:
        """All pictures have come."""


class NpyFeatures:
    """float32 (pictures, C); NaN in the rows of pictures that could not be read."""

    def __init__(self, file: IO[bytes], pictures: int) -> None:
        self._file, self._pictures = file, pictures
        self._waiting, self._width = 0, 0  # rows of before the first vector, whose width is not yet known

    def add(self, where: str, vector: Vector | None, fault: str) -> None:
        """See `FeatureFile`."""
        del where, fault
        if vector is None and not self._width:
            self._waiting += 1
            return
        if vector is not None and not self._width:
            self._width = len(vector)
            header = {"descr": "<f4", "fortran_order": False, "shape": (self._pictures, self._width)}
            np.lib.format.write_array_header_1_0(self._file, header)
            self._file.write(self._unknown(self._waiting))
        self._file.write(self._unknown(1) if vector is None else vector.astype("<f4").tobytes())

    def _unknown(self, rows: int) -> bytes:
        return np.full((rows, self._width), np.nan, dtype="<f4").tobytes()

    def end(self) -> None:
        """See `FeatureFile`."""


class ParquetFeatures:
    """Columns `file`, `features` (a list of float32; null where a picture could not be read), `error`."""

    def __init__(self, file: IO[bytes]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._schema = pa.schema(
            [("file", pa.string()), ("features", pa.list_(pa.float32())), ("error", pa.string())]
        )
        self._writer = pq.ParquetWriter(file, self._schema)
        self._rows: list[dict[str, Any]] = []

    def add(self, where: str, vector: Vector | None, fault: str) -> None:
        """See `FeatureFile`."""
        self._rows.append({"file": as_text(where), "features": vector, "error": fault or None})
        if len(self._rows) == _GROUP:
            self._write()

    def _write(self) -> None:
        import pyarrow as pa

        self._writer.write_table(pa.Table.from_pylist(self._rows, schema=self._schema))
        self._rows.clear()

    def end(self) -> None:
        """See `FeatureFile`."""
        if self._rows:
            self._write()
        self._writer.close()


@contextmanager
def opened_features(path: Path, pictures: int) -> Iterator[FeatureFile]:
    """A file for the vectors of so many pictures; see `unfinished`.

    `path`: its suffix, of `FEATURE_SUFFIXES`, says which kind.
    """
    with unfinished(path, "--features") as file:
        kept = (
            NpyFeatures(file, pictures)
            if path.suffix.lower() == FEATURE_SUFFIXES[0]
            else ParquetFeatures(file)
        )
        yield kept
        kept.end()
