"""The region proposal network (RPN): which boxes of a picture may hold an object, whatever it is.

Layout suffixes: `x_BCHW` is batch, channels, height, width; `x_N4` is N boxes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hornet_train.dense.rcnn.anchors import Anchors, trainable
from hornet_train.dense.rcnn.boxes import BoxCoder
from hornet_train.dense.rcnn.matching import Matcher, Sampler
from hornet_train.dense.rcnn.suppression import suppressed


class RpnOutputs(NamedTuple):
    """Of each level, for each anchor of each cell.

    Attributes:
        objectness: logits (B, ratios, H, W).
        changes: of the anchors, (B, 4 ratios, H, W).
    """

    objectness: list[Tensor]
    changes: list[Tensor]


class LossSum(NamedTuple):
    """A loss of each picture as a sum, attached to the graph, and of how many items, both (B,).

    The published code divides the sum over a process's pictures by that of their items.
    """

    total: Tensor
    items: Tensor


class RpnHead(nn.Module):
    """A 3x3 convolution over each level, and of each cell the objectness and the change of its anchors.

    Args:
        channels: of the levels.
        ratios: anchors of a cell.
        device, dtype: of the parameters.
    """

    def __init__(
        self,
        channels: int = 256,
        ratios: int = 3,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.rpn_conv = nn.Conv2d(channels, channels, 3, padding=1, device=device, dtype=dtype)
        self.rpn_cls = nn.Conv2d(channels, ratios, 1, device=device, dtype=dtype)
        self.rpn_reg = nn.Conv2d(channels, 4 * ratios, 1, device=device, dtype=dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weights of a normal distribution, std 0.01, biases 0."""
        for layer in (self.rpn_conv, self.rpn_cls, self.rpn_reg):
            nn.init.normal_(layer.weight, std=0.01)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)

    def forward(self, levels: Sequence[Tensor]) -> RpnOutputs:
        """Levels (B, C, H, W)."""
        hidden = [F.relu(self.rpn_conv(one), inplace=True) for one in levels]
        return RpnOutputs([self.rpn_cls(one) for one in hidden], [self.rpn_reg(one) for one in hidden])


@dataclass(frozen=True)
class RpnRules:
    """What is done with the outputs of an `RpnHead`.

    Attributes:
        border: pixels by which a trained anchor may reach beyond its picture; -1: any.
        beta: where the loss of the changes turns from square to linear; 0: linear throughout.
        before, after: proposals of a level before suppression, and of a picture behind it, in training.
        before_evaluation, after_evaluation: the same in evaluation.
        most_overlap: IoU above which the lower one of two proposals goes.
    """

    anchors: Anchors = field(default_factory=Anchors)
    matcher: Matcher = field(default_factory=lambda: Matcher(0.7, 0.3, 0.3))
    sampler: Sampler = field(default_factory=lambda: Sampler(256, 0.5))
    coder: BoxCoder = field(default_factory=BoxCoder)
    border: int = -1
    beta: float = 0.0
    before: int = 2000
    after: int = 1000
    before_evaluation: int = 1000
    after_evaluation: int = 1000
    most_overlap: float = 0.7

    def losses(
        self,
        outputs: RpnOutputs,
        objects: Sequence[Tensor],
        pictures: Sequence[tuple[int, int]],
        seeds: Sequence[int],
    ) -> tuple[LossSum, LossSum]:
        """Of objectness and of changes, over the sampled anchors of each picture.

        Args:
            objects: boxes of each picture, (M, 4).
            pictures: (height, width) of each, without padding.
            seeds: of the draw of each.
        """
        sizes = [(one.shape[2], one.shape[3]) for one in outputs.objectness]
        levels = self.anchors.of_levels(sizes, outputs.objectness[0].device)
        anchors_N4 = torch.cat(levels)
        logits_BN, changes_BN4 = _flat(outputs)
        of_objects, of_changes, counts = list[Tensor](), list[Tensor](), list[int]()
        for place, (boxes_M4, picture, seed) in enumerate(zip(objects, pictures, seeds, strict=True)):
            inside = trainable(levels, sizes, self.anchors.strides, picture, self.border).nonzero()[:, 0]
            matched = self.matcher(anchors_N4[inside], boxes_M4)
            chosen = self.sampler(matched, seed)
            positive, negative = inside[chosen.positive], inside[chosen.negative]
            counts.append(max(len(positive), 1) + max(len(negative), 1))  # as published
            logits = logits_BN[place, torch.cat([positive, negative])]
            truth = torch.zeros_like(logits)
            truth[: len(positive)] = 1
            of_objects.append(F.binary_cross_entropy_with_logits(logits, truth, reduction="sum"))
            targets_P4 = boxes_M4[matched[chosen.positive]]
            wanted_P4 = self.coder.encode(anchors_N4[positive], targets_P4)
            found_P4 = changes_BN4[place, positive]
            of_changes.append(F.smooth_l1_loss(found_P4, wanted_P4, reduction="sum", beta=self.beta))
        items = torch.tensor(counts, dtype=torch.float32, device=logits_BN.device)
        return LossSum(torch.stack(of_objects), items), LossSum(torch.stack(of_changes), items)

    @torch.no_grad()
    def propose(
        self, outputs: RpnOutputs, pictures: Sequence[tuple[int, int]], *, training: bool
    ) -> list[tuple[Tensor, Tensor]]:
        """Proposals of each picture, (P, 4), and their scores, (P,), the highest first."""
        sizes = [(one.shape[2], one.shape[3]) for one in outputs.objectness]
        levels = self.anchors.of_levels(sizes, outputs.objectness[0].device)
        before, after = (
            (self.before, self.after) if training else (self.before_evaluation, self.after_evaluation)
        )
        logits_BN, changes_BN4 = _flat(outputs)
        shares_BN = logits_BN.sigmoid()
        ends = [len(one) for one in levels]
        found = []
        for place, picture in enumerate(pictures):
            boxes, scores, numbers = list[Tensor](), list[Tensor](), list[Tensor]()
            parts = zip(levels, shares_BN[place].split(ends), changes_BN4[place].split(ends), strict=True)
            for number, (anchors_N4, shares_N, changes_N4) in enumerate(parts):
                best = shares_N.argsort(descending=True, stable=True)[:before]
                boxes.append(self.coder.decode(anchors_N4[best], changes_N4[best], picture))
                scores.append(shares_N[best])
                numbers.append(torch.full_like(best, number))
            boxes_N4, scores_N, numbers_N = torch.cat(boxes), torch.cat(scores), torch.cat(numbers)
            there = (boxes_N4[:, 2:] > boxes_N4[:, :2]).all(1)
            boxes_N4, scores_N, numbers_N = boxes_N4[there], scores_N[there], numbers_N[there]
            kept = suppressed(boxes_N4, scores_N, numbers_N, self.most_overlap)[:after]
            found.append((boxes_N4[kept], scores_N[kept]))
        return found


def _flat(outputs: RpnOutputs) -> tuple[Tensor, Tensor]:
    """Logits (B, N) and changes (B, N, 4) in the order of the anchors, float32."""
    logits = [one.permute(0, 2, 3, 1).flatten(1) for one in outputs.objectness]
    changes = [one.permute(0, 2, 3, 1).flatten(1).unflatten(1, (-1, 4)) for one in outputs.changes]
    return torch.cat(logits, 1).float(), torch.cat(changes, 1).float()
