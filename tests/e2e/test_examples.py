"""The examples do what they say; own_task.py and run_onnx.py have tests of their own."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from helpers import ROOT, run

from hornet_train.config.onnx_texts import onnx_texts


def test_from_python(tmp_path: Path) -> None:
    short = ["epochs=2it", "schedule.warmup=0it", "data.workers=0", "dist=cpu"]
    done = run(sys.executable, str(ROOT / "examples/from_python.py"), *short, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    answer, features, accuracy, exported = done.stdout.splitlines()
    assert answer.split()[1] in map(str, range(10))
    assert features.startswith("features: (128,)")
    assert 0 <= float(accuracy.removeprefix("top-1: ")) <= 100
    assert exported.startswith("exported: examples_out/digits.onnx largest difference")
    texts = onnx_texts(tmp_path / "examples_out/digits.onnx")
    assert json.loads(texts["classes"]) == [str(number) for number in range(10)]
    further = (tmp_path / "examples_out/further/config.yaml").read_text()
    assert "init_from: " in further
    assert "examples_out/first" in further
