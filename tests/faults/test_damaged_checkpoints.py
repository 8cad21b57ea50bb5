"""Run folders damaged in hundreds of ways: the last good checkpoint is used, or a message tells why not."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import TINY, events, run
from processes import final

from hornet_train.engine.checkpoint import CheckpointStore, read_pointer
from hornet_train.engine.find_checkpoint import find_checkpoint
from hornet_train.engine.manifest import parse_step_name
from hornet_train.errors import CheckpointError

Command = Callable[..., tuple[int, str, str]]
Amount = Callable[[int, int], int]
Sums = dict[str, dict[str, str]]
STEPS = ["step_00000003", "step_00000006", "step_00000009"]
pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three checkpoints that goes on with another epoch."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    done = run("hornet-train", *TINY, "epochs=3", f"run_dir={folder}")
    assert done.returncode == 0, done.stderr
    assert [path.name for path in CheckpointStore(folder / "checkpoints", keep=1).step_folders()] == STEPS
    return folder


def sums(run_folder: Path) -> Sums:
    """What is in the step folders; nothing of what cannot be read as a file."""
    found: Sums = {}
    for step in CheckpointStore(run_folder / "checkpoints", keep=1).step_folders():
        found[step.name] = {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in step.iterdir()
            if path.is_file()
        }
    return found


def copy_of(folder: Path, place: Path) -> Path:
    """Hard links: what damages a file puts another in its place."""
    shutil.copytree(folder, place, copy_function=os.link, ignore=lambda *_: [".lock"])
    return place


def put(path: Path, data: bytes) -> None:
    remove(path)
    path.write_bytes(data)


def content(path: Path) -> bytes:
    """What is in a file; nothing of what another damage has made no file, such as an endless pipe."""
    return path.read_bytes() if path.is_file() else b""


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


WRONG = ["", "null", "[]", "7", "NaN", '"step"', "{}", "[" * 100_000, '{"a":' * 50_000, "{'step': 1}", "\0"]


POINTERS = [
    None, "folder", "pipe", "loop", b"", b"\xff\xfe", b"../..", b"step_00000003", b"step_00000099", b"step_3",
    b"x" * 10**6, b"step_00000006\n\n",
]  # fmt: skip


class Damage:
    """Does one thing, drawn at random, to a run folder."""

    def __init__(self, folder: Path, chance: random.Random) -> None:
        self.checkpoints = folder / "checkpoints"
        self.chance = chance
        self.kinds = [
            self.truncate, self.flip, self.remove_file, self.empty, self.append, self.swap_files,
            self.wrong_json, self.link, self.folder_for_a_file, self.pipe, self.remove_step, self.swap_steps,
            self.hide_step, self.leave_parts, self.pointer, self.other_files,
        ]  # fmt: skip

    def file(self) -> Path:
        steps = [path for path in self.checkpoints.glob("step_*") if path.is_dir()]
        files = [path for path in self.chance.choice(steps).iterdir() if path.is_file()] if steps else []
        return self.chance.choice(files) if files else self.checkpoints / "last"

    def step(self) -> Path:
        return self.checkpoints / self.chance.choice(STEPS)

    def truncate(self) -> None:
        path = self.file()
        data = content(path)
        put(path, data[: self.chance.randrange(max(1, len(data)))])

    def flip(self) -> None:
        path = self.file()
        data = bytearray(content(path))
        if data:
            data[self.chance.randrange(len(data))] ^= 1 << self.chance.randrange(8)
        put(path, bytes(data))

    def remove_file(self) -> None:
        remove(self.file())

    def empty(self) -> None:
        put(self.file(), b"")

    def append(self) -> None:
        path = self.file()
        put(path, content(path) + self.chance.randbytes(self.chance.randrange(1, 99)))

    def swap_files(self) -> None:
        one, other = self.file(), self.file()
        first, second = content(one), content(other)
        put(one, second)
        put(other, first)

    def wrong_json(self) -> None:
        if (folder := self.step()).is_dir():
            put(
                folder / self.chance.choice(["manifest.json", "state.json"]),
                self.chance.choice(WRONG).encode(),
            )

    def link(self) -> None:
        path = self.file()
        remove(path)
        path.symlink_to(self.chance.choice(["/dev/zero", "nowhere", path.name, "/", "/etc/hostname"]))

    def folder_for_a_file(self) -> None:
        path = self.file()
        remove(path)
        path.mkdir()

    def pipe(self) -> None:
        path = self.file()
        remove(path)
        os.mkfifo(path)

    def remove_step(self) -> None:
        remove(self.step())

    def swap_steps(self) -> None:
        one, other = self.chance.sample(STEPS, 2)
        if (self.checkpoints / one).exists() and (self.checkpoints / other).exists():
            (self.checkpoints / one).rename(self.checkpoints / "aside")
            (self.checkpoints / other).rename(self.checkpoints / one)
            (self.checkpoints / "aside").rename(self.checkpoints / other)

    def hide_step(self) -> None:
        path = self.step()
        if path.exists():
            path.rename(path.with_name(f".{path.name}." + self.chance.choice(["writing", "old", "replaced"])))

    def leave_parts(self) -> None:
        part = self.checkpoints / self.chance.choice([".step_00000012.writing", "step_00000012", "step_12"])
        part.mkdir(exist_ok=True)
        (part / "model.safetensors").write_bytes(b"half")

    def pointer(self) -> None:
        path = self.checkpoints / self.chance.choice(["last", "best"])
        remove(path)
        reports = self.chance.choice(POINTERS)
        if reports == "folder":
            path.mkdir()
        elif reports == "pipe":
            os.mkfifo(path)
        elif reports == "loop":
            path.symlink_to(path.name)
        elif isinstance(reports, bytes):
            path.write_bytes(reports)

    def other_files(self) -> None:
        (self.checkpoints / "step_00000013").write_text("a file")
        (self.checkpoints / "step_notes").mkdir(exist_ok=True)
        (self.step().parent / "notes.txt").write_text("mine")


def expected(run_folder: Path, originals: Sums, *, of_evaluation: bool) -> str | None:
    """The step that must be found: the newest that is what it was, or for an evaluation the best of these."""

    def good(step: str) -> bool:
        needed = dict(originals[step])
        if of_evaluation:
            del needed["optimizer.safetensors"]  # which it does not read
        have = present.get(step, present.get(f".{step}.replaced", {}))
        return all(have.get(name) == value for name, value in needed.items())

    present = sums(run_folder)
    choices = list(reversed(STEPS))
    if of_evaluation:
        named = [read_pointer(run_folder / "checkpoints", pointer) for pointer in ("best", "last")]
        choices = [name for name in named if name in STEPS] + choices
    return next((step for step in choices if good(step)), None)


def found(look: Callable[[], tuple[Path | None, list[str]]]) -> tuple[str | None, list[str]]:
    """The name of the step that is found, and what is reported of others."""
    try:
        place, reports = look()
    except CheckpointError as error:
        return None, str(error).splitlines()
    assert place is not None
    return place.name.removeprefix(".").removesuffix(".replaced"), reports


def test_two_hundred_ways_to_damage_a_checkpoint(
    whole: Path, tmp_path: Path, test_seed: int, amount: Amount
) -> None:
    """In the short form sixty others of each commit."""
    count = amount(200, 60)
    originals = sums(whole)
    used: dict[str | None, int] = {}
    for number in range(count):
        chance = random.Random(f"{test_seed}/{number}" if test_seed else number)
        folder = copy_of(whole, tmp_path / str(number))
        damage = Damage(folder, chance)
        more = chance.choices(damage.kinds, k=4 * number // count)
        kinds = [damage.kinds[number % len(damage.kinds)], *more]
        for kind in kinds:
            kind()
        how = f"{number}: {[kind.__name__ for kind in kinds]}"
        store = CheckpointStore(folder / "checkpoints", keep=1)
        newest = expected(folder, originals, of_evaluation=False)
        step, reports = found(store.newest)
        assert step == newest, how
        for path in store.step_folders():
            number_of = parse_step_name(path.name)
            assert number_of is not None
            if newest is None or number_of > int(newest[5:]):
                assert any(str(path) in line for line in reports), how
        used[newest] = used.get(newest, 0) + 1

        def evaluated(folder: Path = folder) -> tuple[Path, list[str]]:
            saved, reports = find_checkpoint(folder)
            return saved.folder, reports

        step, reports = found(evaluated)
        assert step == expected(folder, originals, of_evaluation=True), how
        assert all(str(folder / "checkpoints") in line for line in reports[1:]), how
        store.clean()
        assert not list(store.folder.glob(".*")), how
        shutil.rmtree(folder)
    # neither too much damage nor too little
    assert all(used.get(step, 0) >= amount(10, 1) for step in (None, *STEPS)), used


ABSURD_MANIFESTS: list[Callable[[dict[str, Any]], Any]] = [
    *(lambda _, text=text: text for text in WRONG),
    lambda m: {**m, "format": "1"},
    lambda m: {**m, "format": 2},
    lambda m: {**m, "format": float("nan")},
    lambda m: {**m, "step": 9.0},
    lambda m: {**m, "step": "9"},
    lambda m: {**m, "step": -9},
    lambda m: {**m, "step": 10**40},
    lambda m: {key: value for key, value in m.items() if key != "step"},
    lambda m: {**m, "files": []},
    lambda m: {**m, "files": {}},
    lambda m: {**m, "files": dict.fromkeys(m["files"], 5)},
    lambda m: {**m, "files": {name: [1, "x"] for name in m["files"]}},
    *(
        lambda m, size=size: {**m, "files": {n: {**entry, "bytes": size} for n, entry in m["files"].items()}}
        for size in (-1, 0, 1e999, float("nan"), 10**30, "7", None, True, [])
    ),
    *(
        lambda m, digest=digest: {
            **m,
            "files": {n: {**entry, "sha256": digest} for n, entry in m["files"].items()},
        }
        for digest in ("", "0" * 64, 5, None, "é", "x" * 10**6)
    ),
    *(
        lambda m, name=name: {**m, "files": {**m["files"], name: {"bytes": 1, "sha256": "0" * 64}}}
        for name in (
            "", ".", "..", "a/b", "/etc/passwd", "../step_00000006/model.safetensors", "\0", "\ud800",
            "x" * 10**5, ".hidden", "model.safetensors/", "C:\\x", "none.safetensors",
        )
    ),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(ABSURD_MANIFESTS)))
def test_an_absurd_manifest_is_named_and_passed_over(whole: Path, tmp_path: Path, number: int) -> None:
    folder = copy_of(whole, tmp_path / "run")
    path = folder / "checkpoints" / STEPS[-1] / "manifest.json"
    text = ABSURD_MANIFESTS[number](json.loads(path.read_text()))
    put(path, (text if isinstance(text, str) else json.dumps(text)).encode())
    place, (reason,) = CheckpointStore(folder / "checkpoints", keep=1).newest()
    assert place == folder / "checkpoints" / STEPS[-2]
    assert str(path.parent) in reason
    assert len(reason) < 1000


def with_sums(folder: Path, file: str, text: str) -> None:
    """Put a file into a step folder, and its sum into the manifest."""
    put(folder / file, text.encode())
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][file] = {"bytes": len(text), "sha256": hashlib.sha256(text.encode()).hexdigest()}
    put(folder / "manifest.json", json.dumps(manifest).encode())


BEST = {"step": 6, "weights": "ema", "metric": "top1", "value": 50.0}
UNLOGGED = {"loss": 1.0, "weight": 8.0, "parts": {}, "grad_norm": 0.5, "greatest": {}, "bad": []}
BAD = {"index": 3, "where": "a.jpg", "reason": "it is damaged"}
WRONG_NUMBERS: list[Any] = [
    *WRONG,
    *({"step": step} for step in (8, -9, 9.0, "9", None, True, [9], 10**30)),
    *({"evaluated": evaluated} for evaluated in (None, "9", -1, 2.5, {})),
    *(
        {"best": best}
        for best in (5, [], {}, {**BEST, "step": "6"}, {**BEST, "value": None}, {**BEST, "x": 1})
    ),
    *({"loss_scaler": scaler} for scaler in (None, [], 5)),
    *({"bad_samples": bad} for bad in (None, 5, {}, [1.5], ["x"], [-1])),
    *({"scheduled": scheduled} for scheduled in (None, True, "9", 9.0, -1, 10, 10**30, [], {})),
    *(
        {"unlogged": unlogged}
        for unlogged in (
            None, 5, [], {**UNLOGGED, "x": 1.0}, {**UNLOGGED, "loss": None}, {**UNLOGGED, "loss": "1"},
            {**UNLOGGED, "weight": -8.0}, {**UNLOGGED, "weight": float("nan")},
            {**UNLOGGED, "weight": True}, {**UNLOGGED, "parts": [1.0]}, {**UNLOGGED, "parts": {"a": "1"}},
            {**UNLOGGED, "grad_norm": 10**30}, {**UNLOGGED, "grad_norm": []}, {**UNLOGGED, "greatest": [1.0]},
            {**UNLOGGED, "greatest": {"a": "1"}}, {**UNLOGGED, "greatest": {"a": None}},
            {**UNLOGGED, "bad": {}}, {**UNLOGGED, "bad": [3]}, {**UNLOGGED, "bad": [{"index": 3}]},
            {**UNLOGGED, "bad": [{**BAD, "index": -3}]}, {**UNLOGGED, "bad": [{**BAD, "where": 5}]},
            {**UNLOGGED, "bad": [{**BAD, "reason": None}]}, {**UNLOGGED, "bad": [{**BAD, "x": 1}]},
        )
    ),
]  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG_NUMBERS, ids=range(len(WRONG_NUMBERS)))
def test_a_state_of_wrong_types_is_named_though_its_sum_matches(
    whole: Path, tmp_path: Path, wrong: Any
) -> None:
    folder = copy_of(whole, tmp_path / "run")
    last = folder / "checkpoints" / STEPS[-1]
    text = wrong
    if isinstance(wrong, dict):
        text = json.dumps({**json.loads((last / "state.json").read_text()), **wrong})
    with_sums(last, "state.json", text)
    place, (reason,) = CheckpointStore(folder / "checkpoints", keep=1).newest()
    assert place == folder / "checkpoints" / STEPS[-2]
    assert str(last) in reason


def test_the_commands_go_on_from_the_one_before_and_say_so(whole: Path, tmp_path: Path) -> None:
    folder = copy_of(whole, tmp_path / "run")
    damaged = folder / "checkpoints" / STEPS[-1] / "model.safetensors"
    put(damaged, damaged.read_bytes()[:-1])
    put(folder / "checkpoints" / "best", f"{STEPS[-1]}\n".encode())
    put(folder / "environment.json", b'{"host": ')
    put(
        folder / "metrics.jsonl",
        (folder / "metrics.jsonl").read_bytes() + b'{"step": "x"}\n{"step": null}\n{"st',
    )
    (folder / "checkpoints" / ".step_00000012.writing").mkdir()
    (folder / "checkpoints" / ".last.1.tmp").write_text("step")
    (folder / ".config.yaml.1.tmp").write_text("seed")
    evaluated = run("hornet-eval", f"checkpoint={folder}", f"out={tmp_path}/eval.json")
    assert evaluated.returncode == 0, evaluated.stderr
    assert f"warning: checkpoint skipped: {damaged} is damaged: it has" in evaluated.stderr
    assert json.loads((tmp_path / "eval.json").read_text())["checkpoint"].endswith(STEPS[-2])
    resumed = run("hornet-train", *TINY, "epochs=3", f"run_dir={folder}")
    assert resumed.returncode == 0, resumed.stderr
    assert f"warning: checkpoint skipped: {damaged} is damaged: it has" in resumed.stderr
    assert "environment.json is written again" in resumed.stderr
    assert events(folder, "resumed")[0]["step"] == 6
    assert [path for path in folder.rglob(".*") if path.name != ".lock"] == []
    torch.testing.assert_close(final(folder), final(whole), rtol=0, atol=0)


def test_what_cannot_be_mended_is_reported_without_a_traceback(
    whole: Path, tmp_path: Path, command: Command
) -> None:
    folder = copy_of(whole, tmp_path / "all")
    for step in STEPS:
        remove(folder / "checkpoints" / step / "state.json")
    for done in (
        run("hornet-train", *TINY, "epochs=3", f"run_dir={folder}"),
        run("hornet-eval", f"checkpoint={folder}"),
    ):
        assert done.returncode == 2, done.stderr
        assert "Traceback" not in done.stderr
        assert all(f"{folder}/checkpoints/{step}/state.json cannot be read" in done.stderr for step in STEPS)

    def trained(folder: Path) -> str:
        code, _, err = command("hornet-train", *TINY, "epochs=3", f"run_dir={folder}")
        assert code == 2
        return err

    for number, text in enumerate(
        ["", "[", "a: 2024-99-99", "a: !!float x", "a: !!python/object:x.y {}", "[" * 9999]
    ):
        folder = copy_of(whole, tmp_path / f"config{number}")
        put(folder / "config.yaml", text.encode())
        assert f"{folder}/config.yaml " in trained(folder)
    folder = copy_of(whole, tmp_path / "folder")
    remove(folder / "checkpoints")
    (folder / "checkpoints").write_text("")
    assert f"{folder}/checkpoints is a file" in trained(folder)
    folder = copy_of(whole, tmp_path / "metrics")
    remove(folder / "checkpoints" / STEPS[-1])
    remove(folder / "metrics.jsonl")
    (folder / "metrics.jsonl").mkdir()
    assert f"{folder}/metrics.jsonl cannot be written (Is a directory)" in trained(folder)
