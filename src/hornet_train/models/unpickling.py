"""Read pickles from untrusted sources: data alone, by torch's reader that runs no code, within limits.

torch's `weights_only=True` calls nothing but a list of functions that make tensors and containers. Two of
them (`bytearray`, `codecs.encode`) still make gigabytes out of a few bytes, as compressed members of a zip
do, so memory is limited while they run. What else is allowed here, for files that keep settings and numpy's
numbers beside the weights, is read by stand-ins and not by numpy's own reader, which trusts its input.
"""

from __future__ import annotations

import argparse
import pickle
import re
import resource
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hornet_train.errors import CheckpointError
from hornet_train.untrusted import Refused, open_regular

_SPARE = 10**9  # bytes that reading a file may take beside twice its size
_MEMBERS = 200_000  # of a zip: tensors


def unpickle(path: Path) -> object:
    """torch.load without code, on CPU.

    Raises:
        CheckpointError: the file cannot be read, is damaged, holds code, or would take absurd memory. A
            pickle can make torch raise nearly anything, so every exception is caught here; the message
            names its class.
    """
    try:
        with open_regular(path) as file:
            start, size = file.read(4), file.seek(0, 2)
        if start == b"PK\x03\x04":
            _check_zip(path)
        with torch.serialization.safe_globals(_HARMLESS), _at_most(2 * size + _SPARE):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as fault:
        raise CheckpointError(f"{path}: cannot be read ({fault.strerror or fault})") from fault
    except Refused as fault:
        raise CheckpointError(f"{path}: {fault}") from fault
    except MemoryError as fault:
        raise CheckpointError(
            f"{path}: cannot be read: it takes more than twice its size and {_SPARE:,} bytes of memory, as "
            "no weights do; ask who made it for safetensors"
        ) from fault
    except Exception as fault:
        found = re.search(r"GLOBAL (\S+)", str(fault))
        if isinstance(fault, pickle.UnpicklingError) and found:
            raise CheckpointError(
                f"{path}: cannot be read: it holds Python objects or code, which are never run (the first is "
                f"{found[1]}); save the weights alone, as a dict of tensors"
            ) from fault
        # torch's own words would advise to run what is in it
        kind = type(fault).__name__
        raise CheckpointError(
            f"{path}: cannot be read: damaged, cut short, or no checkpoint ({kind})"
        ) from fault
    return content


def _check_zip(path: Path) -> None:
    """Refuse what torch never writes: compressed members, which unpack to anything, and a great many.

    Raises:
        Refused: it is such a file.
        zipfile.BadZipFile: it is none that can be read.
    """
    with zipfile.ZipFile(path) as members:
        listed = members.infolist()
    if len(listed) > _MEMBERS:
        raise Refused(f"it has {len(listed):,} members, and {_MEMBERS:,} is the limit")
    for member in listed:
        if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
            raise Refused(
                f"its member {member.filename!r} is compressed ({member.compress_size:,} bytes to "
                f"{member.file_size:,}), as torch writes none; unpack it and save the weights again"
            )


@contextmanager
def _at_most(size: int) -> Iterator[None]:
    """Let this process take so many bytes of memory more than it has, and no more: MemoryError then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0])
    except (OSError, ValueError):  # not Linux
        yield
        return
    limit = pages * resource.getpagesize() + size
    if soft != resource.RLIM_INFINITY:
        limit = min(limit, soft)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


class _Kind:
    """In the place of a `numpy.dtype` in a pickle: of numbers, or nothing."""

    def __init__(self, name: object, *_: object) -> None:
        if name not in _NUMBERS:
            raise pickle.UnpicklingError(f"GLOBAL numpy.dtype of {str(name)[:40]!r}")
        self.name = str(name)

    def __setstate__(self, state: object) -> None:
        """The byte order, which is the little end's."""
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", "|", "="):
            raise pickle.UnpicklingError("a number of another byte order")


_NUMBERS = {"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"}


def _scalar(kind: object, data: object) -> Any:
    """In the place of numpy's reader of one number."""
    if (
        not isinstance(kind, _Kind)
        or not isinstance(data, bytes)
        or len(data) != np.dtype(kind.name).itemsize
    ):
        raise pickle.UnpicklingError("a numpy scalar that is no number")
    return np.frombuffer(data, kind.name)[0]


# besides tensors
_HARMLESS: list[Any] = [
    argparse.Namespace,
    _Kind,  # by its own name too, else its state is not set
    (_Kind, "numpy.dtype"),
    (_scalar, "numpy.core.multiarray.scalar"),
    (_scalar, "numpy._core.multiarray.scalar"),
]
