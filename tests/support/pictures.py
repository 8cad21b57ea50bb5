"""Pictures to compare image operations on, as Pillow images and as tensors."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from skimage import data
from torch import Tensor

FILL = (124, 116, 104)
PHOTO = Image.fromarray(data.astronaut()).crop((40, 0, 440, 360)).resize((112, 96))
DULL = Image.fromarray(data.chelsea()[:96, :112] // 3 + 40)
FLAT = Image.new("RGB", (40, 30), (7, 128, 255))
TINY = Image.fromarray(data.astronaut()[100:102, 200:205])
PICTURES = {"photo": PHOTO, "dull": DULL, "flat": FLAT, "tiny": TINY}


def tensor(picture: Image.Image) -> Tensor:
    """uint8 (3, H, W) in channels-last memory, as the decoder returns it."""
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


def apart(ours: Tensor, theirs: Image.Image) -> Tensor:
    """Absolute difference in levels of 255, for each pixel and channel; float32 (3, H, W)."""
    return (ours.float() - tensor(theirs).float()).abs()
