"""Events, tables and durations as plain text, for a log file and for the lines above a progress bar."""

from __future__ import annotations

import io
import math
import os
import sys
from collections.abc import Mapping, Sequence
from typing import IO, Any

from hornet_train.track.events import number, shown_metrics
from hornet_train.track.metric_table import NO_METRICS, MetricTable

_MAX_ITEMS = 8  # of a list in a line


def duration(seconds: float | None) -> str:
    """`1:02:03`, `2d 03:04:05`; `-:--` for an unknown duration."""
    if seconds is None or not math.isfinite(seconds):
        return "-:--"
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days}d {hour:02}:{minute:02}:{second:02}"
    return f"{hour}:{minute:02}:{second:02}" if hour else f"{minute}:{second:02}"


def short(value: Any) -> str:
    """A value for display: four significant digits, thousands separated by commas."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    if value and math.isfinite(value) and not 1e-3 <= abs(value) < 1e5:
        return f"{value:.3e}"
    return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"


def metric_text(key: str, value: float, table: MetricTable) -> str:
    """`top1 98.33%`; or `mean_iou 0.4561` for a metric that is not a percentage."""
    return f"{key} {value:.2f}%" if table.info(key).percent else f"{key} {short(value)}"


def train_line(event: Mapping[str, Any], total_steps: int, eta: float | None) -> str:
    """One line for a train event: `step 100/6,000  epoch 2.5  loss 0.312  lr 0.001 ...`."""
    parts = [f"step {short(event.get('step', 0))}/{total_steps:,}", _epoch(event)]
    parts += [f"{k} {short(event[k])}" for k in ("loss", "lr", "grad_norm") if event.get(k) is not None]
    if (speed := number(event.get("images_per_second"))) is not None:
        parts.append(f"{speed:,.0f} images/s" if speed >= 10 else f"{speed:.2f} images/s")
    if (wait := number(event.get("data_wait"))) is not None:
        parts.append(f"data wait {wait:.0%}")
    parts.append(f"ETA {duration(eta)}")
    return "  ".join(part for part in parts if part)


def eval_line(event: Mapping[str, Any], table: MetricTable = NO_METRICS) -> str:
    """One line for an eval event: `eval   step 1,234  epoch 10  ema  top1 98.33%  (360 images)`."""
    parts = ["eval ", f"step {short(event.get('step', 0))}", _epoch(event), str(event.get("weights", ""))]
    parts += [metric_text(key, value, table) for key, value in shown_metrics(event, table).items()]
    if (loss := number(event.get("loss"))) is not None:
        parts.append(f"loss {short(loss)}")
    elif "loss" in event:
        parts.append(f"loss {event['loss']}")  # nan, inf
    if (count := number(event.get("count"))) is not None:
        parts.append(f"({count:,.0f} images)")
    return "  ".join(part for part in parts if part)


def other_line(event: Mapping[str, Any]) -> str:
    """One line for any other event: `resumed  step 1,234  epoch 10  key value ...`."""
    rest = [
        f"{key} {_event_value(value)}"
        for key, value in event.items()
        if key not in ("event", "step", "epoch") and value is not None and value != []
    ]
    step = f"step {short(event['step'])}" if "step" in event else ""
    return "  ".join(p for p in (str(event.get("event", "event")), step, _epoch(event), *rest) if p)


def _event_value(value: Any) -> str:
    """A value of an event; the first items of a long list."""
    if isinstance(value, Mapping):
        return "(" + ", ".join(f"{key} {short(part)}" for key, part in value.items()) + ")"
    if isinstance(value, list | tuple):
        more = f", ... {len(value):,} in all" if len(value) > _MAX_ITEMS else ""
        return ", ".join(short(part) for part in value[:_MAX_ITEMS]) + more
    return short(value)


def panel_lines(rows: Mapping[str, str | Sequence[str]], title: str) -> list[str]:
    """A title and aligned rows; each value of a list has a line of its own."""
    width = max(map(len, rows), default=0)
    lines = [title] if title else []
    for key, value in rows.items():
        values = [value] if isinstance(value, str) else list(value)
        lines += [f"  {label:<{width}}  {text}".rstrip() for label, text in zip_first(key, values)]
    return lines


def zip_first(key: str, values: Sequence[str]) -> list[tuple[str, str]]:
    """(key, value) for the first value, ("", value) for the others."""
    return [(key if i == 0 else "", text) for i, text in enumerate(values or [""])]


def table_lines(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    """A table in aligned columns; numbers are aligned to the right."""
    cells = [[cell if isinstance(cell, str) else short(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    right = numeric_columns(columns, rows)

    def line(row: Sequence[str]) -> str:
        pairs = zip(row, widths, right, strict=True)
        return "  ".join(
            c.rjust(width) if numeric else c.ljust(width) for c, width, numeric in pairs
        ).rstrip()

    rule = "  ".join("-" * width for width in widths)
    return [*([title] if title else []), line(columns), rule, *map(line, cells)]


def numeric_columns(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[bool]:
    """Which columns contain only numbers, as numbers or as text (`98.33%`, `1,437`)."""
    return [bool(rows) and all(_is_number(row[i]) for row in rows) for i in range(len(columns))]


def _is_number(cell: Any) -> bool:
    try:
        float(str(cell).replace(",", "").removesuffix("%"))
    except ValueError:
        return False
    return True


def _epoch(event: Mapping[str, Any]) -> str:
    epoch = number(event.get("epoch"))
    return "" if epoch is None else f"epoch {epoch:.2f}".removesuffix("0").removesuffix(".0")


class SafeStream(io.TextIOBase):
    """A text stream whose failures cannot stop the program: once a write fails, it writes nothing more.

    A write fails on a closed pipe, on a terminal that was closed, and for a log file on a full disk.
    """

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self.broken = False

    @property
    def encoding(self) -> str:  # type: ignore[override]  # an attribute in TextIOBase
        return getattr(self._stream, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        try:
            return self._stream.isatty()
        except (OSError, ValueError):  # closed
            return False

    def fileno(self) -> int:
        return self._stream.fileno()

    def write(self, text: str) -> int:
        if not self.broken:
            try:
                self._stream.write(text)
            except UnicodeEncodeError:  # an ASCII log file
                self.write(text.encode(self.encoding, "replace").decode(self.encoding))
            except (OSError, ValueError):
                self._give_up()
        return len(text)

    def flush(self) -> None:
        if not self.broken:
            try:
                self._stream.flush()
            except (OSError, ValueError):
                self._give_up()

    def _give_up(self) -> None:
        self.broken = True
        if self._stream is not sys.__stdout__:
            return
        # Python flushes stdout again when it exits, and turns a failure there into exit code 120
        try:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._stream.fileno())
            os.close(null)
        except (OSError, ValueError):
            pass
