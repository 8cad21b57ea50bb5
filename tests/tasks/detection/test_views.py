"""Several views of a picture, put together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from configs import compose_train
from torch import Tensor, nn

from hornet_train.data.order import Address
from hornet_train.dense.rcnn.suppression import Kept
from hornet_train.tasks.detection.build.components import build_task
from hornet_train.tasks.detection.rle import window_of
from hornet_train.tasks.detection.samples import PictureSamples
from hornet_train.tasks.detection.transforms import EvalTransform


class Bright(nn.Module):
    """Finds the bright pixels of each image, and is surer of those in the left half."""

    def forward(
        self, images: Tensor, pictures: Sequence[tuple[int, int]], scales: Sequence[tuple[float, float]]
    ) -> list[tuple[Kept, Tensor]]:
        found = []
        for image, (tall, wide), (across, down) in zip(images, pictures, scales, strict=True):
            rows, columns = (image[0, :tall, :wide] > 0.5).nonzero(as_tuple=True)
            left, top = columns.min(), rows.min()
            right, bottom = columns.max() + 1, rows.max() + 1
            box = torch.stack([left / across, top / down, right / across, bottom / down])[None].float()
            score = torch.tensor([0.9 if left < wide / 2 else 0.6])
            shares = torch.zeros(1, 28, 28)
            shares[:, :, :14] = 1  # the left half of what is found
            found.append((Kept(box, score, torch.tensor([1]), torch.tensor([0])), shares))
        return found


@pytest.mark.parametrize("ratios", [(1.0,), (1.0, 1.5), (0.5, 1.0)])
def test_an_object_is_found_once_where_it_is(ratios: tuple[float, ...]) -> None:
    task = build_task(compose_train(["recipe=objects", "data=coco_folder", "data.root=x"]).config, 2)
    picture = torch.zeros(3, 40, 64, dtype=torch.uint8)
    picture[:, 10:20, 40:60] = 255
    samples = PictureSamples(tuple(EvalTransform(None, ratio=ratio) for ratio in ratios))
    sample = samples.make(Address(0, 0), picture)
    assert samples.ragged <= sample.keys()
    batch = {
        name: [value] if name in samples.ragged else torch.as_tensor(value)[None]
        for name, value in sample.items()
    }
    (plain,) = task.answer(Bright(), batch)
    assert plain.scores.tolist() == pytest.approx([0.6])
    (both,) = replace(task, flip=True).answer(Bright(), batch)
    assert both.labels.tolist() == plain.labels.tolist() == [1]
    assert both.scores.tolist() == pytest.approx([0.9])  # of the mirror image, where it is on the left
    for found in (plain, both):
        assert found.boxes[0].tolist() == pytest.approx([40, 10, 60, 20], abs=1.1)
    halves = []
    for found in (plain, both):
        window = window_of(found.masks[0])
        columns = window.pixels.any(0).nonzero()[0] + window.left
        halves.append((int(columns.min()), int(columns.max()) + 1))
    assert halves[0] == pytest.approx((40, 50), abs=1)
    assert halves[1] == pytest.approx((50, 60), abs=1)  # the mask turned back with its box
