"""What an ONNX file keeps as key -> text, read without the package, and without its weights.

The file is protocol buffers; `metadata_props`, field 14 of the outermost message, has key (1) and value (2).
"""

from __future__ import annotations

from pathlib import Path
from typing import IO

from hornet_train.untrusted import MAX_HEADER, Refused, open_regular

SUFFIX = ".onnx"
_METADATA, _KEY, _VALUE = 14, 1, 2
_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5  # wire types
_LONGEST = 10  # bytes of a varint


def onnx_texts(path: Path) -> dict[str, str]:
    """Key -> text.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not ONNX, or damaged.
    """
    found: dict[str, str] = {}
    with open_regular(path) as file:
        size = file.seek(0, 2)
        file.seek(0)
        total = 0
        while file.tell() < size:
            field, length = _next(file)
            if file.tell() + length > size:
                raise Refused("it ends early, or is no ONNX file")
            if field != _METADATA:
                file.seek(length, 1)
                continue
            total += length
            if total > MAX_HEADER:
                raise Refused(f"its texts have more than {MAX_HEADER:,} bytes")
            end, entry = file.tell() + length, {}
            while file.tell() < end:
                part, count = _next(file)
                if file.tell() + count > end:
                    raise Refused("a text in it ends early")
                entry[part] = file.read(count).decode()
            found[entry.get(_KEY, "")] = entry.get(_VALUE, "")
    return found


def _next(file: IO[bytes]) -> tuple[int, int]:
    """The number of a field and the bytes that follow; of numbers none, as they are read."""
    tag = _varint(file)
    field, kind = tag >> 3, tag & 7
    if not field:
        raise Refused("it is no ONNX file")
    if kind == _VARINT:
        _varint(file)
        return field, 0
    if kind == _BYTES:
        return field, _varint(file)
    if kind in (_EIGHT, _FOUR):
        return field, 8 if kind == _EIGHT else 4
    raise Refused("it is no ONNX file")


def _varint(file: IO[bytes]) -> int:
    value = 0
    for place in range(_LONGEST):
        byte = file.read(1)
        if not byte:
            raise Refused("it ends early, or is no ONNX file")
        value |= (byte[0] & 127) << (7 * place)
        if byte[0] < 128:
            return value
    raise Refused("it is no ONNX file")
