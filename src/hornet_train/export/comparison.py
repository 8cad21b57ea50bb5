"""Whether an export says what the model says, and how fast."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor, nn

Run = Callable[[Tensor], Tensor]
_TURNS = 5


@dataclass(frozen=True)
class Comparison:
    """An export beside the model.

    Attributes:
        images: how many.
        difference: the largest, as a share of the model's largest output; NaN where the export gives such.
        same_class: share of images (dense: of pixels) whose most probable class is the same, 0..1.
        speed: images a second of the export over those of the model, in turns, both in as many threads.
        batch: images at once.
        objects: that either finds in them, of a score that people look at; None: the model is no detector.
    """

    images: int
    difference: float
    same_class: float
    speed: float
    batch: int
    objects: int | None = None


@torch.inference_mode()
def compare(model: nn.Module, run: Run, batches: Sequence[Tensor]) -> Comparison:
    """Run both on the same images.

    Args:
        model: in evaluation mode, on the CPU.
        run: the export.
        batches: images as the model takes them, (B, C, H, W).
    """
    largest, difference = torch.zeros(()), torch.zeros(())
    same = total = images = 0
    for batch in batches:
        expected, found = model(batch).float(), run(batch).float()
        # of torch, whose maximum of NaN and a number is NaN
        largest = torch.maximum(largest, expected.abs().max())
        difference = torch.maximum(difference, (found - expected).abs().max())
        equal = found.argmax(1) == expected.argmax(1)
        same, total, images = same + int(equal.sum()), total + equal.numel(), images + len(batch)
    return Comparison(
        images,
        (difference / largest.clamp(min=1e-12)).item(),
        same / total,
        speed_of(model, run, batches[0]),
        len(batches[0]),
    )


def speed_of(model: Callable[[Tensor], object], run: Callable[[Tensor], object], batch: Tensor) -> float:
    """Images a second of an export over those of the model: the median of some turns."""
    ratios = []
    for _ in range(_TURNS):
        begin = time.perf_counter()
        model(batch)
        middle = time.perf_counter()
        run(batch)
        ratios.append((middle - begin) / (time.perf_counter() - middle))
    return median(ratios)
