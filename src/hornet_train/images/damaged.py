"""The exceptions that Pillow's plugins raise for damaged files. UnidentifiedImageError is an OSError."""

from __future__ import annotations

import struct
import zlib

from PIL import Image

DAMAGED_FILE_ERRORS = (
    OSError,
    ValueError,
    SyntaxError,
    TypeError,
    LookupError,
    EOFError,
    OverflowError,
    RuntimeError,  # libavif
    AttributeError,  # tags of another type than the standard has
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
