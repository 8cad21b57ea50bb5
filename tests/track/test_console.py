"""The console on a pipe, on a terminal and on a stream that breaks; real processes."""

from __future__ import annotations

import fcntl
import io
import os
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from hornet_train.track.console import ConsoleSink, NullConsole
from hornet_train.track.text import duration, short

RUN = """
import logging, time
from hornet_train.tasks.classification.metrics import METRICS
from hornet_train.track.console import ConsoleHandler, ConsoleSink

console = ConsoleSink(60, 20, line_seconds=3600, metrics=METRICS)
logging.getLogger("hornet_train").addHandler(ConsoleHandler(console))
console.start_panel({"model": "hornet_pico_gf", "data": ["digits", "1,437 to train on [x]"]}, "hornet-train")
for step in range(1, 61):
    time.sleep(0.01)
    console.advance(step)
    console.write({"event": "train", "step": step, "epoch": step / 20, "loss": 2 / step, "lr": 1e-3,
                   "grad_norm": None, "images_per_second": 1234.5, "data_wait": 0.034})
    if step % 20 == 0:
        for weights, top1 in (("model", 90.0), ("ema", 98.25)):
            console.write({"event": "eval", "step": step, "epoch": step / 20, "weights": weights,
                           "loss": 0.5, "top1": top1, "top5": 99.9, "count": 360})
    if step % 10 == 0:
        console.write({"event": "skipped_step", "step": step})
logging.getLogger("hornet_train").warning("careful now")
console.say("a line that is much longer than any terminal is wide: " + "x" * 300)
console.close()
console.table("results", ["weights", "top1"], [["model", "90.00%"], ["ema", "98.25%"]])
"""


def test_a_log_file_gets_plain_lines_now_and_then() -> None:
    run = subprocess.run([sys.executable, "-W", "error", "-c", RUN], capture_output=True, timeout=60)
    assert run.returncode == 0, run.stderr
    out, err = run.stdout.decode(), run.stderr.decode()
    assert not re.search(r"[^\n\x20-\x7e]", out + err)  # no control character, no drawing
    lines = out.splitlines()
    assert lines[:4] == [
        "hornet-train",
        "  model  hornet_pico_gf",
        "  data   digits",
        "         1,437 to train on [x]",
    ]
    # the first and the last; no more within line_seconds
    steps = [line for line in lines if line.startswith("step ")]
    assert [line.split()[1] for line in steps] == ["1/60", "60/60"]
    assert "loss 0.03333  lr 0.001  1,234 images/s  data wait 3%  ETA 0:00" in steps[1]
    evals = [line for line in lines if line.startswith("eval")]
    assert len(evals) == 6
    assert evals[1] == "eval   step 20  epoch 1  ema  top1 98.25%  top5 99.90%  loss 0.5  (360 images)"
    assert any(line.endswith("x" * 300) for line in lines)
    assert lines[-4:] == ["weights    top1", "-------  ------", "model    90.00%", "ema      98.25%"]
    assert err.splitlines() == [
        "warning: skipped_step  step 10",
        "warning: careful now",
        "warning: skipped_step: 5 more",
    ]


def on_terminal(columns: int) -> str:
    """What RUN writes to a terminal of that width."""
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    kept = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES", "NO_COLOR")}
    environment = {**kept, "TERM": "xterm-256color", "PYTHONUTF8": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", RUN], stdin=theirs, stdout=theirs, stderr=theirs, env=environment
    )
    os.close(theirs)
    data = b""
    try:
        while chunk := os.read(ours, 1 << 16):
            data += chunk
    except OSError:  # how Linux says that the other side is closed
        pass
    os.close(ours)
    assert process.wait(timeout=60) == 0, data
    return data.decode()


@pytest.mark.parametrize("columns", [80, 140])
def test_a_terminal_gets_one_bar_with_the_results_above(columns: int) -> None:
    shown = on_terminal(columns)
    assert "\x1b[" in shown
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown).replace("\r", "\n")
    assert "╭─ hornet-train" in text
    bars = [line for line in text.splitlines() if line.startswith("epoch ")]
    assert len(bars) < 60  # not a redraw for every step
    last = bars[-1]
    assert len(last) <= columns
    assert last.startswith("epoch 3.0/3  step 60/60 ━" if columns == 140 else "epoch 3.0/3 ━")
    assert "loss 0.033  top1 98.25%  1,234 img/s  wait 3% ETA 0:00" in last  # the better of model and ema
    assert len(re.findall(r"^eval ", text, re.M)) == 6
    assert "step 1/60  epoch" not in text  # no train lines beside the bar
    assert "warning: careful now" in text
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h")  # the cursor is back


@pytest.mark.parametrize("reader", ["exec 0<&-; sleep 2", "head -n 1 > /dev/null"])
def test_a_closed_pipe_does_not_end_the_run(reader: str, tmp_path: Path) -> None:
    (tmp_path / "run.py").write_text(RUN + "\nimport sys\nprint('ends well', file=sys.stderr)\n")
    command = f"{sys.executable} run.py 2> err | ({reader}); exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, timeout=60)
    assert (tmp_path / "err").read_text().splitlines()[-1] == "ends well"
    assert done.returncode == 0


def test_a_full_disk_does_not_end_the_run(tmp_path: Path) -> None:
    (tmp_path / "run.py").write_text(RUN)
    done = subprocess.run(["bash", "-c", f"{sys.executable} run.py > /dev/full"], cwd=tmp_path, timeout=60)
    assert done.returncode == 0


def test_an_ascii_stream_and_a_closed_one() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    console = ConsoleSink(10, 10, stream=stream)
    console.say("7 × 7")
    assert raw.getvalue() == b"7 ? 7\n"
    stream.close()
    console.say("nobody hears")
    console.close()
    NullConsole().say("nor this")


def test_durations_and_numbers() -> None:
    assert [duration(s) for s in (None, 5.2, 3723, 200000)] == ["-:--", "0:05", "1:02:03", "2d 07:33:20"]
    assert [short(v) for v in (1437, 0.0, 1e-5, 0.12345, 12345.6, True, float("nan"), "x")] == [
        *("1,437", "0", "1.000e-05", "0.1235", "12,346", "True", "nan", "x")
    ]
