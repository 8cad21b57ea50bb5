"""Run-length codes: those of the COCO tools, and what cannot be one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from faster_coco_eval.core import mask as coco_masks
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hornet_train.tasks.detection.objects import Rle
from hornet_train.tasks.detection.rle import (
    Window,
    area_of,
    coded,
    counts_of,
    rle_of,
    rle_of_polygons,
    window_of,
)

MASKS = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=24))


def whole(window: Window, size: tuple[int, int]) -> np.ndarray[Any, Any]:
    mask = np.zeros(size, dtype=bool)
    tall, wide = window.pixels.shape
    mask[window.top : window.top + tall, window.left : window.left + wide] = window.pixels
    return mask


@given(MASKS)
def test_a_mask_is_coded_and_decoded_as_by_the_coco_tools(mask: np.ndarray[Any, Any]) -> None:
    size = (int(mask.shape[0]), int(mask.shape[1]))
    theirs: Any = coco_masks.encode(np.asfortranarray(mask.astype(np.uint8)))
    code = theirs["counts"]
    rle = Rle(size, code if isinstance(code, bytes) else code.encode())
    window = window_of(rle)
    assert np.array_equal(whole(window, size), mask)
    assert area_of(rle) == mask.sum()
    assert rle_of(window, size) == rle
    assert coded(counts_of(rle), size) == rle


@given(st.lists(st.tuples(st.floats(-5, 30), st.floats(-5, 30)), min_size=3, max_size=8))
def test_polygons_are_drawn_within_their_picture(points: list[tuple[float, float]]) -> None:
    rle = rle_of_polygons([np.array(points)], (20, 25))
    theirs: Any = coco_masks.decode({"size": [20, 25], "counts": rle.counts})
    assert np.array_equal(whole(window_of(rle), (20, 25)), theirs.astype(bool))


@given(st.binary(max_size=12))
def test_any_other_bytes_are_decoded_or_refused(code: bytes) -> None:
    rle = Rle((7, 9), code)
    try:
        counts = counts_of(rle)
    except ValueError:
        return
    assert counts.sum() == 63
    assert (counts >= 0).all()


@pytest.mark.parametrize("code", [b"", b"o", b"0" * 3, b"\xff", b"oooooooooooooooo0", b"P2"])
def test_damaged_codes(code: bytes) -> None:
    with pytest.raises(ValueError, match="run-length code"):
        counts_of(Rle((7, 9), code))
