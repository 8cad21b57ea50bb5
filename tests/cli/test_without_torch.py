"""A mistake in the command line is answered before torch and timm are imported, which takes seconds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from helpers import ROOT

OLD_RUN = ROOT / "tests" / "old_run" / "run"
PROGRAM = """
import contextlib, io, json, sys
from hornet_train.cli import bench, evaluate, export, info, predict, train
entries = {"hornet-train": train, "hornet-eval": evaluate, "hornet-info": info, "hornet-bench": bench}
entries |= {"hornet-predict": predict, "hornet-export": export}
said = []
for name, *arguments in json.loads(sys.argv[1]):
    with contextlib.redirect_stderr(io.StringIO()) as err, contextlib.suppress(SystemExit):
        entries[name].main(arguments)
    heavy = [one for one in ("torch", "timm", "numba") if one in sys.modules]
    said.append([err.getvalue(), heavy])
print(json.dumps(said))
"""
CASES = [
    (["hornet-train", "bach_size=3"], "did you mean 'batch_size'?"),
    (["hornet-train", "model=hornet_tiny"], "no such option of model"),
    (["hornet-train", "-m", "bach_size=3", "seed=1,2"], "did you mean 'batch_size'?"),
    (["hornet-train", f"run_dir={OLD_RUN}", "bach_size=3"], "did you mean 'batch_size'?"),
    (["hornet-eval", f"checkpoint={OLD_RUN}", "data.root=x"], "data=digits has none"),
    (["hornet-eval", f"checkpoint={OLD_RUN}/checkpoints/best", "bach_size=3"], "did you mean 'batch_size'?"),
    (["hornet-eval", f"checkpoint={OLD_RUN}/checkpoints/step_00000020/model.safetensors", "b=3"], "key b:"),
    (["hornet-eval", "checkpoint=official.pth", "bach_size=3"], "did you mean 'batch_size'?"),
    (["hornet-info", "mdel=hornet_s_gf"], "did you mean 'model'?"),
    (["hornet-bench", "step", "roundz=3"], "did you mean 'rounds'?"),
    (["hornet-predict", f"checkpoint={OLD_RUN}", "a.jpg", "--topp", "3"], "did you mean '--top'?"),
    (["hornet-predict", f"checkpoint={OLD_RUN}", "a.jpg", "bach_size=3"], "did you mean 'batch_size'?"),
    (["hornet-predict", f"checkpoint={OLD_RUN}", "a.jpg", "--out", "x.xml"], "its suffix is none of"),
    (["hornet-export", f"checkpoint={OLD_RUN}", "--format", "onxn", "--out", "x"], "did you mean 'onnx'?"),
]


def test_mistakes_are_answered_at_once(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps([given for given, _ in CASES])],
        cwd=tmp_path,
        env={**os.environ, "COLUMNS": "80"},
        capture_output=True,
        text=True,
        check=True,
    )
    for (given, message), (said, heavy) in zip(CASES, json.loads(done.stdout), strict=True):
        assert message in said, given
        assert heavy == [], given
