"""Images made on the fly."""

from __future__ import annotations

import math

import numpy as np
import torch

from hornet_train.data.sources.source import Fields, sha256_of
from hornet_train.tasks.classification.sources.labelled import IMAGE, LABEL

_GOLDEN = (math.sqrt(5) - 1) / 2


class SyntheticSource:
    """Coloured gratings made on the fly; direction, frequency and colour depend on the class.

    Sample i is a function of (seed, i) and has label i mod `num_classes`; phase and noise vary. For smoke
    tests and for measuring a loop without a disk. A validation split is the same source with another seed.
    """

    absent: tuple[str, ...] = ()

    def __init__(self, count: int, image_size: int, num_classes: int, seed: int = 0) -> None:
        """Set up.

        Args:
            count: samples, at least 1.
            image_size: side in pixels, at least 1.
            num_classes: at least 1.
            seed: at least 0.

        Raises:
            ValueError: a number below its bound.
        """
        if min(count, image_size, num_classes) < 1 or seed < 0:
            raise ValueError(
                f"a synthetic source needs count, image_size and num_classes >= 1 and seed >= 0, "
                f"not {count}, {image_size}, {num_classes} and {seed}"
            )
        self.classes = tuple(f"class_{label:04d}" for label in range(num_classes))
        self._count = count
        self._size = image_size
        self._seed = seed

    def __len__(self) -> int:
        return self._count

    def read(self, index: int) -> Fields:
        label = index % len(self.classes)
        rng = np.random.default_rng((self._seed, index))
        turn = label * _GOLDEN % 1.0  # neighbours in label are far apart in angle and hue
        cycles = 2 + label % 3
        at = np.arange(self._size, dtype=np.float32) * np.float32(2 * math.pi * cycles / self._size)
        across = at * np.float32(math.cos(math.pi * turn)) + np.float32(rng.uniform(0, 2 * math.pi))
        down = at * np.float32(math.sin(math.pi * turn))
        # sin(across + down), by the addition theorem: sines of two lines instead of a plane
        wave = np.outer(np.cos(down), np.sin(across)) + np.outer(np.sin(down), np.cos(across))
        hue = np.cos(2 * np.pi * (turn + np.arange(3) / 3)).astype(np.float32)[:, None, None]
        noise = rng.integers(-24, 25, size=(3, self._size, self._size), dtype=np.int16)
        pixels = 128 + 40 * hue + 56 * hue * wave + noise  # within 8..248
        return {IMAGE: torch.from_numpy(pixels.astype(np.uint8)), LABEL: label}

    def locate(self, index: int) -> str:
        return f"synthetic sample {index} of seed {self._seed}"

    @property
    def fingerprint(self) -> str:
        return sha256_of(repr((self._count, self._size, len(self.classes), self._seed)).encode())
