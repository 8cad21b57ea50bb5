"""From logits of an image at one or several scales to classes of the pixels of the stored picture.

Which stage averages logits and which probabilities is as published: overlapping windows average logits; these
are enlarged to the picture's own size; scales and mirror images average the probabilities of that.

Layout suffixes: `x_KRW` is classes, rows, width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from hornet_train.tasks.segmentation.windows import Model, Windows

_VALUES = 1 << 23  # of a strip of a picture, so that memory does not grow with it
_LEAST = 1e-30  # probability that has a logarithm


@dataclass(frozen=True)
class Inference:
    """How a picture is answered for.

    Attributes:
        windows: of each image.
        flip: whether its mirror image is asked for, too.
    """

    windows: Windows = field(default_factory=Windows)
    flip: bool = False

    def answer(self, model: Model, images: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """The logits (1, K, h, w) of an image, of any size; or, of several views, log-probabilities.

        The views are added up one after the other, in a map of the picture's size.

        Args:
            model: images (1, C, h, w) to logits of their size.
            images: one picture at several scales.
            size: of the picture, (height, width) in pixels.
        """
        views = [
            (image, mirrored) for image in images for mirrored in ([False, True] if self.flip else [False])
        ]
        if len(views) == 1:
            return self.windows.logits(model, images[0])
        total_KHW: Tensor | None = None
        for image_1CHW, mirrored in views:
            logits_1KHW = self.windows.logits(model, image_1CHW.flip(3) if mirrored else image_1CHW)
            if total_KHW is None:
                total_KHW = torch.zeros((logits_1KHW.shape[1], *size), device=logits_1KHW.device)
            for top, bottom in _strips(logits_1KHW.shape[1], size):
                shares_KRW = enlarged_rows(logits_1KHW, top, bottom, size).softmax(0)
                total_KHW[:, top:bottom] += shares_KRW.flip(2) if mirrored else shares_KRW
        assert total_KHW is not None
        return total_KHW.div_(len(views)).clamp_(min=_LEAST).log_()[None]

    def strips(self, answer: Tensor, size: tuple[int, int]) -> Iterator[tuple[int, Tensor]]:
        """Log-probabilities of the pixels of the picture, some rows at a time.

        Args:
            answer: what the method of this name gave.
            size: of the picture, (height, width) in pixels.

        Returns:
            The first row, and float32 (K, rows, width).
        """
        for top, bottom in _strips(answer.shape[1], size):
            # of log-probabilities this changes nothing
            yield top, enlarged_rows(answer, top, bottom, size).log_softmax(0)

    def predict(self, answer: Tensor, size: tuple[int, int]) -> Tensor:
        """The most probable class of each pixel of the picture, uint8 (height, width); see `strips`."""
        return torch.cat([strip.argmax(0).to(torch.uint8) for _, strip in self.strips(answer, size)])


def _strips(classes: int, size: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """First and last row (exclusive) of each strip of a picture."""
    height, width = size
    rows = max(1, _VALUES // (classes * width))
    for top in range(0, height, rows):
        yield top, min(height, top + rows)


def enlarged_rows(logits_1KHW: Tensor, top: int, bottom: int, size: tuple[int, int]) -> Tensor:
    """Rows top..bottom of a map that is enlarged (or shrunk) bilinearly to a size; float32 (K, rows, width).

    Pixels are areas (align_corners false). The other rows are not computed.
    """
    height, width = logits_1KHW.shape[2:]
    if (height, width) == tuple(size):
        return logits_1KHW[0, :, top:bottom].float()
    places = torch.arange(top, bottom, dtype=torch.float32, device=logits_1KHW.device)
    places = ((places + 0.5) * (height / size[0]) - 0.5).clamp_(min=0)
    above = places.long().clamp_(max=height - 1)
    below = (above + 1).clamp_(max=height - 1)
    share = (places - above)[:, None]
    rows_1KRW = torch.lerp(logits_1KHW[:, :, above].float(), logits_1KHW[:, :, below].float(), share)
    wide_1KRW = F.interpolate(rows_1KRW, (bottom - top, size[1]), mode="bilinear", align_corners=False)
    return wide_1KRW[0]
