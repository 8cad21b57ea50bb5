"""Where answers go: standard output, or files that are complete when they have their names."""

from __future__ import annotations

import codecs
import contextlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Protocol

from hornet_train.errors import ConfigError
from hornet_train.track.text import SafeStream


class TextOutput(Protocol):
    """Takes text."""

    def write(self, text: str) -> object: ...


@contextmanager
def opened_output(path: Path | None) -> Iterator[TextOutput]:
    """Standard output (None), or a file of text; see `unfinished`."""
    if path is None:
        stream = SafeStream(sys.stdout)
        yield stream
        stream.flush()
        return
    with unfinished(path, "--out") as file:
        yield codecs.getwriter("utf-8")(file)


@contextmanager
def unfinished(path: Path, flag: str) -> Iterator[IO[bytes]]:
    """A file beside `path` that takes its name at the end; nothing is left of it after an error.

    `flag`: names it on the command line.

    Raises:
        ConfigError: the file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.unlink(missing_ok=True)  # of a killed process with this number; or a link
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.filename not in (None, str(temporary)):
            raise
        raise ConfigError([f"{flag}={path} cannot be written: {error.strerror}"]) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
