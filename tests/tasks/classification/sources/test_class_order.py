"""The order of classes by name: as text, or as people count."""

from __future__ import annotations

import pytest

from hornet_train.tasks.classification.sources.class_order import in_class_order, order_notes


@pytest.mark.parametrize(
    ("names", "as_text", "natural"),
    [
        (["10", "2", "1"], "1 10 2", "1 2 10"),
        (["a10b", "a2c", "a2b"], "a10b a2b a2c", "a2b a2c a10b"),
        (["01", "1", "001"], "001 01 1", "001 01 1"),
        (["b", "a", "3", "B"], "3 B a b", "3 B a b"),
        (["x", "x1", "x01y", "1x"], "1x x x01y x1", "1x x x1 x01y"),
        (["９9", "é2", "é10"], "é10 é2 ９9", "é2 é10 ９9"),
    ],
)
def test_orders(names: list[str], as_text: str, natural: str) -> None:
    assert in_class_order(names, "sorted") == tuple(as_text.split())
    assert in_class_order(reversed(names), "natural") == tuple(natural.split())


def test_numbers_out_of_order_are_told() -> None:
    (note,) = order_notes(("1", "10", "2"), "sorted")
    assert "in the order of text: 1, 10, 2; data.class_order=natural takes 1, 2, 10" in note
    (note,) = order_notes(("1", "2", "10"), "natural")
    assert "values: 1, 2, 10" in note
    for fine in (("1", "2", "3"), ("01", "02", "10"), ("a1", "a10", "a2"), ("cat", "dog")):
        assert order_notes(fine, "sorted") == []
