"""Where events go: a protocol of two methods, metrics.jsonl, TensorBoard (W&B is in wandb_sink).

metrics.jsonl is the record of a run: every figure and report is made from it. A line is strict JSON. JSON has
no NaN and no infinity, so such a number is written as null and named under "nonfinite":
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

from hornet_train.redaction import redacted_tree
from hornet_train.track.events import Event, number, scalars, strict
from hornet_train.track.files import GrowingFile, write_bytes
from hornet_train.untrusted import open_plain, parse_json

__all__ = ["Event", "JsonlSink", "Sink", "TensorBoardSink", "read_events", "rewind"]

_LONGEST_LINE = 10**6  # bytes; a longer one is no event of ours
_STEPS = 2**53  # from which on a float cannot tell them apart
_log = logging.getLogger("hornet_train")


class Sink(Protocol):
    """Takes the events of a run, in order. Only rank 0 has sinks."""

    def write(self, event: Mapping[str, Any]) -> None:
        """Take one event."""

    def close(self) -> None:
        """Finish; may be called twice."""


class JsonlSink:
    """Appends a line to a file for each event: neither a kill nor a full disk loses one (`GrowingFile`)."""

    def __init__(self, path: str | Path) -> None:
        """Opens `path`, made where absent. A last line that a kill tore off in mid-write is cut away."""
        path = Path(path)
        if path.exists():
            data = _content(path)
            whole = _whole(data)
            if whole != data:
                write_bytes(path, whole)
        self._file = GrowingFile(path)

    def write(self, event: Mapping[str, Any]) -> None:
        """Append the event as one line.

        Raises:
            TypeError: a value that JSON does not know.
        """
        self._file.append(_line(event))

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class TensorBoardSink:
    """Scalars `train/loss`, `eval/ema/top1`, ... by step in TensorBoard's event files.

    Its own SummaryWriter writes from a thread, which dies, with a traceback, of a disk that is full.
    """

    def __init__(self, folder: str | Path, resume_step: int | None = None) -> None:
        """`resume_step`: step of the checkpoint that the run goes on from; what lay beyond is not shown."""
        from tensorboard.compat.proto.event_pb2 import Event as Record
        from tensorboard.compat.proto.event_pb2 import SessionLog
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._record, self._summary, self._writer = Record, Summary, RecordWriter
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self._file = GrowingFile(folder / _event_file(folder))
        self._append(file_version="brain.Event:2")
        self._start = SessionLog(status=SessionLog.START)
        if resume_step is not None:
            self._begin_after(resume_step)

    def write(self, event: Mapping[str, Any]) -> None:
        """Add the numbers of an event that has a step."""
        if "step" not in event:
            return
        if event.get("event") == "rollback":
            self._begin_after(event["step"])
        values = [self._summary.Value(tag=name, simple_value=value) for name, value in scalars(event).items()]
        if values:
            self._append(step=event["step"], summary=self._summary(value=values))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _begin_after(self, step: int) -> None:
        """TensorBoard drops what is at or after a start, so the step itself stays."""
        self._append(step=step + 1, session_log=self._start)

    def _append(self, **what: Any) -> None:
        framed = io.BytesIO()
        self._writer(framed).write(self._record(wall_time=time.time(), **what).SerializeToString())
        self._file.append(framed.getvalue())


def _event_file(folder: Path) -> str:
    """A name after all others there, in whose order TensorBoard reads them, whatever the clock says."""
    stamps = [path.name.split(".")[3] for path in folder.glob("events.out.tfevents.*.*")]
    newest = max((int(stamp) for stamp in stamps if stamp.isdecimal()), default=-1)
    return (
        f"events.out.tfevents.{max(int(time.time()), newest + 1):010d}.{socket.gethostname()}.{os.getpid()}"
    )


def read_events(path: str | Path) -> list[Event]:
    """The events of a metrics.jsonl, also of a run that is being written or was killed in mid-write.

    A torn last line is left out silently (it never was an event); a damaged line before it is left out with a
    warning.

    Raises:
        FileNotFoundError: there is no such file.
    """
    lines = _whole(_content(Path(path))).splitlines()
    events = [event for line in lines if (event := _parse(line)) is not None]
    damaged = sum(1 for line in lines if line.strip()) - len(events)
    if damaged:
        _log.warning("%s: %d damaged line(s) left out", path, damaged)
    return events


def rewind(path: str | Path, step: int, *, again: frozenset[str] = frozenset(), rollbacks: int = 0) -> int:
    """Drop what a run wrote after `step`, that of the checkpoint it goes on from: no step is told twice.

    What it wrote before it last went back stays, of later steps too: the checkpoint was written after that.
    An event without a step belongs to the step of the event before it. Torn and damaged lines go too. The
    file is replaced whole, so a kill here costs nothing.

    Args:
        path: a metrics.jsonl.
        step: what comes after it is dropped.
        again: kinds of events that will be told again at the step itself, and are dropped there too.
        rollbacks: how often the run had gone back when the checkpoint was written.

    Returns:
        The number of lines dropped; 0 where there is no file.
    """
    path = Path(path)
    if not path.exists():
        return 0
    data = _content(path)
    lines = [line for line in data.splitlines() if line.strip()]
    events = [(line, event) for line in lines if (event := _parse(line)) is not None]
    settled = 0  # so many of the first events come before the run went on to `step`
    for place, (_, event) in enumerate(events, 1):
        if rollbacks and event.get("event") == "rollback" and event.get("count") == rollbacks:
            settled = place
    kept: list[bytes] = []
    at = 0.0
    for place, (line, event) in enumerate(events):
        told = number(event.get("step"))
        at = at if told is None else told
        if place < settled or at < step or (at == step and event.get("event") not in again):
            kept.append(line + b"\n")
    whole = b"".join(kept)
    if whole != data:
        write_bytes(path, whole)
    return len(lines) - len(kept)


def _content(path: Path) -> bytes:
    """All of it: its length is the run's. Raises OSError where it is no regular file."""
    with open_plain(path) as file:
        return file.readall()


def _line(event: Mapping[str, Any]) -> bytes:
    """One strict-JSON line, with numbers that JSON cannot say moved to "nonfinite", and without secrets."""
    event = redacted_tree(strict(event))
    return json.dumps(event, allow_nan=False, ensure_ascii=False).encode("utf-8") + b"\n"


def _parse(line: bytes) -> Event | None:
    """The event of a line; None for a line that is none."""
    try:
        event = parse_json(line, _LONGEST_LINE)
    except ValueError:
        return None
    if not isinstance(event, dict) or not isinstance(event.get("event", ""), str):
        return None
    at = event.get("step", 0)
    return event if type(at) is int and 0 <= at < _STEPS else None


def _whole(data: bytes) -> bytes:
    """`data` with a torn last line cut off.

    No part of an object is an object, so a last line that parses was only short of its line feed.
    """
    end = data.rfind(b"\n") + 1
    if end == len(data):
        return data
    return data + b"\n" if _parse(data[end:]) is not None else data[:end]
