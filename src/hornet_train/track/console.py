"""What rank 0 says while it trains: a progress bar on a terminal, a line now and then in a log file."""

from __future__ import annotations

import io
import logging
import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import IO, Any, Protocol

from hornet_train.redaction import told
from hornet_train.track import text
from hornet_train.track.events import eval_metrics
from hornet_train.track.metric_table import NO_METRICS, MetricTable

# Events that somebody should look at; they go to stderr, and seldom where there are many.
_WARNINGS = frozenset({"bad_sample", "skipped_step", "rollback"})
# Events that were logged as warnings when they happened.
_LOGGED = frozenset({"checkpoint_failed", "checkpoint_recovered"})


class Console(Protocol):
    """A sink that also talks. Each rank has one; on all but rank 0 it is the NullConsole."""

    def write(self, event: Mapping[str, Any]) -> None: ...
    def close(self) -> None: ...
    def advance(self, step: int) -> None:
        """`step` updates are done. Cheap enough for every step."""

    def start_panel(self, rows: Mapping[str, str | list[str]], title: str = "") -> None: ...
    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None: ...
    def say(self, message: str) -> None: ...
    def warn(self, message: str) -> None: ...


class NullConsole:
    """Says nothing."""

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

    On a terminal there is one progress bar, from the first `advance` to `close`, with evaluations as lines
    above it. Elsewhere there are plain lines without control characters, never wrapped: train events at most
    every `line_seconds`, the others all. Whatever happens to the stream, training goes on.
    """

    def __init__(
        self,
        total_steps: int,
        steps_per_epoch: int,
        *,
        metrics: MetricTable = NO_METRICS,
        stream: IO[str] | None = None,
        interactive: bool | None = None,
        line_seconds: float = 10.0,
    ) -> None:
        """`metrics`: those of the task. `stream`: stdout unless given; warnings go to stderr. `interactive`:
        None asks the stream."""
        # a stream that was closed before the start is None
        self._out = text.SafeStream(stream or sys.stdout or io.StringIO())
        self._err = text.SafeStream(sys.stderr or io.StringIO())
        if interactive is None:
            interactive = self._out.isatty() and os.environ.get("TERM") != "dumb"
        self._total = total_steps
        self._metrics = metrics
        self._line_seconds = line_seconds
        self._begin: tuple[float, int] | None = None  # time and step of the first `advance`
        self._step = 0
        self._last_line: dict[str, float] = {}  # when a kind of event was last told
        self._held_back: dict[str, int] = {}
        self._bar = None
        if interactive:
            from hornet_train.track.bar import Bar  # rich, only where it shows

            self._bar = Bar(self._out, total_steps, steps_per_epoch, metrics=metrics, redirect=stream is None)

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
                self._bar.evaluated(int(event.get("step", 0)), eval_metrics(event, self._metrics))
            self.say(text.eval_line(event, self._metrics))
        elif kind in _WARNINGS:
            if self._due(kind):
                more = self._held_back.pop(kind, 0)
                self.warn(text.other_line(event) + (f"  (and {more} more)" if more else ""))
            else:
                self._held_back[kind] = self._held_back.get(kind, 0) + 1
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
        """What this run is, before it starts."""
        if self._bar is not None:
            shown = {
                key: told(row) if isinstance(row, str) else list(map(told, row)) for key, row in rows.items()
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
        message = told(message)
        if self._bar is not None:
            self._bar.print(message)
        else:
            self._out.write(message + "\n")
            self._out.flush()

    def warn(self, message: str) -> None:
        """A line on stderr, or above the bar where stderr is the same terminal."""
        message = told(message)
        if self._bar is not None and self._err.isatty():
            self._bar.print(f"warning: {message}", style="yellow")
        else:
            self._err.write(f"warning: {message}\n")
            self._err.flush()

    def close(self) -> None:
        """Leave the bar as it stands and tell what was held back."""
        for kind, count in self._held_back.items():
            self.warn(f"{kind}: {count} more")
        self._held_back = {}
        if self._bar is not None:
            self._bar.stop()

    def _due(self, kind: str) -> bool:
        """Whether a line of this kind may be told now."""
        now = time.monotonic()
        if now - self._last_line.get(kind, -float("inf")) < self._line_seconds:
            return False
        self._last_line[kind] = now
        return True

    def _eta(self) -> float | None:
        """Seconds to the end at this process's own pace so far, evaluations included."""
        if self._begin is None or self._step <= self._begin[1]:
            return None
        since, first = self._begin
        return (time.monotonic() - since) / (self._step - first) * (self._total - self._step)


class QuietConsole(NullConsole):
    """Prints warnings, on stderr, and nothing else."""

    def warn(self, message: str) -> None:
        """A line on stderr."""
        sys.stderr.write(f"warning: {told(message)}\n")


def console_for(
    total_steps: int,
    steps_per_epoch: int,
    *,
    metrics: MetricTable,
    speaks: bool,
    quiet: bool = False,
) -> Console:
    """The console of this process.

    Args:
        metrics: those of the task.
        speaks: whether this is rank 0; the others say nothing.
        quiet: print nothing but warnings.
    """
    if not speaks:
        return NullConsole()
    return QuietConsole() if quiet else ConsoleSink(total_steps, steps_per_epoch, metrics=metrics)


class ConsoleHandler(logging.Handler):
    """Sends log records through a console, so that they do not tear its bar: warnings and worse to `warn`."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Say the record's message."""
        message = self.format(record)
        if record.levelno >= logging.WARNING:
            self._console.warn(message)
        else:
            self._console.say(message)


def other_ranks_handler(rank: int) -> logging.Handler:
    """Sends what another rank than 0 warns of, such as a reading process of its own, to its stderr."""
    handler = logging.StreamHandler(text.SafeStream(sys.stderr or io.StringIO()))
    handler.setFormatter(logging.Formatter(f"warning, rank {rank}: %(message)s"))
    return handler
