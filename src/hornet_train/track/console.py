"""The console output of rank 0: a progress bar on a terminal, a line from time to time in a log file."""

from __future__ import annotations

import io
import logging
import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import IO, Any, Protocol

from hornet_train.redaction import for_display
from hornet_train.track import text
from hornet_train.track.events import shown_metrics
from hornet_train.track.metric_table import NO_METRICS, MetricTable

# Events shown as warnings, on stderr, at a limited rate.
_WARNINGS = frozenset({"bad_sample", "skipped_step", "rollback"})
# Events that are not shown here, as a log message was written when they happened.
_LOGGED = frozenset({"checkpoint_failed", "checkpoint_recovered", "best_lost"})


class Console(Protocol):
    """A sink that also prints messages. Each rank has one; on all but rank 0 it is the NullConsole."""

    def write(self, event: Mapping[str, Any]) -> None: ...
    def close(self) -> None: ...
    def advance(self, step: int) -> None:
        """`step` updates are done. Cheap enough for every step."""

    def start_panel(self, rows: Mapping[str, str | list[str]], title: str = "") -> None: ...
    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None: ...
    def say(self, message: str) -> None: ...
    def warn(self, message: str) -> None: ...


class NullConsole:
    """Prints nothing."""

    def write(self, event: Mapping[str, Any]) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""

    def advance(self, step: int) -> None:
        """Nothing."""

    def start_panel(self, rows: Mapping[str, str | list[str]], title: str = "") -> None:
        """Nothing."""

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Nothing."""

    def say(self, message: str) -> None:
        """Nothing."""

    def warn(self, message: str) -> None:
        """Nothing."""


class ConsoleSink:
    """The console of rank 0.

    On a terminal it shows one progress bar, from the first `advance` to `close`, and prints evaluations as
    lines above it. Elsewhere it prints plain lines without control characters, never wrapped: train events at
    most every `line_seconds`, all other events at once. A stream that fails does not stop the training.
    """

    def __init__(
        self,
        total_steps: int,
        steps_per_epoch: int,
        *,
        shift: int = 0,
        metrics: MetricTable = NO_METRICS,
        stream: IO[str] | None = None,
        interactive: bool | None = None,
        line_seconds: float = 10.0,
    ) -> None:
        """`shift`: see `console_for`. `metrics`: those of the task. `stream`: None for stdout; warnings go to
        stderr. `interactive`: None for whether the stream is a terminal. `line_seconds`: between two lines of
        the same kind."""
        # sys.stdout is None if it was closed before the start
        self._out = text.SafeStream(stream or sys.stdout or io.StringIO())
        self._err = text.SafeStream(sys.stderr or io.StringIO())
        if interactive is None:
            interactive = self._out.isatty() and os.environ.get("TERM") != "dumb"
        self._total = total_steps
        self._metrics = metrics
        self._line_seconds = line_seconds
        self._begin: tuple[float, int] | None = None  # time and step of the first `advance`
        self._step = 0
        self._last_line: dict[str, float] = {}  # kind of event -> when a line was last printed
        self._suppressed: dict[str, int] = {}  # kind of event -> number of lines not printed since
        self._bar = None
        if interactive:
            from hornet_train.track.bar import Bar  # imports rich, which takes time

            redirect = stream is None
            self._bar = Bar(
                self._out, total_steps, steps_per_epoch, shift=shift, metrics=metrics, redirect=redirect
            )

    def write(self, event: Mapping[str, Any]) -> None:
        """Show an event in the bar or as a line."""
        kind = str(event.get("event", ""))
        if kind == "train":
            self._step = max(self._step, int(event.get("step", 0)))
            if self._bar is not None:
                self._bar.train(event)
            elif self._due("train") or self._step >= self._total:
                self.say(text.train_line(event, self._total, self._eta()))
        elif kind == "eval":
            if self._bar is not None:
                self._bar.evaluated(int(event.get("step", 0)), shown_metrics(event, self._metrics))
            self.say(text.eval_line(event, self._metrics))
        elif kind in _WARNINGS:
            if self._due(kind):
                more = self._suppressed.pop(kind, 0)
                self.warn(text.other_line(event) + (f"  (and {more} more)" if more else ""))
            else:
                self._suppressed[kind] = self._suppressed.get(kind, 0) + 1
        elif kind not in _LOGGED:
            self.say(text.other_line(event))

    def advance(self, step: int) -> None:
        """`step` updates are done."""
        self._step = step
        if self._begin is None:
            self._begin = (time.monotonic(), step)
        if self._bar is not None:
            self._bar.advance(step, self._eta())

    def start_panel(self, rows: Mapping[str, str | list[str]], title: str = "") -> None:
        """A description of the run, before it starts."""
        if self._bar is not None:
            shown = {
                key: for_display(row) if isinstance(row, str) else list(map(for_display, row))
                for key, row in rows.items()
            }
            self._bar.panel(shown, title)
        else:
            self.say("\n".join(text.panel_lines(rows, title)))

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """A table of results."""
        if self._bar is not None:
            self._bar.table(title, columns, rows)
        else:
            self.say("\n".join(text.table_lines(title, columns, rows)))

    def say(self, message: str) -> None:
        """A line on stdout."""
        message = for_display(message)
        if self._bar is not None:
            self._bar.print(message)
        else:
            self._out.write(message + "\n")
            self._out.flush()

    def warn(self, message: str) -> None:
        """A line on stderr, or above the bar if stderr is a terminal too."""
        message = for_display(message)
        if self._bar is not None and self._err.isatty():
            self._bar.print(f"warning: {message}", style="yellow")
        else:
            self._err.write(f"warning: {message}\n")
            self._err.flush()

    def close(self) -> None:
        """Print how many warnings were suppressed, and leave the bar on the screen."""
        for kind, count in self._suppressed.items():
            self.warn(f"{kind}: {count} more")
        self._suppressed = {}
        if self._bar is not None:
            self._bar.stop()

    def _due(self, kind: str) -> bool:
        """Whether a line of this kind may be printed now."""
        now = time.monotonic()
        if now - self._last_line.get(kind, -float("inf")) < self._line_seconds:
            return False
        self._last_line[kind] = now
        return True

    def _eta(self) -> float | None:
        """Seconds to the end at the speed of this process so far, with evaluations."""
        if self._begin is None or self._step <= self._begin[1]:
            return None
        since, first = self._begin
        return (time.monotonic() - since) / (self._step - first) * (self._total - self._step)


class QuietConsole(NullConsole):
    """Prints warnings, on stderr, and nothing else."""

    def warn(self, message: str) -> None:
        """A line on stderr."""
        sys.stderr.write(f"warning: {for_display(message)}\n")


def console_for(
    total_steps: int,
    steps_per_epoch: int,
    *,
    shift: int = 0,
    metrics: MetricTable,
    prints: bool,
    quiet: bool = False,
) -> Console:
    """The console of this process.

    Args:
        total_steps: the step at which the run is complete.
        shift: how many steps the run has more than its epochs would take: the batch size was another before.
        metrics: those of the task.
        prints: whether this is rank 0; the others say nothing.
        quiet: print nothing but warnings.
    """
    if not prints:
        return NullConsole()
    if quiet:
        return QuietConsole()
    return ConsoleSink(total_steps, steps_per_epoch, shift=shift, metrics=metrics)


class ConsoleHandler(logging.Handler):
    """Prints log records through a console, so that they do not break its bar; warnings by `warn`."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Print the record's message."""
        message = self.format(record)
        if record.levelno >= logging.WARNING:
            self._console.warn(message)
        else:
            self._console.say(message)


def other_ranks_handler(rank: int) -> logging.Handler:
    """Prints warnings of a rank other than 0, and of its worker processes, on its stderr."""
    handler = logging.StreamHandler(text.SafeStream(sys.stderr or io.StringIO()))
    handler.setLevel(logging.WARNING)
    handler.setFormatter(logging.Formatter(f"warning, rank {rank}: %(message)s"))
    return handler
