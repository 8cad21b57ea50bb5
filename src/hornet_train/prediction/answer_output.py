"""Where answers go: standard output, or a file that is complete when it has its name."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from hornet_train.errors import ConfigError
from hornet_train.track.text import SafeStream


class TextOutput(Protocol):
    """Takes text."""

    def write(self, text: str) -> object: ...


@contextmanager
def opened_output(path: Path | None) -> Iterator[TextOutput]:
    """Standard output (None), or a file beside `path` that takes its name at the end; nothing is left of it
    after an error.

    Raises:
        ConfigError: the file cannot be written.
    """
    if path is None:
        stream = SafeStream(sys.stdout)
        yield stream
        stream.flush()
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.unlink(missing_ok=True)  # of a killed process with this number; or a link
        with open(temporary, "x", encoding="utf-8", newline="") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.filename not in (None, str(temporary)):
            raise
        raise ConfigError([f"--out={path} cannot be written: {error.strerror}"]) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
