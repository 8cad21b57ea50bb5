"""What the architecture promises beyond the import contracts of pyproject.toml."""

from __future__ import annotations

import ast
import re
import tomllib
from collections import Counter
from pathlib import Path

import pytest
from helpers import ROOT

from hornet_train.tasks.table import NAMES, kit_of

SOURCES = ROOT / "src" / "hornet_train"
LONGEST = 300  # lines of a file


def test_who_asks_for_a_hornet_asks_structure() -> None:
    asking = [
        str(path.relative_to(SOURCES))
        for path in SOURCES.rglob("*.py")
        if re.search(r"isinstance\(.*HorNet", path.read_text())
    ]
    assert asking == ["models/structure.py"]


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("engine/trainer.py", "fit"),
        ("engine/trainer.py", "_train"),
        ("engine/step.py", "train_step"),
        ("models/gnconv.py", "forward"),
        ("models/block.py", "forward"),
    ],
)
def test_the_heart_of_it_is_read_in_one_screen(file: str, name: str) -> None:
    tree = ast.parse((SOURCES / file).read_text())
    found = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == name]
    assert found
    for node in found:
        assert node.end_lineno is not None
        assert node.end_lineno - node.lineno < 60


def test_files_are_of_a_size_to_be_read() -> None:
    long = {
        str(path.relative_to(SOURCES)): lines
        for path in SOURCES.rglob("*.py")
        if (lines := len(path.read_text().splitlines())) > LONGEST
    }
    assert not long


def test_a_file_is_known_by_its_name_alone() -> None:
    """But for the commands, one file each, and for the files that every task has."""
    files = (path.relative_to(SOURCES) for path in SOURCES.rglob("*.py") if path.stem[0] != "_")
    alike = Counter(path.stem for path in files if path.parts[0] not in ("cli", "tasks"))
    assert not [name for name, count in alike.items() if count > 1]


def test_no_task_knows_another_and_each_is_laid_out_alike() -> None:
    linted = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (independent,) = (one["modules"] for one in linted if one["type"] == "independence")
    assert set(independent) == {f"hornet_train.tasks.{name}" for name in NAMES}
    folders = {path.name for path in (SOURCES / "tasks").iterdir() if path.is_dir() and path.name[0] != "_"}
    assert folders == set(NAMES)
    for task in folders:
        text = "".join(path.read_text() for path in (SOURCES / "tasks" / task).rglob("*.py"))
        assert set(re.findall(r"hornet_train\.tasks\.(\w+)", text)) & folders == {task}
        place = SOURCES / "tasks" / task
        files = {str(path.relative_to(place)) for path in place.rglob("*.py")}
        assert files >= {"schema.py", "rules.py", "samples.py", "task.py", "metrics.py", "build/kit.py"}


@pytest.mark.parametrize("task", NAMES)
def test_a_kit_brings_what_is_asked_of_it(task: str) -> None:
    kit = kit_of(task)
    assert kit.schema.name == task
    assert kit.schema.about
    assert kit.metrics.rows


def test_the_map_names_files_that_exist() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    named = set(re.findall(r"`([a-z_]+/[a-z_/]+\.py)`", text))
    assert len(named) > 30
    assert not [name for name in named if not (SOURCES / name).is_file()]
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        assert (ROOT / "docs" / link).exists(), link


def test_every_room_is_on_the_map() -> None:
    drawing = (ROOT / "docs" / "architecture.md").read_text().split("```")[1]
    rooms = {path.stem for path in Path(SOURCES).iterdir() if path.name[0] not in "_."}
    assert not [room for room in rooms if not re.search(rf"\b{room}\b", drawing)]
