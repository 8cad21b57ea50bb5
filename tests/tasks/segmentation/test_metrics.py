"""Counts of pixels and what is made of them, against the published tools' tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hornet_train.tasks.segmentation.boundaries import boundary_counts, boundary_iou, near_border
from hornet_train.tasks.segmentation.mask_coding import coding
from hornet_train.tasks.segmentation.metrics import IGNORED, class_scores, confusion, means

Reference = Callable[[str], Mapping[str, np.ndarray]]
CLASSES = 6


@pytest.mark.parametrize("form", ["plain", "reduced"])
def test_tables_are_those_of_the_published_tool(reference: Reference, form: str) -> None:
    stored = reference("dense/seg_miou")
    coded = coding(CLASSES, reduce_zero_label=form == "reduced")
    total = torch.zeros(CLASSES + 1, CLASSES, dtype=torch.int64)
    for number in range(3):
        labels = coded.classes_of(torch.from_numpy(stored[f"label{number}"]))
        total += confusion(labels, torch.from_numpy(stored[f"pred{number}"]), CLASSES)
    scores = class_scores(total)
    expected = {name.removeprefix(f"{form}_"): stored[name] for name in stored if name.startswith(form)}
    assert np.array_equal(scores.right, expected["intersect"])
    assert np.array_equal(scores.labelled, expected["label"])
    assert np.array_equal(scores.predicted, expected["pred"])
    assert np.array_equal(scores.labelled + scores.predicted - scores.right, expected["union"])
    found = {
        "IoU": scores.iou,
        "Acc": scores.accuracy,
        "Dice": scores.dice,
        "Fscore": scores.f_score,
        "Precision": scores.precision,
        "Recall": scores.accuracy,
    }
    for name, values in found.items():
        np.testing.assert_allclose(values, expected[name], rtol=1e-15, err_msg=name)
    short = {"miou": "mIoU", "macc": "mAcc", "aacc": "aAcc", "mdice": "mDice"}
    for key, name in short.items():
        assert means(total)[key] == pytest.approx(100 * float(expected[name]), rel=1e-14)


def test_a_class_that_is_only_predicted_counts_zero_and_one_that_never_comes_not_at_all() -> None:
    labels = torch.tensor([0, 0, 1, IGNORED])
    predicted = torch.tensor([0, 2, 1, 2])
    scores = class_scores(confusion(labels, predicted, 4))
    assert scores.iou.tolist()[:3] == [0.5, 1.0, 0.0]
    assert np.isnan(scores.iou[3])
    assert np.isnan(scores.accuracy[2])
    assert means(confusion(labels, predicted, 4))["miou"] == pytest.approx(50)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 4)), min_size=1), st.integers(1, 7))
def test_counts_add_up_whatever_the_parts(pixels: list[tuple[int, int]], size: int) -> None:
    labels, predicted = (torch.tensor(one) for one in zip(*pixels, strict=True))
    whole = confusion(labels, predicted, 5, ignored=9)
    parts = [
        confusion(labels[i : i + size], predicted[i : i + size], 5, ignored=9)
        for i in range(0, len(pixels), size)
    ]
    assert torch.equal(whole, sum(parts, torch.zeros_like(whole)))
    assert int(whole.sum()) == sum(label != 9 for label, _ in pixels)


def test_the_border_of_a_class_is_what_erosion_leaves_out() -> None:
    """As published: a mask minus its erosion by a 3x3 square, as often as the boundary is wide."""
    rng = np.random.default_rng(0)
    labels = torch.from_numpy(np.kron(rng.integers(0, 4, (5, 6)), np.ones((9, 7))).astype(np.uint8))
    for width in (1, 3):
        found = near_border(labels, width)
        for label in range(4):
            inside = np.pad(labels.numpy() == label, 1)
            for _ in range(width):
                padded = np.pad(inside, 1)
                shifts = [
                    padded[1 + dy : 1 + dy + inside.shape[0], 1 + dx : 1 + dx + inside.shape[1]]
                    for dy in (-1, 0, 1)
                    for dx in (-1, 0, 1)
                ]
                inside = np.logical_and.reduce(shifts)
            expected = (labels.numpy() == label) & ~inside[1:-1, 1:-1]
            assert np.array_equal(found.numpy() & (labels.numpy() == label), expected)


def test_boundary_iou_of_the_same_map_is_1_and_ignored_pixels_count_nowhere() -> None:
    labels = torch.zeros(60, 80, dtype=torch.uint8)
    labels[20:40, 30:60] = 1
    same = boundary_iou(boundary_counts(labels, labels, 3))
    assert same[:2].tolist() == [1.0, 1.0]
    assert np.isnan(same[2])
    wrong = labels.clone()
    wrong[:20] = 2
    hidden = labels.clone()
    hidden[:20] = IGNORED
    assert boundary_iou(boundary_counts(labels, wrong, 3))[2] == 0
    counts = boundary_counts(hidden, wrong, 3)
    assert int(counts[2, 2]) == 0
    moved = labels.roll(1, dims=1)
    assert 0.3 < boundary_iou(boundary_counts(labels, moved, 3))[1] < 1
