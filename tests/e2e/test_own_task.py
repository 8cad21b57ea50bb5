"""A task of a user's own: one file, reached by its name or its path, from anywhere."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import pytest
import torch
from helpers import ROOT, events, run, torchrun
from processes import final, has_logged, started, wait_until

FILE = ROOT / "examples" / "own_task.py"
SMALL = [
    "data.train_count=42",
    "data.val_count=21",
    "data.workers=0",
    "data.drop_last=false",
    "batch_size=8",
    "epochs=2",
    "schedule.warmup=1it",
    "optim.lr=4e-3",
    "ema.decay=0.8",
    "model.drop_path=0.1",
    "model.args.depths=[1,1,1,1]",
    "checkpoint.every=3it",
    "log.every=2it",
    "dist.threads=1",
]


def test_it_is_one_file_of_at_most_150_lines() -> None:
    assert len(FILE.read_text().splitlines()) <= 150


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of one process, started in a folder that has nothing to do with the task."""
    place = tmp_path_factory.mktemp("own")
    done = run("hornet-train", "task=examples.own_task", *SMALL, "run_dir=one", cwd=place)
    assert done.returncode == 0, done.stderr
    assert "hornet-eval checkpoint=one task=examples.own_task" in done.stdout
    return place / "one"


@pytest.mark.long
def test_it_goes_on_bit_for_bit_after_a_kill(one: Path, tmp_path: Path) -> None:
    command = ("hornet-train", "task=examples.own_task", *SMALL, f"run_dir={tmp_path / 'run'}")
    process = started(*command)
    wait_until(process, has_logged(tmp_path / "run", 2))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    done = run(*command)
    assert done.returncode == 0, done.stderr
    torch.testing.assert_close(final(tmp_path / "run"), final(one), rtol=0, atol=0)


@pytest.mark.long
def test_two_processes_equal_one(one: Path, tmp_path: Path) -> None:
    """Training, where the loss has a weight of its own, and evaluation, whose metric is no sum."""
    model = ["model.drop_path=0"]
    for name, start in (("a", run), ("b", lambda *rest, **how: torchrun(2, *rest, **how))):
        command = ("hornet-train",) if name == "a" else ("-m", "hornet_train")
        done = start(*command, "task=examples.own_task", *SMALL, *model, f"run_dir={tmp_path / name}")
        assert done.returncode == 0, done.stderr
    for kind, keys in (("train", ("loss", "grad_norm")), ("eval", ("map",))):
        ours, theirs = (
            [[event[key] for key in keys] for event in events(tmp_path / name, kind)] for name in "ab"
        )
        assert torch.tensor(ours) == pytest.approx(torch.tensor(theirs), rel=2e-4)
    result = {}
    for name, processes in (("1", 1), ("2", 2)):
        out = tmp_path / f"{name}.json"
        command = ("hornet-eval", f"checkpoint={one}", "task=examples.own_task", f"out={out}", "batch_size=4")
        done = run(*command) if processes == 1 else torchrun(2, *_script(*command))
        assert done.returncode == 0, done.stderr
        result[name] = json.loads(out.read_text())
    assert result["1"]["count"] == result["2"]["count"] == 21
    assert result["2"]["map"] == pytest.approx(result["1"]["map"], rel=1e-5)


def _script(command: str, *arguments: str) -> tuple[str, ...]:
    from helpers import BIN

    return (str(BIN / command), *arguments)


def test_it_is_found_by_the_path_of_its_file(tmp_path: Path) -> None:
    shutil.copy(FILE, tmp_path / "mine.py")
    done = run("hornet-train", "task=mine.py", *SMALL, "epochs=1it", "run_dir=r", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    refused = run("hornet-eval", "checkpoint=r", cwd=tmp_path)  # a file does not say what code is to run
    assert refused.returncode == 2
    assert "task=mine.py says that its code may run" in refused.stderr


def test_its_model_has_the_channels_asked_for(tmp_path: Path) -> None:
    """Whatever their number; a task that passes it on to no model is told."""
    (tmp_path / "deaf.py").write_text(FILE.read_text().replace(", in_chans=model.in_chans)", ")"))
    given = [*SMALL, "epochs=1it", "model.in_chans=5"]
    done = run("hornet-train", f"task={FILE}", *given, "run_dir=r", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert final(tmp_path / "r")["model"]["downsample_layers.0.0.weight"].shape[1] == 5
    refused = run("hornet-train", "task=deaf.py", *given, "run_dir=s", cwd=tmp_path)
    assert refused.returncode == 2
    assert "model.in_chans=5: task=own_task builds a model of 3 channels" in refused.stderr


def test_what_is_no_task_is_refused_in_words(tmp_path: Path) -> None:
    kit = "from hornet_train.tasks.kit import Kit\nclass Own(Kit):\n    pass\nKIT = Own()\n"
    bare = kit.replace("pass", "open_data = build_task = train_samples = eval_samples = None")
    for name, text in {
        "empty": "",
        "wrong_syntax": "KIT = = 1",
        "wrong_import": "import nowhere",
        "no_kit": "KIT = object()",
        "abstract": kit,
        "bare": bare,
    }.items():
        (tmp_path / f"{name}.py").write_text(text)
    for task, words in (
        ("clasification", "did you mean 'classification'"),
        ("nowhere.py", "there is no such file"),
        ("empty.py", "has no KIT"),
        ("wrong_syntax.py", "SyntaxError: "),
        ("wrong_import.py", "ModuleNotFoundError: No module named 'nowhere'"),
        ("no_kit.py", "not an instance of a class derived from"),
        ("abstract.py", "abstract.py, line 4"),
        ("bare.py", "has no `schema`"),
        ("data=x", ""),
    ):
        done = run("hornet-train", f"task={task}", cwd=tmp_path)
        assert done.returncode == 2, done.stderr
        assert words in done.stderr
        assert "Traceback" not in done.stderr
