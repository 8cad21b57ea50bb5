"""curves.png is drawn from any metrics.jsonl: unfinished, with gaps, of another task."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest

from hornet_train.errors import DataError
from hornet_train.report import curves
from hornet_train.report.curves import CurvesSink, draw_curves
from hornet_train.tasks.classification.metrics import METRICS
from hornet_train.track.sinks import JsonlSink

Event = dict[str, object]


def events(
    epochs: int, metrics: tuple[str, ...] = ("top1", "top5"), weights: tuple[str, ...] = ("model", "ema")
) -> list[Event]:
    """The events of a run of `epochs` epochs of 20 steps, with an evaluation after each."""
    result: list[Event] = []
    for step in range(1, epochs * 20 + 1):
        at: Event = {"step": step, "epoch": step / 20}
        speed = {"images_per_second": 900.0 + step % 7, "data_wait": 0.05, "lr": 1e-3 / step}
        result.append({"event": "train", **at, "loss": 2 / math.sqrt(step), **speed})
        if step % 20 == 0:
            for i, kind in enumerate(weights):
                values = dict.fromkeys(metrics, 99 - 80 / step + i)
                result.append(
                    {"event": "eval", **at, "weights": kind, "loss": 1 / step, **values, "count": 360}
                )
    return result


def run(folder: Path, *recorded: Event) -> Path:
    """A run folder with these events in metrics.jsonl."""
    folder.mkdir(exist_ok=True)
    sink = JsonlSink(folder / "metrics.jsonl")
    for event in recorded:
        sink.write(event)
    sink.close()
    return folder


CASES: dict[str, list[Event]] = {
    "nothing yet": [],
    "no evaluation yet": events(1)[:10],
    "one event of each kind": [events(1)[0], events(1)[-1]],
    "a complete run": events(12),
    "no averaged weights": events(3, weights=("model",)),
    "another task": events(6, metrics=("pixel_accuracy", "mean_iou")),
    "gaps and other events": [
        {"event": "resumed", "step": 0},
        {"event": "train", "step": 1, "epoch": 0.1, "loss": float("nan"), "lr": 0.1},
        {"event": "bad_sample", "file": "x.jpg"},
        {"event": "eval", "step": 1, "epoch": 0.1, "weights": "model", "loss": float("inf"), "top1": 0.0},
        {"event": "train", "step": 2, "loss": 1.0},
    ],
    "before the first epoch": [{"event": "train", "step": s, "epoch": 0, "loss": 1.0} for s in (1, 2)],
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.filterwarnings("error")
def test_any_run_is_drawn(case: str, tmp_path: Path) -> None:
    path = draw_curves(run(tmp_path / "run", *CASES[case]), METRICS)
    assert path == tmp_path / "run" / "curves.png"
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert int.from_bytes(data[16:20], "big") > 1200  # pixels across


def test_the_same_events_give_the_same_bytes(tmp_path: Path) -> None:
    import matplotlib

    first = draw_curves(run(tmp_path / "run", *events(5))).read_bytes()
    with matplotlib.rc_context({"font.size": 30}):  # a user's own style
        assert draw_curves(tmp_path / "run").read_bytes() == first
        assert matplotlib.rcParams["font.size"] == 30
    assert (
        "matplotlib.pyplot" not in sys.modules
        or "hornet_train" not in sys.modules["matplotlib.pyplot"].__dict__
    )
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == ["curves.png", "metrics.jsonl"]


def test_a_folder_without_metrics_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no metrics\.jsonl"):
        draw_curves(tmp_path)


def test_the_sink_draws_after_evaluations_at_most_every_min_seconds_and_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[float] = []
    clock = [0.0]
    monkeypatch.setattr(curves, "draw_curves", lambda _folder, _table: drawn.append(clock[0]))
    monkeypatch.setattr(curves.time, "monotonic", lambda: clock[0])
    sink = CurvesSink(tmp_path, min_seconds=60)
    for minute in range(5):
        clock[0] = 25.0 * (minute + 1)
        sink.write({"event": "train", "step": minute, "loss": 1.0})
        sink.write({"event": "eval", "step": minute, "weights": "model", "top1": 1.0})
    assert drawn == [75]  # a run that ends before is drawn once
    sink.close()
    sink.close()
    assert drawn == [75, 125]


def test_a_failed_drawing_is_only_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run(tmp_path, *events(1))
    (tmp_path / "curves.png").mkdir()
    sink = CurvesSink(tmp_path)
    sink.write(events(1)[-1])
    sink.close()
    assert "curves.png cannot be drawn" in caplog.text
