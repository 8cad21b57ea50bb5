"""The largest batch of a training is as large as any that comes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from configs import compose_train
from hypothesis import given, settings
from hypothesis import strategies as st
from shapes import DETECT, write_shapes

from hornet_train.tasks.detection.build.largest import largest_batch, largest_frame
from hornet_train.tasks.detection.build.open_data import open_objects
from hornet_train.tasks.detection.samples import BOXES, IMAGE, LABELS, unpacked
from hornet_train.tasks.detection.transforms import TrainTransform

SIDES = st.integers(8, 90)
TRANSFORMS = [
    TrainTransform((20, 30), (30, 40), crop_share=0.0),
    TrainTransform((20, 30), (30, 55), 0.7, (24, 36), (10, 28)),
    TrainTransform((20, 30), (30, 200), 1.0, (24,), (10, 20)),
    TrainTransform((20,), (20, 50), jitter=(0.3, 1.7)),
    TrainTransform(None, (30, 40), 0.7, (24, 36), (10, 28)),
    TrainTransform(None, None, 0.7, (24, 36), (10, 28)),
]


@settings(deadline=None)
@given(st.sampled_from(TRANSFORMS), st.lists(st.tuples(SIDES, SIDES), min_size=1, max_size=3), st.data())
def test_no_view_is_larger(transform: TrainTransform, sizes: list[tuple[int, int]], data: Any) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    views = []
    for _ in range(12):
        height, width = sizes[int(rng.integers(len(sizes)))]
        image = torch.zeros(3, height, width, dtype=torch.uint8)
        views.append(tuple(transform(image, np.zeros((0, 4)), rng).image_CHW.shape[1:]))
    height, width = largest_frame(transform, sizes, 2)
    assert all(tall <= height and wide <= width for tall, wide in views)
    alone = largest_frame(transform, sizes, 1)
    assert max(tall * wide for tall, wide in views) <= alone[0] * alone[1]
    assert alone[0] * alone[1] <= height * width


def test_the_frame_is_reached() -> None:
    """Not only a bound: two pictures of other shapes are padded to it."""
    assert largest_frame(TRANSFORMS[0], [(60, 45), (45, 60)], 1) == (40, 30)
    assert largest_frame(TRANSFORMS[0], [(60, 45), (45, 60)], 2) == (40, 40)


def test_its_objects(tmp_path: Path) -> None:
    """As many as the fullest pictures have, or as train the heads if that is more; with masks."""
    root = write_shapes(tmp_path / "shapes")
    for regions, paste, expected in ((4, 0.0, [4, 4]), (80, 0.0, [20, 20]), (4, 0.5, [8, 8])):
        given = [*DETECT, f"data.root={root}", f"task.regions={regions}", f"augment.copy_paste={paste}"]
        config: Any = compose_train(given).config
        opened = open_objects(config.data)
        batch: Any = largest_batch(config, opened, 2)
        assert [tuple(image.shape) for image in batch[IMAGE]] == [(3, 48, 48)] * 2
        assert [len(labels) for labels in batch[LABELS]] == expected
        masks = unpacked(batch["windows"][0], batch["pixels"][0], (48, 48))
        boxes = batch[BOXES][0]
        areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        assert masks.flatten(1).sum(1).tolist() == areas.tolist()
