"""Losses of pixels, against the published heads' and against their own definitions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hornet_train.dense import FcnHead, UperNetHead
from hornet_train.dense.upernet import enlarged
from hornet_train.tasks.segmentation.losses import PixelLoss
from hornet_train.tasks.segmentation.metrics import IGNORED

WIDTHS = (96, 192, 384, 768)


def loss_of(loss: PixelLoss, logits: Tensor, labels: Tensor) -> Tensor:
    areas = torch.full((len(labels),), labels[0].numel())
    return loss(logits, labels, loss.counted(labels, areas))


def made(seed: int = 0, batch: int = 3) -> tuple[Tensor, Tensor]:
    torch.manual_seed(seed)
    labels = torch.randint(0, 4, (batch, 10, 12), dtype=torch.uint8)
    labels[torch.rand(labels.shape) < 0.2] = IGNORED
    return torch.randn(batch, 4, 10, 12, requires_grad=True), labels


@torch.no_grad()
def test_cross_entropy_of_both_heads_is_the_published_one(fill: Any, reference: Any) -> None:
    known = reference("dense/upernet_head_conv_small")
    draws = [
        np.random.RandomState(101).standard_normal((1, width, 32 >> level, 32 >> level))
        for level, width in enumerate(WIDTHS)
    ]
    features = [torch.from_numpy(one.astype(np.float32)) for one in draws]
    rs = np.random.RandomState(102)
    stored = rs.randint(0, 150, (1, 1, 128, 128))
    stored[rs.random_sample(stored.shape) < 0.15] = 255
    labels = torch.from_numpy(stored[:, 0].astype(np.uint8))
    losses = []
    for head, given in ((UperNetHead(WIDTHS), features), (FcnHead(384), features[2])):
        head.load_state_dict(fill.fill_(head.state_dict()))
        logits = enlarged(head.eval()(given), (128, 128))
        losses.append(float(loss_of(PixelLoss("all"), logits, labels)))
    np.testing.assert_allclose([losses[0], 0.4 * losses[1]], known["loss"], rtol=1e-5)
    ignored = float((labels == IGNORED).float().mean())
    assert ignored > 0.1
    valid = float(loss_of(PixelLoss("valid"), logits, labels))
    assert valid == pytest.approx(losses[1] / (1 - ignored), rel=1e-5)


def test_labelled_pixels_are_weighed_as_torch_does() -> None:
    logits, labels = made()
    weights = (1.0, 2.0, 0.5, 3.0)
    ours = loss_of(PixelLoss("valid", class_weights=weights), logits, labels)
    theirs = F.cross_entropy(logits, labels.long(), torch.tensor(weights), ignore_index=IGNORED)
    torch.testing.assert_close(ours, theirs)


def test_focal_loss_is_its_definition() -> None:
    logits, labels = made()
    ours = loss_of(PixelLoss("valid", focal_gamma=2.0, class_weights=(1.0, 2.0, 0.5, 3.0)), logits, labels)
    shares = logits.softmax(1)
    total, weight = torch.zeros(()), torch.zeros(())
    for place in (labels != IGNORED).nonzero().tolist():
        label = int(labels[tuple(place)])
        share = shares[place[0], label, place[1], place[2]]
        factor = (1.0, 2.0, 0.5, 3.0)[label]
        total = total - factor * (1 - share) ** 2 * share.log()
        weight = weight + factor
    torch.testing.assert_close(ours, total / weight)


def test_the_hardest_pixels_are_those_of_each_picture() -> None:
    logits, labels = made()
    ours = loss_of(PixelLoss("valid", hardest=0.25), logits, labels)
    plain = F.cross_entropy(logits, labels.long(), ignore_index=IGNORED, reduction="none")
    expected, number = torch.zeros(()), 0
    for losses, mask in zip(plain, labels, strict=True):
        valid = losses[mask != IGNORED]
        kept = -(-len(valid) // 4)
        expected = expected + valid.topk(kept).values.mean() * len(valid)
        number += len(valid)
    torch.testing.assert_close(ours, expected / number)
    assert ours > loss_of(PixelLoss("valid"), logits, labels)


def test_dice_is_zero_for_a_sure_and_right_answer_and_near_one_for_a_wrong_one() -> None:
    labels = torch.zeros(1, 20, 20, dtype=torch.uint8)
    labels[:, :10] = 1
    sure = 50 * F.one_hot(labels.long(), 2).movedim(3, 1).float()
    right = loss_of(PixelLoss("valid", dice=1.0), sure, labels)
    assert float(right) == pytest.approx(0, abs=1e-6)
    wrong = PixelLoss("valid", dice=1.0)._dice(-sure, labels)
    assert float(wrong) > 0.99


@pytest.mark.parametrize(
    "loss",
    [
        PixelLoss("all"),
        PixelLoss("valid"),
        PixelLoss("valid", class_weights=(1.0, 2.0, 0.5, 3.0), dice=0.7),
        PixelLoss("all", hardest=0.3, dice=0.5),
        PixelLoss("valid", focal_gamma=2.0),
    ],
    ids=str,
)
def test_parts_of_a_batch_add_up_to_the_whole(loss: PixelLoss) -> None:
    """So that accumulating micro-batches, and several processes, equal one batch."""
    logits, labels = made(batch=4)
    labels[0, :, :9] = IGNORED  # unlike numbers of labelled pixels
    areas = torch.full((4,), labels[0].numel())
    whole = loss_of(loss, logits, labels)
    total, weight = torch.zeros(()), torch.zeros(())
    for part in (slice(0, 1), slice(1, 4)):
        counted = loss.counted(labels[part], areas[part])
        total = total + loss(logits[part], labels[part], counted) * counted.sum()
        weight = weight + counted.sum()
    torch.testing.assert_close(total / weight, whole)


@pytest.mark.parametrize("average", ["all", "valid"])
@pytest.mark.parametrize("more", [{}, {"dice": 1.0}, {"hardest": 0.5}, {"focal_gamma": 2.0}], ids=str)
def test_a_batch_without_labels_has_a_loss_of_zero_and_gradients(
    average: Any, more: dict[str, float]
) -> None:
    logits, labels = made()
    labels[:] = IGNORED
    loss = loss_of(PixelLoss(average, **more), logits, labels)
    loss.backward()
    assert float(loss.detach()) == 0
    assert logits.grad is not None
    assert bool((logits.grad == 0).all())
