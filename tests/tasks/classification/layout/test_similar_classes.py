"""Nearly equal class names are found, and published label sets are recognised."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hornet_train.tasks.classification.layout.label_sets import LABEL_SETS, LabelSet, recognise, unknown_wnids
from hornet_train.tasks.classification.layout.similar_classes import _one_edit_apart, near_duplicates


@pytest.mark.parametrize(
    ("one", "other", "difference"),
    [
        ("red fox", "Red_Fox", "case, spaces, hyphens or underscores"),
        ("butterfly", "butterflies", "plural"),
        ("houses", "house", "plural"),
        ("foxgloves", "foxglove", "plural"),
        ("labrador", "labradar", "one letter"),
        ("labrador", "labradr", "one letter"),
    ],
)
def test_pairs_are_found(one: str, other: str, difference: str) -> None:
    assert near_duplicates([one, "unrelated", other]) == [(one, other, difference)]


def test_names_that_only_look_alike_are_not_reported() -> None:
    assert near_duplicates(["n01440764", "n01440765", "class_01", "class_02", "cat", "bat", "glass"]) == []


def _distance(one: str, other: str) -> int:
    """The Levenshtein distance, by the textbook's dynamic programming."""
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        last, row[0] = row[0], i
        for j, b in enumerate(other, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (a != b))
    return row[-1]


@given(st.lists(st.text("abc", min_size=6, max_size=8), min_size=2, max_size=12, unique=True))
def test_pairs_are_those_of_levenshtein_distance_one(names: list[str]) -> None:
    names = sorted(names)
    expected = {(a, b) for i, a in enumerate(names) for b in names[i + 1 :] if _distance(a, b) == 1}
    assert {(min(pair), max(pair)) for pair in _one_edit_apart(names)} == expected


@pytest.mark.parametrize("label_set", LABEL_SETS, ids=lambda label_set: label_set.name)
def test_each_label_set_is_recognised(label_set: LabelSet) -> None:
    found, sentence = recognise(sorted(label_set.wnids()))
    assert found is label_set
    assert sentence.startswith(label_set.name)


def test_hornets_imagenet_22k_has_10459_classes() -> None:
    assert len(LABEL_SETS[1].wnids()) == 10_459


def test_the_nearest_label_set_is_named_with_the_differences() -> None:
    wnids = sorted(LABEL_SETS[0].wnids())
    found, sentence = recognise([*wnids[1:], "n99999999"])
    assert found is None
    assert sentence == (
        f"nearest to ImageNet-1K, 1,000 classes, but for 1 missing ({wnids[0]}) "
        "and 1 not among its (n99999999)"
    )
    assert unknown_wnids([*wnids, "n99999999", "cat"]) == ["n99999999"]
    assert "not named by WordNet ids" in recognise(["cat", "dog"])[1]
