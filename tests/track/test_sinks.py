"""metrics.jsonl stays valid: after a kill while writing, a resume at an earlier step, and with NaN."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hornet_train.tasks.classification.metrics import METRICS
from hornet_train.track.events import best_result, scalars, without_undone
from hornet_train.track.metric_table import MetricInfo, MetricTable
from hornet_train.track.sinks import JsonlSink, TensorBoardSink, read_events, rewind


def write(path: Path, *events: dict[str, object]) -> None:
    sink = JsonlSink(path)
    for event in events:
        sink.write(event)
    sink.close()


def train(step: int, **values: object) -> dict[str, object]:
    return {"event": "train", "step": step, "epoch": step / 10, "loss": 1.0, **values}


def strict(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")


def test_lines_are_strict_json_and_list_nonfinite_values(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, train(1, loss=float("nan"), grad_norm=float("inf")), train(2, note="größer"))
    first, second = (json.loads(line, parse_constant=strict) for line in path.read_text("utf-8").splitlines())
    assert first["loss"] is None
    assert first["nonfinite"] == {"loss": "nan", "grad_norm": "inf"}
    assert second == train(2, note="größer")


def test_an_event_is_on_disk_before_the_next_one(tmp_path: Path) -> None:
    sink = JsonlSink(tmp_path / "m.jsonl")
    sink.write(train(1))
    assert read_events(tmp_path / "m.jsonl") == [train(1)]
    sink.close()


def test_an_incomplete_last_line_is_left_out_when_read_or_resumed(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    write(path, train(1), train(2))
    data = path.read_bytes()
    first = data.index(b"\n") + 1
    for end in range(first, len(data) + 1):
        path.write_bytes(data[:end])
        complete = end >= len(data) - 1  # only the line feed is missing
        assert [e["step"] for e in read_events(path)] == ([1, 2] if complete else [1])
        write(path, train(3))
        assert [e["step"] for e in read_events(path)] == ([1, 2, 3] if complete else [1, 3])


def test_rewind_removes_events_after_the_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    saved = {"event": "checkpoint", "step": 20}
    lost = [train(30), {"event": "bad_sample", "file": "x.jpg"}]  # no step: it belongs to 30
    write(path, {"event": "begin"}, train(10), train(20), saved, *lost)
    with open(path, "ab") as file:
        file.write(b'{"event": "train", "st')
    assert rewind(path, 20) == 3
    assert read_events(path) == [{"event": "begin"}, train(10), train(20), saved]
    inode = path.stat().st_ino
    assert rewind(path, 20) == 0
    assert path.stat().st_ino == inode  # nothing to drop, nothing written
    assert rewind(path, 0) == 3
    assert rewind(tmp_path / "absent.jsonl", 5) == 0
    assert [p.name for p in tmp_path.iterdir()] == ["m.jsonl"]


def test_rewind_keeps_what_a_run_did_before_it_went_back(tmp_path: Path) -> None:
    """Back from 30 to 10, then a checkpoint of step 20: the steps before the rollback stay, as they were."""
    path = tmp_path / "m.jsonl"
    back = {"event": "rollback", "step": 10, "count": 1}
    again = {"event": "rollback", "step": 20, "count": 2}
    settled = [train(10), train(20), train(30), back, train(20)]
    write(path, *settled, train(40), again, train(50))
    assert rewind(path, 20, again=frozenset({"rollback"}), rollbacks=1) == 3
    assert read_events(path) == settled
    assert rewind(path, 10, again=frozenset({"rollback"})) == 4  # the checkpoint of step 10 knows of none
    assert read_events(path) == [train(10)]


def test_a_damaged_line_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "m.jsonl"
    path.write_bytes(b'{"step": 1}\n\xff\x00garbage\n{"step": 2}\n')
    assert read_events(path) == [{"step": 1}, {"step": 2}]
    assert "1 damaged line" in caplog.text
    assert rewind(path, 1) == 2


WRITER = """
import sys
from hornet_train.track.sinks import JsonlSink
sink = JsonlSink(sys.argv[1])
for step in range(10**9):
    sink.write({"event": "train", "step": step, "text": "x" * 20000})
"""


def test_killed_again_and_again_then_resumed(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    chance = random.Random(0)
    for _ in range(4):
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)])
        size, until = (path.stat().st_size if path.exists() else 0), time.monotonic() + 30
        while (not path.exists() or path.stat().st_size <= size) and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(chance.random() / 50)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        steps = [event["step"] for event in read_events(path)]
        assert steps == list(range(len(steps)))
        assert steps
        last = steps[-1] // 2
        rewind(path, last)
        assert [event["step"] for event in read_events(path)] == steps[: last + 1]
        path.unlink()


@contextmanager
def no_room_beyond(size: int) -> Iterator[None]:
    """Files grow to `size` bytes: a longer write ends there, and the next one fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("room", [0, 1, 40, 100])
def test_a_full_disk_costs_no_event(tmp_path: Path, caplog: pytest.LogCaptureFixture, room: int) -> None:
    path = tmp_path / "m.jsonl"
    sink = JsonlSink(path)
    sink.write(train(1))
    with no_room_beyond(path.stat().st_size + room):
        for step in (2, 3, 4):
            sink.write(train(step))
            assert read_events(path) == [train(s) for s in range(1, 3 if room == 100 else 2)]
    assert caplog.text.count("m.jsonl cannot be written (File too large)") == 1
    sink.write(train(5))
    assert path.read_bytes().count(b"\n") == 5
    assert read_events(path) == [train(step) for step in range(1, 6)]
    assert "m.jsonl is written again, and nothing is missing in it" in caplog.text
    with no_room_beyond(path.stat().st_size):
        sink.write(train(6))
        sink.close()
    assert "m.jsonl lacks its last 1 record(s)" in caplog.text
    assert read_events(path) == [train(step) for step in range(1, 6)]
    sink.close()


def test_a_full_disk_costs_tensorboard_nothing(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    sink = TensorBoardSink(tmp_path)
    with no_room_beyond(100):
        for step in (1, 2, 3):
            sink.write(train(step))
    sink.write(train(4))
    sink.close()
    shown = EventAccumulator(str(tmp_path))
    shown.Reload()
    assert [s.step for s in shown.Scalars("train/loss")] == [1, 2, 3, 4]


def test_invalid_lines_are_ignored(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text('{"step": 1}\n{"step": "x"}\n{"step": null}\n[1]\n' + "[" * 99999 + '\n{"step": 2}\n')
    assert rewind(path, 1) == 5
    assert read_events(path) == [{"step": 1}]
    assert best_result([{"event": "eval", "step": None, "top1": 5.0}]) is not None


def test_tensorboard_shows_each_step_once_after_a_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    result = {"event": "eval", "step": 20, "weights": "ema", "top1": 98.5}
    for resume_step, events in (
        (None, [train(10), train(20), result, train(30)]),
        (20, [train(30, loss=0.5)]),
    ):
        sink = TensorBoardSink(tmp_path, resume_step)
        for event in events:
            sink.write(event)
        sink.close()
        monkeypatch.setattr(time, "time", lambda: 1000.0)  # files are read in their order, not the clock's
    shown = EventAccumulator(str(tmp_path))
    shown.Reload()
    assert [(s.step, s.value) for s in shown.Scalars("train/loss")] == [(10, 1.0), (20, 1.0), (30, 0.5)]
    assert [(s.step, s.value) for s in shown.Scalars("eval/ema/top1")] == [(20, 98.5)]


def test_the_best_is_the_first_highest_headline_of_any_task() -> None:
    def result(step: int, weights: str, **metrics: object) -> dict[str, object]:
        return {"event": "eval", "step": step, "epoch": step / 10, "weights": weights, "loss": 9.0, **metrics}

    events = [
        result(10, "model", top5=99.0, top1=90.0, count=360),
        result(20, "ema", top5=99.9, top1=95.0, count=360),
        result(30, "model", top5=100.0, top1=95.0, count=360),
        result(40, "model", top5=100.0, top1=float("nan"), count=360),
    ]
    best = best_result(events, METRICS)
    assert best is not None
    assert (best.metric, best.value, best.step, best.weights) == ("top1", 95.0, 20, "ema")
    lowest = MetricTable((MetricInfo("top1", "error", direction="min"),))
    worst = best_result(events, lowest)
    assert worst is not None
    assert (worst.value, worst.step) == (90.0, 10)
    dense = best_result([result(5, "model", mean_iou=0.4, pixel_accuracy=0.9)])
    assert dense is not None
    assert dense.metric == "mean_iou"
    assert best_result([train(1)]) is None
    assert scalars(events[0])["eval/model/top1"] == 90.0


def test_events_of_undone_steps_are_left_out_after_a_rollback(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    best = {"event": "eval", "step": 30, "weights": "ema", "top1": 99.0}
    back = {"event": "rollback", "step": 10, "failed_at": 30}
    skipped = {"event": "skipped_step", "step": 30}
    events = [train(10), train(20), best, train(30), skipped, back, train(20, loss=0.5)]
    sink = TensorBoardSink(tmp_path)
    for event in events:
        sink.write(event)
    sink.close()
    shown = EventAccumulator(str(tmp_path))
    shown.Reload()
    assert [(s.step, s.value) for s in shown.Scalars("train/loss")] == [(10, 1.0), (20, 0.5)]
    assert without_undone(events) == [train(10), skipped, back, train(20, loss=0.5)]
    assert best_result(without_undone(events)) is None
