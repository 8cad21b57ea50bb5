"""Classes are matched by name; mere numbers by their order, which is said."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hornet_train.errors import ConfigError, DataError
from hornet_train.tasks.classification.sources import imagenet_wnids
from hornet_train.tasks.classification.sources.match_classes import match_classes, read_renames, renamed

WORDS = st.lists(st.text("abcdef", min_size=1, max_size=4), unique=True, min_size=1, max_size=8)


@given(WORDS, st.data())
def test_any_part_in_any_order_finds_its_places(classes: list[str], data: st.DataObject) -> None:
    names = data.draw(st.permutations(classes))[: data.draw(st.integers(1, len(classes)))]
    found = match_classes(names, classes, here="val", there="train")
    rows = found.rows if found.rows is not None else range(len(classes))
    assert [classes[row] for row in rows] == names
    assert found.absent == tuple(name for name in classes if name not in names)
    assert not found.notes


def test_unknown_names_are_listed_with_the_nearest() -> None:
    with pytest.raises(DataError) as raised:
        match_classes(["Cat", "cofee", "zebra", "dog"], ["cat", "coffee", "dog"], here="val", there="train")
    head, _, rest = str(raised.value).partition(": ")
    assert head == "3 of the 4 classes of val are not among the 3 of train (cat, coffee, dog)"
    assert rest.startswith("'Cat' ('cat'?), 'cofee' ('coffee'?), 'zebra'; rename or remove them, or ")


def test_numbers_go_by_their_order_and_it_is_said() -> None:
    for names, classes in ((["0", "1"], ["cat", "dog"]), (["cat", "dog"], ["1", "2"])):
        found = match_classes(names, classes, here="the data", there="the checkpoint")
        assert found.rows is None
        assert "in their order" in found.notes[0]
        assert f"{names[0]!r} for {classes[0]!r}" in found.notes[0]
    words = [f"class {number}" for number in range(1000)]  # as the hub names ImageNet's
    found = match_classes(imagenet_wnids(), words, here="the data", there="the checkpoint")
    assert (found.rows, "are WordNet ids and those of the checkpoint are names" in found.notes[0]) == (
        None,
        True,
    )
    with pytest.raises(DataError, match="'2'"):  # not as many
        match_classes(["0", "1", "2"], ["cat", "dog"], here="the data", there="the checkpoint")
    with pytest.raises(DataError, match="'3'"):  # both are numbers, which are names then
        match_classes(["1", "2", "3"], ["0", "1", "2"], here="the data", there="the checkpoint")


def test_a_class_map_is_lines_of_old_and_new(tmp_path: Path) -> None:
    file = tmp_path / "map.csv"
    file.write_text('Cat,cat\n"a, b" , dog\n\nkitten,cat\n')
    renames = read_renames(file)
    assert renames == {"Cat": "cat", "a, b": "dog", "kitten": "cat"}
    assert renamed(("Cat", "bird", "kitten"), renames) == ("cat", "bird", "cat")
    for text, message in (
        ("Cat\n", "line 1: 'Cat' is not old,new"),
        ("Cat,\n", "line 1"),
        ("a,b\na,c\n", "line 2: 'a' was renamed in a line before"),
        ("\n", "no line of old,new"),
        ("\udcff", "utf-8"),
    ):
        file.write_bytes(text.encode("utf-8", "surrogateescape"))
        with pytest.raises(ConfigError, match=message):
            read_renames(file)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_renames(tmp_path / "none")
