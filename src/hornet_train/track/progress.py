"""The progress of a long command on stderr: a bar on a terminal, elsewhere a line every ten seconds."""

from __future__ import annotations

import io
import os
import sys
import time
from types import TracebackType
from typing import IO, TYPE_CHECKING, cast

from hornet_train.track.text import SafeStream, duration

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

_LINE_SECONDS = 10.0  # between two lines


class Progress:
    """Displays how many of `total` items, named by `unit`, are done; a context manager."""

    def __init__(self, title: str, total: int, unit: str) -> None:
        self._title, self._total, self._unit = title, max(total, 1), unit
        self._stream = SafeStream(sys.stderr or io.StringIO())
        self._start_time = self._last_line_time = time.monotonic()
        self._bar: RichProgress | None = None
        if self._stream.isatty() and os.environ.get("TERM") != "dumb":
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            console = Console(file=cast(IO[str], self._stream), force_terminal=True, highlight=False)
            columns = (TextColumn("{task.description}"), BarColumn(bar_width=None), MofNCompleteColumn())
            rate = TextColumn("{task.fields[rate]}")
            self._bar = Bar(*columns, rate, TimeRemainingColumn(), console=console, expand=True)
            self._task = self._bar.add_task(title, total=self._total, rate="")

    def __enter__(self) -> Progress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, done: int) -> None:
        """Show that `done` items are done. Cheap enough to be called often."""
        now = time.monotonic()
        rate = done / max(now - self._start_time, 1e-3)
        shown = f"{rate:,.0f}" if rate >= 10 else f"{rate:.1f}"
        if self._bar is not None:
            self._bar.update(self._task, completed=done, rate=f"{shown} {self._unit}/s")
        elif now - self._last_line_time >= _LINE_SECONDS:
            self._last_line_time = now
            left = duration((self._total - done) / rate if rate else None)
            self._stream.write(
                f"{self._title}: {done:,} of {self._total:,} {self._unit}, {shown}/s, {left} left\n"
            )
            self._stream.flush()
