"""Objects of another picture pasted on one, beside pixels set one by one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from configs import compose_train
from hypothesis import given, settings
from hypothesis import strategies as st
from shapes import write_shapes

from hornet_train.data.order import Address
from hornet_train.data.sources.source import Encoded
from hornet_train.tasks.detection.build.open_data import open_objects
from hornet_train.tasks.detection.copy_paste import Scene, copy_paste
from hornet_train.tasks.detection.rle import Window
from hornet_train.tasks.detection.samples import DRAW, IMAGE, LABELS, TrainSamples
from hornet_train.tasks.detection.transforms import TrainTransform


def full(mask: Window, size: tuple[int, int]) -> np.ndarray:
    found = np.zeros(size, dtype=bool)
    tall, wide = mask.pixels.shape
    found[mask.top : mask.top + tall, mask.left : mask.left + wide] = mask.pixels
    return found


def random_scene(rng: np.random.Generator, label: int) -> Scene:
    height, width = (int(side) for side in rng.integers(1, 12, size=2))
    boxes, masks = [], []
    for _ in range(int(rng.integers(0, 4))):
        tall, wide = int(rng.integers(1, height + 1)), int(rng.integers(1, width + 1))
        top, left = int(rng.integers(height - tall + 1)), int(rng.integers(width - wide + 1))
        masks.append(Window(top, left, rng.random((tall, wide)) < 0.6))
        boxes.append((left, top, left + wide, top + tall))
    image = torch.from_numpy(rng.integers(256, size=(height, width, 3), dtype=np.uint8)).permute(2, 0, 1)
    labels = np.arange(len(masks)) + label
    return Scene(image, np.array(boxes, dtype=np.float64).reshape(-1, 4), labels, masks)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_pixels_masks_and_boxes_agree(seed: int) -> None:
    """Labels of 100 and more are the other picture's: each pasted mask is where the pixels changed, the
    masks below have lost just these, and boxes are around what is left."""
    rng = np.random.default_rng(seed)
    scene, other = random_scene(rng, 0), random_scene(rng, 100)
    before = scene.image_CHW.clone()
    found = copy_paste(scene, other, rng)
    assert torch.equal(scene.image_CHW, before)
    size = (int(before.shape[1]), int(before.shape[2]))
    masks = [full(mask, size) for mask in found.masks]
    pasted = [mask for mask, label in zip(masks, found.labels, strict=True) if label >= 100]
    covered = np.any([np.zeros(size, dtype=bool), *pasted], axis=0)
    assert torch.equal(found.image_CHW[:, ~covered], before[:, ~covered])
    theirs = {tuple(pixel) for pixel in other.image_CHW.flatten(1).T.tolist()}
    assert {tuple(pixel) for pixel in found.image_CHW[:, covered].T.tolist()} <= theirs
    expected = {}
    for label, mask in zip(scene.labels, scene.masks, strict=True):
        whole = full(mask, size)
        if (left := whole & ~covered).any() or not whole.any():
            expected[int(label)] = left
    ours = {int(label): mask for label, mask in zip(found.labels, masks, strict=True) if label < 100}
    assert ours.keys() == expected.keys()
    for label, mask in expected.items():
        assert np.array_equal(ours[label], mask)
        box = found.boxes_N4[list(found.labels).index(label)].tolist()
        if not (full(scene.masks[label], size) & covered).any():
            assert box == scene.boxes_N4[label].tolist()
        else:
            rows, columns = mask.nonzero()
            assert box == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert all(mask.any() for mask in pasted)
    boxes = found.boxes_N4
    assert ((boxes[:, 2:] > boxes[:, :2]).all(1) & (boxes >= 0).all(1)).all()


def test_some_pictures_have_objects_of_others(tmp_path: Path) -> None:
    """At its address, whatever came before; a damaged picture is no donor; without it nothing changes."""
    data: Any = compose_train(
        ["recipe=objects", f"data.root={write_shapes(tmp_path / 'shapes')}"]
    ).config.data
    pictures: Any = open_objects(data).train
    plain = TrainSamples(TrainTransform((48,), (48, 64), crop_share=0.0), 3, masks=True)
    pasting = replace(plain, paste=0.5, others=pictures)

    def made(samples: TrainSamples, index: int) -> dict[str, Any]:
        return samples.make(Address(2, index), samples.decode(pictures.read(index)))

    counts = [(len(made(plain, index)[LABELS]), len(made(pasting, index)[LABELS])) for index in range(24)]
    assert 6 <= sum(first != second for first, second in counts) <= 18
    one, two = made(pasting, 5), made(pasting, 5)
    assert all(torch.equal(torch.as_tensor(one[key]), torch.as_tensor(two[key])) for key in one)
    assert one[DRAW] == made(plain, 5)[DRAW]

    class Damaged:
        def __len__(self) -> int:
            return 24

        def read(self, index: int) -> dict[str, Any]:
            return {**pictures.read(index), IMAGE: Encoded(b"no picture", f"{index}.jpg")}

    unread: Any = Damaged()
    alone = made(replace(plain, paste=1.0, others=unread), 5)
    assert len(alone[LABELS]) == len(pictures.read(5)["objects"].labels)
