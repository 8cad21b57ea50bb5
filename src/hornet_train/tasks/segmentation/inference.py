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


@dataclass(frozen=True)
class Inference:
    """How a picture is answered for.

    Attributes:
        windows: of each image.
        flip: whether its mirror image is asked for, too.
    """

    windows: Windows = field(default_factory=Windows)
    flip: bool = False

    def logits(self, model: Model, images: Sequence[Tensor]) -> list[Tensor]:
        """Logits (1, K, h, w) of each image (1, C, h, w), and of its mirror image behind it.

        `images`: one picture at several scales.
        """
        found = []
        for image_1CHW in images:
            found.append(self.windows.logits(model, image_1CHW))
            if self.flip:
                found.append(self.windows.logits(model, image_1CHW.flip(3)))
        return found

    def strips(self, logits: Sequence[Tensor], size: tuple[int, int]) -> Iterator[tuple[int, Tensor]]:
        """Log-probabilities of the pixels of the picture, some rows at a time.

        Args:
            logits: what the method of this name gave.
            size: of the picture, (height, width) in pixels.

        Returns:
            The first row, and float32 (K, rows, width).
        """
        height, width = size
        rows = max(1, _VALUES // (logits[0].shape[1] * width))
        for top in range(0, height, rows):
            bottom = min(height, top + rows)
            if len(logits) == 1:
                yield top, enlarged_rows(logits[0], top, bottom, size).log_softmax(0)
                continue
            total_KRW: Tensor | None = None
            for number, one in enumerate(logits):
                shares_KRW = enlarged_rows(one, top, bottom, size).softmax(0)
                if self.flip and number % 2:
                    shares_KRW = shares_KRW.flip(2)
                total_KRW = shares_KRW if total_KRW is None else total_KRW.add_(shares_KRW)
            assert total_KRW is not None
            yield top, total_KRW.div_(len(logits)).log_()

    def predict(self, logits: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """The most probable class of each pixel of the picture, uint8 (height, width); see `strips`."""
        return torch.cat([strip.argmax(0).to(torch.uint8) for _, strip in self.strips(logits, size)])


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
