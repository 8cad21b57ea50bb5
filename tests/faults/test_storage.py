"""Disks that are full or read-only, clocks that jump, data that vanish, readers that are killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import BIN, TINY, comparable, events, run, torchrun
from PIL import Image
from processes import final, has_logged, ranks_of, started, undisturbed, wait_until
from skimage import data

from hornet_train.engine.checkpoint import CheckpointStore, read_checkpoint, read_pointer

# 36 steps, a checkpoint of 8 MB after every third
LONG = [*TINY, "epochs=12", "checkpoint.keep=2", "log.tensorboard=true", "eval.every=4ep"]
# as hornet-train, but that it waits at most half a second where a run ends on a full disk
IMPATIENT = """
import hornet_train.engine.trainer as trainer
trainer.RETRY_SECONDS_AT_END = trainer.RETRY_SECONDS_WHEN_STOPPED = 0.5
from hornet_train.cli.train import main
main()
"""
pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The undisturbed run."""
    return undisturbed(tmp_path_factory.mktemp("whole") / "run", *LONG)


def mount(*arguments: str) -> None:
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"mount {' '.join(arguments)}: {done.stderr.strip()}")


@contextmanager
def mounted(place: Path, *arguments: str) -> Iterator[None]:
    mount(*arguments, str(place))
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with room for four checkpoints and 2 MB of what else a run writes."""
    place = tmp_path / "disk"
    place.mkdir()
    with mounted(place, "-t", "tmpfs", "-o", "size=32m", "tmpfs"):
        yield place


def fill(disk: Path) -> None:
    """To the last byte."""
    with open(disk / "filler", "ab", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue


class Log:
    """A command that runs, and what it has said on stderr so far."""

    def __init__(self, file: Path, *command: str, **more: Any) -> None:
        self.file = file
        with file.open("wb") as stream:
            self.process = subprocess.Popen(
                [str(BIN / command[0]), *command[1:]],
                stdout=subprocess.DEVNULL,
                stderr=stream,
                text=True,
                start_new_session=True,
                **more,
            )

    def wait_for(self, words: str, meanwhile: Callable[[], None] = lambda: None) -> None:
        def said() -> bool:
            meanwhile()
            return words in self.file.read_text()

        wait_until(self.process, said)

    def end(self) -> str:
        self.process.wait(timeout=240)
        return self.file.read_text()


def check_same(folder: Path, whole: Path) -> None:
    """The run is the undisturbed one, and its record lacks nothing and has nothing twice."""
    torch.testing.assert_close(final(folder), final(whole), rtol=0, atol=0)
    assert comparable(folder) == comparable(whole)
    checkpoints = folder / "checkpoints"
    assert [path for path in folder.rglob(".*") if path.name != ".lock"] == []
    for pointer in ("last", "best"):
        read_checkpoint(checkpoints / str(read_pointer(checkpoints, pointer)))


def test_a_full_disk_warns_and_the_run_goes_on(small_disk: Path, tmp_path: Path, whole: Path) -> None:
    folder = small_disk / "run"
    running = Log(tmp_path / "log", "hornet-train", *LONG, f"run_dir={folder}")
    wait_until(running.process, has_logged(folder, 4))
    running.wait_for("is not saved: ", lambda: fill(small_disk))
    kept = CheckpointStore(folder / "checkpoints", keep=2).newest()
    assert kept[0] is not None
    assert kept[1] == []
    (small_disk / "filler").unlink()
    err = running.end()
    assert running.process.returncode == 0, err
    assert "cannot be written (No space left on device); " in err
    assert "is saved, after all" in err
    assert "Traceback" not in err
    assert events(folder, "checkpoint_failed")[0]["reason"].endswith("(No space left on device)")
    assert events(folder, "checkpoint_recovered")
    check_same(folder, whole)


REFUSING = """
import os, sys
import hornet_train.engine.trainer as trainer
from hornet_train.cli.train import main
from hornet_train.engine.checkpoint import CheckpointStore
from hornet_train.errors import CheckpointError

save, evaluate, fit = CheckpointStore.save, trainer.evaluate_state, trainer.Trainer.fit
content = [10.0, 50.0, 30.0, 20.0]

def refusing(self, tensors, numbers):
    if numbers["step"] == 6:
        raise CheckpointError("the disk is full")
    return save(self, tensors, numbers)

def scripted(*arguments, **how):
    results = evaluate(*arguments, **how)
    value = content.pop(0)
    return {name: {**metrics, "top1": value} for name, metrics in results.items()}

def telling(self):
    best = fit(self)
    print(f"rank {self.world.rank} knows {best.step} {best.value}", file=sys.stderr)
    return best

CheckpointStore.save, trainer.evaluate_state, trainer.Trainer.fit = refusing, scripted, telling
main()
"""


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_all_ranks_know_that_the_best_was_never_written(strategy: str, tmp_path: Path) -> None:
    """top1 is 10, 50, 30, 20 after 3, 6, 9, 12 steps, and the disk, of which rank 0 knows, full at step 6."""
    folder, script = tmp_path / "run", tmp_path / "refusing.py"
    script.write_text(REFUSING)
    asked = [*TINY, "epochs=4", "checkpoint.keep=1", f"dist={strategy}", "dist.threads=1"]
    done = torchrun(2, str(script), *asked, f"run_dir={folder}")
    assert done.returncode == 0, done.stderr
    assert "the checkpoint of step 6, the best, was never written: the best is that of step 3" in done.stderr
    assert "rank 0 knows 9 30.0" in done.stderr
    assert "rank 1 knows 9 30.0" in done.stderr
    assert "best top1: 30.00 (model weights, step 9)" in done.stdout
    assert read_pointer(folder / "checkpoints", "best") == "step_00000009"
    assert sorted(path.name for path in (folder / "checkpoints").glob("step_*")) == [
        "step_00000009",
        "step_00000012",
    ]
    best = read_checkpoint(folder / "checkpoints/step_00000012").numbers["best"]
    assert (best["step"], best["value"]) == (9, 30.0)


def test_a_disk_that_stays_full_ends_the_run_with_a_message(
    small_disk: Path, tmp_path: Path, whole: Path
) -> None:
    folder, script = small_disk / "run", tmp_path / "impatient.py"
    script.write_text(IMPATIENT)
    two = ["torchrun", "--standalone", "--nproc_per_node=2", str(script), *LONG, f"run_dir={folder}"]
    running = Log(tmp_path / "two", *two)
    wait_until(running.process, has_logged(folder, 4))
    running.wait_for("is not saved: ", lambda: fill(small_disk))
    err = running.end()
    assert running.process.returncode != 0
    newest, _ = CheckpointStore(folder / "checkpoints", keep=2).newest()
    assert newest is not None
    assert err.count("the checkpoint of step 36 is lost: ") == 1  # rank 0 prints
    assert f"The newest on the disk is {newest}: make room" in err
    assert "exitcode  : 2" in err
    assert 'File "' not in err.split("exitcode")[0]

    running = Log(tmp_path / "asked", "python", str(script), *LONG, f"run_dir={folder}")
    try:
        running.process.wait(timeout=120)  # nothing can be written: it does not even start
    finally:
        (small_disk / "filler").unlink()
    err = running.end()
    assert running.process.returncode == 2, err
    assert "cannot be written (No space left on device)" in err
    again = run("hornet-train", *LONG, f"run_dir={folder}", "resume=force")
    assert again.returncode == 0, again.stderr
    assert events(folder, "train")[-1]["step"] == 36
    assert events(folder, "resumed")[-1]["step"] == int(newest.name[5:])


def test_asked_to_stop_on_a_full_disk(small_disk: Path, tmp_path: Path, whole: Path) -> None:
    folder, script = small_disk / "run", tmp_path / "impatient.py"
    script.write_text(IMPATIENT)
    running = Log(tmp_path / "log", "python", str(script), *LONG, "epochs=400", f"run_dir={folder}")
    wait_until(running.process, has_logged(folder, 4))
    running.wait_for("is not saved: ", lambda: fill(small_disk))
    os.kill(running.process.pid, signal.SIGTERM)
    err = running.end()
    assert running.process.returncode == 2, err
    assert "is lost: " in err
    assert "Traceback" not in err
    assert not events(folder, "preempted")


def test_a_folder_that_becomes_read_only(tmp_path: Path, whole: Path) -> None:
    folder = tmp_path / "run"
    running = Log(tmp_path / "log", "hornet-train", *LONG, f"run_dir={folder}")
    wait_until(running.process, has_logged(folder, 4))
    with mounted(folder, "--bind", str(folder)):
        mount("-o", "remount,bind,ro", str(folder))
        running.wait_for("Read-only file system")
    err = running.end()
    assert running.process.returncode == 0, err
    assert "is saved, after all" in err
    assert "Traceback" not in err
    check_same(folder, whole)
    with mounted(folder, "--bind", str(folder)):
        mount("-o", "remount,bind,ro", str(folder))
        refused = run("hornet-train", *LONG, f"run_dir={folder}")
        evaluated = run("hornet-eval", f"checkpoint={folder}", f"out={tmp_path}/eval.json")
    assert refused.returncode == 2, refused.stderr
    assert f"run_dir={folder} cannot be read and written" in refused.stderr
    assert evaluated.returncode == 0, evaluated.stderr


JUMPING = """
import time
_time, _jumps = time.time, [0, 3.2e7, -3.2e7, 5, -1e9]
def jumping():
    _jumps.append(_jumps.pop(0))
    return _time() + _jumps[0]
time.time = jumping
time.time_ns = lambda: int(1e9 * jumping())
"""


def test_a_clock_that_jumps_changes_nothing(tmp_path: Path, whole: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(JUMPING)
    path = os.pathsep.join([str(tmp_path), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
    environment = {**os.environ, "PYTHONPATH": path}
    seen = run("python", "-c", "import time; print(time.time() - time.time())", env=environment)
    assert abs(float(seen.stdout)) > 1e6
    folder = tmp_path / "run"
    running = Log(tmp_path / "log", "hornet-train", *LONG, f"run_dir={folder}", env=environment)
    wait_until(running.process, has_logged(folder, 10))
    os.kill(running.process.pid, signal.SIGTERM)
    err = running.end()
    assert running.process.returncode == 75, err
    again = run("hornet-train", *LONG, f"run_dir={folder}", "checkpoint.max_minutes=60", env=environment)
    assert again.returncode == 0, again.stderr
    check_same(folder, whole)
    assert all(0 < event["images_per_second"] < 1e6 for event in events(folder, "train"))
    assert all(0 <= event["data_wait"] <= 1 for event in events(folder, "train"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 training images of two classes, and 8 to evaluate on."""
    root = tmp_path_factory.mktemp("photos")
    picture = Image.fromarray(data.astronaut())
    for name, left in (("cat", 0), ("dog", 200)):
        for split, count in (("train", 20), ("val", 4)):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                crop = picture.crop((left + 5 * i, 40, left + 5 * i + 60, 90))
                crop.save(root / split / name / f"{i:02}.jpg")
    return root


@pytest.mark.draw(1)
@pytest.mark.parametrize("on_bad", ["skip", "error"])
def test_data_files_that_vanish(photos: Path, tmp_path: Path, on_bad: str) -> None:
    root, folder = shutil.copytree(photos, tmp_path / "photos"), tmp_path / "run"
    process = started(
        "hornet-train", *TINY[5:], "data=folder", f"data.root={root}", "data.workers=1", "data.image_size=32",
        "batch_size=16", "epochs=12", "eval.every=6ep", "data.max_bad=0.1", f"data.on_bad={on_bad}",
        f"run_dir={folder}",
    )  # fmt: skip
    wait_until(process, has_logged(folder, 3))
    gone = [root / "train/cat/03.jpg", root / "val/dog/02.jpg"]
    for path in gone:
        path.unlink()
    _, err = process.communicate(timeout=240)
    assert "Traceback" not in err
    (event,) = events(folder, "bad_sample")
    assert event["path"] == str(gone[0])
    if on_bad == "skip":
        assert process.returncode == 0, err
        assert {(e["count"], e["bad"]) for e in events(folder, "eval")} == {(7, 1)}
    else:
        assert process.returncode == 2, err
        assert str(gone[1]) in err
        assert CheckpointStore(folder / "checkpoints", keep=1).newest()[0] is not None


def readers_of(process: int) -> list[int]:
    children = subprocess.run(["pgrep", "-P", str(process)], capture_output=True, text=True, check=False)
    return [int(child) for child in children.stdout.split()]


def test_a_reader_that_is_killed_is_replaced(tmp_path: Path, whole: Path) -> None:
    folder = tmp_path / "run"
    process = started("hornet-train", *LONG, f"run_dir={folder}", "data.workers=2")
    wait_until(process, has_logged(folder, 3))
    os.kill(readers_of(process.pid)[0], signal.SIGKILL)
    _, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert "was killed by SIGKILL, as the system does when memory runs out; others read on" in err
    assert "Traceback" not in err
    check_same(folder, whole)


def test_a_reader_of_another_rank_is_replaced_and_reported(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    two = ("torchrun", "--standalone", "--nproc_per_node=2", "-m", "hornet_train", *LONG)
    process = started(*two, f"run_dir={folder}", "data.workers=1")
    wait_until(process, has_logged(folder, 3))
    os.kill(readers_of(ranks_of(process)[1])[0], signal.SIGKILL)
    _, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert "warning, rank 1: a reading process" in err
    assert events(folder, "train")[-1]["step"] == 36
