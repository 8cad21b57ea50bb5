"""W&B: one run over two processes, offline, by the real package; and nothing it does can stop a training."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hornet_train.track import wandb_sink
from hornet_train.track.durable_files import read_json
from hornet_train.track.sinks import JsonlSink, rewind
from hornet_train.track.wandb_sink import WandbSink, logged_in

PROCESS = """
import os, signal, sys, time
from pathlib import Path
from hornet_train.track.sinks import JsonlSink
from hornet_train.track.wandb_sink import WandbSink

first, last, top1, end = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
Path("run").mkdir(exist_ok=True)
sinks = [JsonlSink("run/metrics.jsonl"), WandbSink("run", {"optim": {"lr": 0.004}}, project="hornet")]
for step in range(first, last + 1):
    event = {"event": "train", "step": step, "epoch": step / 10, "loss": 1 / step}
    [sink.write(event) for sink in sinks]
event = {"event": "eval", "step": last, "epoch": last / 10, "weights": "ema", "top1": top1}
[sink.write(event) for sink in sinks]
if end == "killed":
    time.sleep(1)
    os.kill(os.getpid(), signal.SIGKILL)
[sink.close() for sink in sinks]
"""


@pytest.fixture(autouse=True)
def nobody_logged_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_BASE_URL", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))


def records(path: Path) -> list[Any]:
    """The records of a .wandb file: LevelDB's log format, blocks of 32 KiB, after a header of 7 bytes."""
    from wandb.proto import wandb_internal_pb2

    data, at, parts, found = path.read_bytes(), 7, b"", []
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        if kind == 0 or at + 7 + length > len(data):
            break
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # complete, or the last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            found.append(record)
            parts = b""
    return found


def test_a_run_killed_and_resumed_is_one_run_offline(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()

    def process(*arguments: object) -> None:
        command = [sys.executable, "-W", "error::UserWarning", "-c", PROCESS, *map(str, arguments)]
        run = subprocess.run(command, cwd=work, capture_output=True, timeout=120)
        assert run.returncode == (-9 if "killed" in arguments else 0), run.stderr
        assert run.stdout + run.stderr == b""  # it says nothing

    process(1, 50, 97.5, "killed")
    assert rewind(work / "run/metrics.jsonl", 40) == 11
    process(41, 60, 98.5, "closed")
    process(61, 70, 98.0, "closed")

    assert [p.name for p in work.iterdir()] == ["run"]  # all of it in the run folder
    files = sorted((work / "run/wandb").glob("offline-run-*/*.wandb"))
    assert len(files) == 3  # the first may be empty: wandb writes by blocks of 32 KiB
    parts = [records(path) for path in files[1:]]
    runs = [next(r.run for r in part if r.WhichOneof("record_type") == "run") for part in parts]
    assert {run.run_id for run in runs} == {read_json(work / "run/wandb_run.json")["id"]}
    assert {(run.project, run.display_name) for run in runs} == {("hornet", "run")}
    assert {u.key: json.loads(u.value_json) for u in runs[0].config.update}["optim"] == {"lr": 0.004}

    def rows(part: list[Any]) -> list[dict[str, str]]:
        histories = [r.history for r in part if r.WhichOneof("record_type") == "history"]
        return [{i.key or ".".join(i.nested_key): i.value_json for i in h.item} for h in histories]

    histories = [rows(part) for part in parts]
    # 41 to 50 are logged again after the kill, at their own steps, and no two parts have the same row
    assert [int(row["step"]) for row in histories[0]] == [*range(41, 61), 60]
    assert [int(row["step"]) for row in histories[1]] == [*range(61, 71), 70]
    assert histories[0][0]["train/loss"].startswith("0.0243")
    numbers = [int(row["_step"]) for part in histories for row in part]
    assert numbers == sorted(set(numbers))
    assert numbers[0] >= 51
    metrics = [r.metric for part in parts for r in part if r.WhichOneof("record_type") == "metric"]
    assert any(metric.step_metric == "step" for metric in metrics)

    def best(part: list[Any]) -> dict[str, str]:
        updates = [u for r in part if r.WhichOneof("record_type") == "summary" for u in r.summary.update]
        items = {u.key or "/".join(u.nested_key): u.value_json for u in updates}
        return {key: value for key, value in items.items() if key.startswith("best/")}

    assert best(parts[0]) == {"best/top1": "98.5", "best/step": "60", "best/weights": '"ema"'}
    assert best(parts[1]) == best(parts[0])  # 98.0 is no better; the best is known from before


class Broken:
    """A wandb module with one function that raises."""

    def __init__(self, broken: str, fault: BaseException) -> None:
        self._broken, self._fault = broken, fault
        self.calls: list[str] = []
        self.step, self.url, self.offline, self.dir, self.id = 0, "", True, "x", "id"
        self.summary = self

        class Settings(dict[str, Any]):
            model_fields: dict[str, Any] = {}  # noqa: RUF012

        self.Settings = Settings

    def _call(self, name: str) -> Callable[..., Any]:
        def call(*arguments: object, **named: object) -> Broken:
            self.calls.append(name)
            if name == self._broken:
                raise self._fault
            return self

        return call

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return self._call(name)


@pytest.mark.parametrize("broken", ["setup", "init", "define_metric", "log", "update", "finish"])
@pytest.mark.parametrize("fault", [RuntimeError("no\nluck"), SystemExit(1)])
def test_an_error_is_logged_once_and_the_training_continues(
    broken: str,
    fault: BaseException,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    fake = Broken(broken, fault)
    monkeypatch.setitem(sys.modules, "wandb", fake)  # type: ignore[arg-type]
    with caplog.at_level(logging.WARNING, "hornet_train"):
        sink = WandbSink(tmp_path / "run", {}, "p", mode="offline")
        for step in range(3):
            sink.write({"event": "train", "step": step, "loss": 1.0})
            sink.write({"event": "eval", "step": step, "weights": "model", "top1": float(step)})
        sink.close()
        sink.close()
    assert broken in fake.calls
    assert len(caplog.records) == 1
    assert "off from here on" in caplog.text
    assert type(fault).__name__ in caplog.text
    assert fake.calls.count(broken) == 1


def test_a_finish_that_hangs_does_not_stop_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import threading

    fake, never = Broken("", RuntimeError()), threading.Event()
    fake.finish = never.wait  # type: ignore[method-assign]
    monkeypatch.setitem(sys.modules, "wandb", fake)  # type: ignore[arg-type]
    monkeypatch.setattr(wandb_sink, "_FINISH_SECONDS", 0.2)
    sink = WandbSink(tmp_path / "run", {}, "p", mode="offline")
    sink.close()
    never.set()
    assert "did not finish" in caplog.text


def test_a_server_out_of_reach_means_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    modes: list[object] = []
    fake = Broken("", RuntimeError())

    def init(**named: Any) -> Broken:
        modes.append(named["mode"])
        if named["mode"] != "offline":
            raise ConnectionError("no route to host")
        return fake

    fake.init = init  # type: ignore[method-assign]
    monkeypatch.setitem(sys.modules, "wandb", fake)  # type: ignore[arg-type]
    sink = WandbSink(tmp_path / "run", {}, "p", mode="online")
    sink.write({"event": "train", "step": 1, "loss": 1.0})
    sink.close()
    assert modes == ["online", "offline"]
    assert "no route to host" in caplog.text
    assert fake.calls.count("log") == 1
    assert "offline-run-" in sink.where


def test_who_is_logged_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert not logged_in()
    netrc = tmp_path / "home" / ".netrc"
    netrc.write_text("machine api.wandb.ai login user password secret\n")
    netrc.chmod(0o600)
    assert logged_in()
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org:8443")
    assert not logged_in()
    monkeypatch.setenv("WANDB_API_KEY", "k")
    assert logged_in()


def test_the_best_so_far_is_read_from_metrics_jsonl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events = JsonlSink(tmp_path / "metrics.jsonl")
    events.write({"event": "eval", "step": 5, "weights": "ema", "top1": 99.0})
    events.close()
    fake = Broken("", RuntimeError())
    monkeypatch.setitem(sys.modules, "wandb", fake)  # type: ignore[arg-type]
    sink = WandbSink(tmp_path, {}, "p", mode="offline")
    sink.write({"event": "eval", "step": 6, "weights": "ema", "top1": 98.0})
    sink.close()
    assert fake.calls.count("update") == 1
