"""Checkpoints are complete or absent; damaged ones are named and skipped."""

from __future__ import annotations

import errno
import json
import math
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from hornet_train.data.worker import BadSample
from hornet_train.engine import checkpoint
from hornet_train.engine import find_checkpoint as finding
from hornet_train.engine.checkpoint import Checkpoint, CheckpointStore, read_checkpoint
from hornet_train.engine.fault_history import FaultHistory
from hornet_train.engine.find_checkpoint import find_checkpoint
from hornet_train.engine.state import check_numbers, is_scheduled, load_strictly
from hornet_train.engine.unlogged import Unlogged
from hornet_train.errors import CheckpointError
from hornet_train.track import durable_files
from hornet_train.track.durable_files import write_through


def write(store: CheckpointStore, step: int, best: int | None = None) -> Path:
    generator = torch.Generator().manual_seed(step)
    tensors = {
        "model": {"a": torch.randn(3, 4, generator=generator), "n": torch.tensor(step)},
        "optimizer": {"a/exp_avg": torch.randn(3, 4, generator=generator)},
    }
    best_entry = None if best is None else {"step": best, "weights": "model", "metric": "top1", "value": 1.0}
    return store.save(tensors, {"step": step, "evaluated": 0, "best": best_entry, "loss_scaler": {}})


def test_what_is_written_is_read(tmp_path: Path) -> None:
    store = CheckpointStore(
        tmp_path, keep=3, texts={"config.yaml": "seed: 1\n"}, metadata={"hornet_train": "{}"}
    )
    tied = torch.randn(4, 3)
    tensors = {
        "model": {
            "tied": tied,
            "again": tied,
            "view": tied.t(),
            "half": tied.bfloat16(),
            "n": torch.tensor(7),
        },
        "optimizer": {},
    }
    folder = store.save(tensors, {"step": 7, "evaluated": 0, "best": None, "loss_scaler": {}})
    saved = read_checkpoint(folder)
    torch.testing.assert_close(saved.tensors, tensors, rtol=0, atol=0)
    assert saved.numbers["step"] == 7
    assert (folder / "config.yaml").read_text() == "seed: 1\n"
    assert (tmp_path / "last").read_text() == "step_00000007\n"
    assert not (tmp_path / "best").exists()
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "model.safetensors",
        "optimizer.safetensors",
        "state.json",
        "config.yaml",
        "manifest.json",
    }


def test_old_checkpoints_are_removed_but_never_the_best_or_the_last(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep=2)
    for step in range(1, 7):
        write(store, step, best=2 if step >= 2 else 1)
    assert [path.name for path in store.step_folders()] == [f"step_{n:08d}" for n in (2, 5, 6)]
    assert (tmp_path / "best").read_text().strip() == "step_00000002"


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def nonsense(path: Path) -> None:
    path.write_bytes(os.urandom(path.stat().st_size))


@pytest.mark.parametrize("damage", [truncate, flip, empty, nonsense, Path.unlink])
@pytest.mark.parametrize(
    "file", ["model.safetensors", "optimizer.safetensors", "state.json", "manifest.json"]
)
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(
    tmp_path: Path, file: str, damage: Callable[[Path], None]
) -> None:
    store = CheckpointStore(tmp_path / "checkpoints", keep=3)
    write(store, 1)
    expected = read_checkpoint(store.folder / "step_00000001")
    folder = write(store, 2, best=2)
    damage(folder / file)
    if file == "manifest.json" and damage is flip:  # may hit white space or a name: then it still is damaged
        data = json.dumps({"format": 1, "step": 2}).encode()
        (folder / file).write_bytes(data)
    with pytest.raises(CheckpointError, match=file.replace(".", r"\.")):
        read_checkpoint(folder)
    newest, skipped = store.newest()
    assert newest is not None
    saved = read_checkpoint(newest)
    torch.testing.assert_close(saved.tensors, expected.tensors, rtol=0, atol=0)
    assert len(skipped) == 1
    assert "step_00000002" in skipped[0]
    found, notes = find_checkpoint(tmp_path, ("model", "optimizer"))
    assert found.folder == newest
    assert notes


FILES = ["model.safetensors", "optimizer.safetensors", "state.json", "manifest.json", "last", "best"]


@pytest.mark.parametrize("file", FILES)
def test_a_full_disk_raises_and_leaves_older_checkpoints_unchanged(
    tmp_path: Path, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = CheckpointStore(tmp_path / "checkpoints", keep=1)
    write(store, 1, best=1)

    def full(path: Path, data: bytes) -> None:
        if file in Path(path).name:
            Path(path).write_bytes(data[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write_through(path, data)

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint, "write_through", full)
        patched.setattr(durable_files, "write_through", full)
        with pytest.raises(CheckpointError, match=f"{file}.* cannot be written .No space left"):
            write(store, 2, best=2)
    done = file in ("last", "best")  # then the checkpoint itself is complete
    assert store.newest()[0] == store.folder / f"step_0000000{2 if done else 1}"
    assert read_checkpoint(store.folder / (store.folder / "last").read_text().strip())
    assert read_checkpoint(store.folder / (store.folder / "best").read_text().strip())
    assert not list(store.folder.glob(".*"))
    write(store, 2, best=2)
    assert [path.name for path in store.step_folders()] == ["step_00000002"]
    assert (store.folder / "best").read_text() == "step_00000002\n"


def test_old_checkpoints_are_removed_to_make_room_for_the_pointers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = CheckpointStore(tmp_path, keep=1)
    for step in (1, 2):
        write(store, step)

    def full(path: Path, data: bytes) -> None:
        if len(store.step_folders()) > 2:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write_through(path, data)

    store.keep = 2
    monkeypatch.setattr(durable_files, "write_through", full)
    write(store, 3)
    store.keep = 1
    write(store, 4)
    assert [path.name for path in store.step_folders()] == ["step_00000004"]


def test_if_all_are_damaged_the_error_says_what_to_do(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep=3)
    for step in (1, 2):
        truncate(write(store, step) / "model.safetensors")
    with pytest.raises(CheckpointError, match="resume=restart") as raised:
        store.newest()
    assert "step_00000001" in str(raised.value)
    assert "step_00000002" in str(raised.value)
    assert CheckpointStore(tmp_path / "none", keep=1).newest() == (None, [])


def test_an_interrupted_write_is_not_a_checkpoint(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep=3)
    write(store, 1)
    left = tmp_path / ".step_00000002.writing"
    left.mkdir()
    (left / "model.safetensors").write_bytes(b"half")
    newest, skipped = store.newest()
    assert newest == tmp_path / "step_00000001"
    assert skipped == []
    write(store, 2)
    assert not left.exists()


def test_a_kill_while_a_step_is_written_again_leaves_its_old_checkpoint(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "checkpoints", keep=3)
    write(store, 1)
    folder = write(store, 2, best=2)
    (store.folder / ".step_00000002.writing").mkdir()
    (store.folder / ".last.123.tmp").write_text("step_0000")
    replaced = folder.rename(store.folder / ".step_00000002.replaced")  # here the process is killed
    assert CheckpointStore(store.folder, keep=3).newest() == (replaced, [])
    assert find_checkpoint(tmp_path)[0].folder == replaced
    store.clean()
    assert store.newest() == (folder, [])
    assert {path.name for path in store.folder.iterdir()} == {
        "step_00000001",
        "step_00000002",
        "last",
        "best",
    }


def test_damaged_and_later_checkpoints_do_not_count_towards_keep(tmp_path: Path) -> None:
    """The run goes back to step 3, as 6 and 4 are damaged; the newest two usable ones stay."""
    store = CheckpointStore(tmp_path, keep=2)
    for step in (2, 3):
        write(store, step)
    store.keep = 9
    for step in (4, 6):
        flip(write(store, step) / "model.safetensors")
    store = CheckpointStore(tmp_path, keep=2)
    assert store.newest()[0] == tmp_path / "step_00000003"
    write(store, 5)
    assert [path.name for path in store.step_folders()] == [f"step_0000000{n}" for n in (3, 4, 5, 6)]
    truncate(tmp_path / "step_00000005" / "optimizer.safetensors")  # while the run goes on
    write(store, 7)
    assert [path.name for path in store.step_folders()] == [f"step_0000000{n}" for n in (3, 4, 5, 6, 7)]
    write(store, 8)
    assert [path.name for path in store.step_folders()] == [f"step_0000000{n}" for n in (7, 8)]


def test_a_pointer_to_a_best_of_a_step_gone_back_from_is_removed(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep=3)
    write(store, 1)
    flip(write(store, 2, best=2) / "model.safetensors")
    assert store.newest()[0] == tmp_path / "step_00000001"
    write(store, 3)
    assert not (tmp_path / "best").exists()


def test_the_folder_is_listed_again_if_a_training_removes_a_checkpoint_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = CheckpointStore(tmp_path / "checkpoints", keep=1)
    write(store, 1, best=1)

    def read(folder: Path, groups: tuple[str, ...]) -> Checkpoint:
        if folder.name == "step_00000001":
            write(store, 2, best=2)  # which removes the other
        return read_checkpoint(folder, groups)

    monkeypatch.setattr(finding, "read_checkpoint", read)
    found, notes = find_checkpoint(tmp_path)
    assert found.folder.name == "step_00000002"
    assert notes == [f"checkpoint skipped: {store.folder}/step_00000001 does not exist"]


def test_a_damaged_folder_of_the_same_step_is_replaced(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep=3)
    truncate(write(store, 4) / "state.json")
    write(store, 4)
    assert read_checkpoint(tmp_path / "step_00000004").numbers["step"] == 4
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_manifest_cannot_point_outside(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "run", keep=3)
    folder = write(store, 1)
    secret = tmp_path / "secret.safetensors"
    secret.write_bytes(b"x")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["../../secret.safetensors"] = {"bytes": 1, "sha256": "0" * 64}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match="outside"):
        read_checkpoint(folder)


def test_the_fault_history_of_an_older_version_is_read() -> None:
    """From before overflows were counted separately; the first step of the streak is not known."""
    old = {"streak": 2, "mean": 1.5, "seen": 9, "rollbacks": 1, "targets": [4], "left_out": [[5, 9]]}
    numbers = {"step": 12, "evaluated": 0, "best": None, "loss_scaler": {}, "record": old}
    history = FaultHistory.from_json(check_numbers(numbers)["record"])
    assert history == FaultHistory(mean=1.5, seen=9, rollbacks=1, targets=[4], left_out=[(5, 9)])
    with pytest.raises(ValueError, match="record"):
        check_numbers({**numbers, "record": {**old, "since": -1}})


UNLOGGED = {
    "loss": 1 / 3,
    "weight": 24.0,
    "parts": {},
    "grad_norm": float("inf"),
    "greatest": {"gate_product_0": float("nan")},
    "bad": [{"index": 3, "where": "a.jpg", "reason": "it is damaged"}],
}


NUMBERS = {"step": 12, "evaluated": 0, "best": None, "loss_scaler": {}, "scheduled": 10, "unlogged": UNLOGGED}


def test_what_a_window_has_summed_up_comes_back_exactly() -> None:
    read = check_numbers(json.loads(json.dumps(NUMBERS)))
    assert not is_scheduled(read)
    assert is_scheduled({**read, "scheduled": 12})
    unlogged = Unlogged.from_json(read["unlogged"])
    assert (unlogged.loss, unlogged.weight, unlogged.grad_norm) == (1 / 3, 24.0, float("inf"))
    assert math.isnan(unlogged.greatest["gate_product_0"])
    assert unlogged.bad == [BadSample(3, "a.jpg", "it is damaged")]
    older = {key: value for key, value in NUMBERS.items() if key not in ("scheduled", "unlogged")}
    assert is_scheduled(check_numbers(older))
    assert Unlogged.from_json({}) == Unlogged()
    for kept in (asdict(Unlogged()), {}):  # the latter of a version that keeps nothing there
        assert Unlogged.from_json(check_numbers({**NUMBERS, "unlogged": kept})["unlogged"]) == Unlogged()


@pytest.mark.parametrize(
    "wrong",
    [
        {"scheduled": 13},
        {"scheduled": None},
        {"unlogged": None},
        {"unlogged": {**UNLOGGED, "weight": -1.0}},
        {"unlogged": {**UNLOGGED, "more": 1.0}},
        {"unlogged": {**UNLOGGED, "greatest": {"gate_product_0": "high"}}},
        {"unlogged": {**UNLOGGED, "bad": [{"index": 3}]}},
    ],
)
def test_a_wrong_window_or_mark_is_refused_by_its_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(
        ValueError, match=f"{next(iter(wrong))}: missing, or not a value that a run stores there"
    ):
        check_numbers({**NUMBERS, **wrong})


def write_at_stop(store: CheckpointStore, step: int, scheduled: int) -> Path:
    """A checkpoint that a stop asked for, after the scheduled one of an earlier step."""
    tensors = {"model": {"n": torch.tensor(step)}, "optimizer": {}}
    numbers = {"step": step, "evaluated": 0, "best": None, "loss_scaler": {}, "scheduled": scheduled}
    return store.save(tensors, numbers)


def test_what_a_stop_left_takes_no_place_and_goes_with_the_next_one(tmp_path: Path) -> None:
    def left() -> list[int]:
        return [int(path.name[5:]) for path in store.step_folders()]

    store = CheckpointStore(tmp_path, keep=2)
    for step in (10, 20, 30):
        write(store, step)
    write_at_stop(store, 33, 30)
    assert left() == [20, 30, 33]
    store = CheckpointStore(tmp_path, keep=2)  # another start, which has to look into them
    assert store.newest()[0] == tmp_path / "step_00000033"
    write_at_stop(store, 36, 30)
    assert left() == [20, 30, 36]
    assert store.rollback_target(39) == (30, tmp_path / "step_00000030")
    assert store.rollback_target(39, avoid=[30]) == (20, tmp_path / "step_00000020")
    write(store, 40)
    assert left() == [30, 40]
    write_at_stop(store, 42, 40)
    write(store, 42)  # its evaluation was made up for, and is the best
    write(store, 50)
    assert left() == [42, 50]
    assert store.rollback_target(49) == (42, tmp_path / "step_00000042")


def test_where_nothing_but_a_stop_left_something_there_is_nothing_to_go_back_to(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep=1)
    write_at_stop(store, 3, 0)
    write_at_stop(store, 4, 0)
    assert [path.name for path in store.step_folders()] == ["step_00000004"]
    assert store.rollback_target(9) is None


def test_a_damaged_one_that_a_stop_left_pushes_none_out(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep=2)
    write(store, 1)
    flip(write_at_stop(store, 2, 1) / "state.json")
    store = CheckpointStore(tmp_path, keep=2)
    write(store, 3)
    assert [path.name for path in store.step_folders()] == [f"step_0000000{n}" for n in (1, 2, 3)]
    assert store.rollback_target(2) == (1, tmp_path / "step_00000001")


def test_weights_of_another_model_are_named() -> None:
    model = torch.nn.Linear(3, 2)
    saved = {"weight": torch.zeros(4, 3), "extra": torch.zeros(1)}
    with pytest.raises(CheckpointError, match="another model") as raised:
        load_strictly(model, saved, what="model")
    for part in ("bias is missing", "extra is not in the model", "weight is (4, 3), in the model (2, 3)"):
        assert part in str(raised.value)
