"""Where events are written: metrics.jsonl and TensorBoard (W&B is in wandb_sink).

metrics.jsonl is the record of a run: every figure and report is made from it. A line is strict JSON. JSON has
no NaN and no infinity, so such a number is written as null and listed in "nonfinite":
`{"event": "train", "step": 7, "loss": null, "nonfinite": {"loss": "nan"}}`.
"""

from __future__ import annotations

import io
import json
import logging
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from hornet_train.file_names import as_text_tree
from hornet_train.redaction import redacted_tree
from hornet_train.track.durable_files import AppendOnlyFile, write_bytes
from hornet_train.track.events import Event, number, scalars, strict_json
from hornet_train.untrusted import open_regular, parse_json

__all__ = ["Event", "JsonlSink", "Sink", "TensorBoardSink", "read_events", "rewind"]

_MAX_LINE = 10**6  # bytes; a longer line is not an event
_STEP_LIMIT = 2**53  # a float64 cannot represent all integers above
_log = logging.getLogger("hornet_train")


class Sink(Protocol):
    """Receives the events of a run, in order. Only rank 0 has sinks."""

    def write(self, event: Mapping[str, Any]) -> None:
        """Write one event."""

    def close(self) -> None:
        """Finish; may be called twice."""


class JsonlSink:
    """Appends a line to a file for each event. Neither a kill nor a full disk loses one."""

    def __init__(self, path: str | Path) -> None:
        """Open `path`; create it if it is missing. An incomplete last line, left by a kill, is removed."""
        path = Path(path)
        if path.exists():
            data = _read_all(path)
            complete = _complete_lines(data)
            if complete != data:
                write_bytes(path, complete)
        self._file = AppendOnlyFile(path)

    def write(self, event: Mapping[str, Any]) -> None:
        """Append the event as one line.

        Raises:
            TypeError: a value has a type that JSON does not have.
        """
        self._file.append(_to_line(event))

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class TensorBoardSink:
    """Scalars `train/loss`, `eval/ema/top1`, ... by step in TensorBoard's event files.

    TensorBoard's own SummaryWriter is not used: its thread ends with a traceback when the disk is full.
    """

    def __init__(self, folder: str | Path, resume_step: int | None = None) -> None:
        """`resume_step`: step of the checkpoint that the run resumes from; later steps written before are
        hidden."""
        from tensorboard.compat.proto.event_pb2 import Event as Record
        from tensorboard.compat.proto.event_pb2 import SessionLog
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._record, self._summary, self._writer = Record, Summary, RecordWriter
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self._file = AppendOnlyFile(folder / _event_file(folder))
        self._append(file_version="brain.Event:2")
        self._start = SessionLog(status=SessionLog.START)
        if resume_step is not None:
            self._hide_after(resume_step)

    def write(self, event: Mapping[str, Any]) -> None:
        """Write the numbers of an event that has a step."""
        if "step" not in event:
            return
        if event.get("event") == "rollback":
            self._hide_after(event["step"])
        values = [self._summary.Value(tag=name, simple_value=value) for name, value in scalars(event).items()]
        if values:
            self._append(step=event["step"], summary=self._summary(value=values))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _hide_after(self, step: int) -> None:
        """Hide what was written for later steps: TensorBoard drops all at or after the step of a START."""
        self._append(step=step + 1, session_log=self._start)

    def _append(self, **what: Any) -> None:
        framed = io.BytesIO()
        self._writer(framed).write(self._record(wall_time=time.time(), **what).SerializeToString())
        self._file.append(framed.getvalue())


def _event_file(folder: Path) -> str:
    """A file name that sorts after all others there, since TensorBoard reads them in the order of names; even
    if the clock was set back."""
    stamps = [path.name.split(".")[3] for path in folder.glob("events.out.tfevents.*.*")]
    newest = max((int(stamp) for stamp in stamps if stamp.isdecimal()), default=-1)
    return (
        f"events.out.tfevents.{max(int(time.time()), newest + 1):010d}.{socket.gethostname()}.{os.getpid()}"
    )


def read_events(path: str | Path) -> list[Event]:
    """The events of a metrics.jsonl, also of a run that is being written or was killed while writing.

    An incomplete last line is left out silently, a damaged line before it with a warning.

    Raises:
        FileNotFoundError: there is no such file.
    """
    lines = _complete_lines(_read_all(Path(path))).splitlines()
    events = [event for line in lines if (event := _parse(line)) is not None]
    damaged = sum(1 for line in lines if line.strip()) - len(events)
    if damaged:
        _log.warning("%s: %d damaged line(s) left out", path, damaged)
    return events


def rewind(path: str | Path, step: int, *, again: frozenset[str] = frozenset(), rollbacks: int = 0) -> int:
    """Remove the events that a run wrote after the step that it resumes from, so that no step is there twice.

    Events before the last rollback stay, even those of later steps: the checkpoint was written after that.
    An event without a step belongs to the step of the event before it. Incomplete and damaged lines are
    removed too. The file is replaced atomically.

    Args:
        path: a metrics.jsonl.
        step: that of the checkpoint that the run resumes from; events of later steps are removed.
        again: kinds of events that the run will write again for `step` itself; they are removed there.
        rollbacks: number of rollbacks of the run when the checkpoint was written.

    Returns:
        The number of lines removed; 0 if there is no file.
    """
    path = Path(path)
    if not path.exists():
        return 0
    data = _read_all(path)
    lines = [line for line in data.splitlines() if line.strip()]
    events = [(line, event) for line in lines if (event := _parse(line)) is not None]
    settled = 0  # number of events up to the last rollback before the checkpoint; they all stay
    for count, (_, event) in enumerate(events, 1):
        if rollbacks and event.get("event") == "rollback" and event.get("count") == rollbacks:
            settled = count
    remaining: list[bytes] = []
    current = 0.0
    for place, (line, event) in enumerate(events):
        own_step = number(event.get("step"))
        current = current if own_step is None else own_step
        if place < settled or current < step or (current == step and event.get("event") not in again):
            remaining.append(line + b"\n")
    new_data = b"".join(remaining)
    if new_data != data:
        write_bytes(path, new_data)
    return len(lines) - len(remaining)


def _read_all(path: Path) -> bytes:
    """The content, without a limit of size: it grows with the run. Raises OSError if it is not a regular
    file."""
    with open_regular(path) as file:
        return file.readall()


def _to_line(event: Mapping[str, Any]) -> bytes:
    """An event as one line of strict JSON, without secrets."""
    event = as_text_tree(redacted_tree(strict_json(event)))
    return json.dumps(event, allow_nan=False, ensure_ascii=False).encode("utf-8") + b"\n"


def _parse(line: bytes) -> Event | None:
    """The event of a line; None if the line is not a valid event."""
    try:
        event = parse_json(line, _MAX_LINE)
    except ValueError:
        return None
    if not isinstance(event, dict) or not isinstance(event.get("event", ""), str):
        return None
    at = event.get("step", 0)
    return event if type(at) is int and 0 <= at < _STEP_LIMIT else None


def _complete_lines(data: bytes) -> bytes:
    """`data` without an incomplete last line.

    A part of a JSON object never parses, so a last line that parses only lacks its line feed, which is added.
    """
    end = data.rfind(b"\n") + 1
    if end == len(data):
        return data
    return data + b"\n" if _parse(data[end:]) is not None else data[:end]
