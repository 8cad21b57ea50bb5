"""Addressed randomness: every draw of a run is a function of where it happens, never of what came before.

numpy's Philox is a counter-based generator (Salmon et al., SC 2011): a key and a 256-bit counter name a
stream, and streams of different names never overlap. We put (seed, purpose, epoch or step) into the key and
(sample index, repeat) or (rank, micro-batch) into the upper words of the counter. So a run that stops
anywhere goes on bit for bit, with any number of workers, and there is no generator state to save.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class _Purpose(IntEnum):
    SAMPLE = 1
    ORDER = 2
    BATCH = 3
    DEVICE = 4
    SPARE = 5
    BLOCK = 6


Words = np.ndarray[tuple[int], np.dtype[np.uint64]]


def _named(seed: int, purpose: _Purpose, major: int, minor: int = 0, minor2: int = 0) -> tuple[Words, Words]:
    """Key and counter of a stream."""
    key = np.array([seed, (purpose << 56) | major], dtype=np.uint64)
    return key, np.array([0, 0, minor, minor2], dtype=np.uint64)


def _generator(
    seed: int, purpose: _Purpose, major: int, minor: int = 0, minor2: int = 0
) -> np.random.Generator:
    key, counter = _named(seed, purpose, major, minor, minor2)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


def sample_rng(seed: int, epoch: int, index: int, repeat: int = 0) -> np.random.Generator:
    """For the augmentation of one sample in one epoch, or of its `repeat`-th copy there."""
    return _generator(seed, _Purpose.SAMPLE, epoch, index, repeat)


class SampleDraws:
    """One generator for one sample after another; a new one each time is dearer than most draws."""

    def __init__(self) -> None:
        self._generator = np.random.Generator(np.random.Philox(0))

    def at(self, seed: int, epoch: int, index: int, repeat: int = 0) -> np.random.Generator:
        """`sample_rng` of the same address, until the next call: always the same object, turned to it."""
        key, counter = _named(seed, _Purpose.SAMPLE, epoch, index, repeat)
        self._generator.bit_generator.state = {
            "bit_generator": "Philox",
            "state": {"counter": counter, "key": key},
            "buffer": np.zeros(4, dtype=np.uint64),
            "buffer_pos": 4,  # nothing left in it
            "has_uint32": 0,
            "uinteger": 0,
        }
        return self._generator


def epoch_order(seed: int, epoch: int, samples: int) -> np.ndarray:
    """The order of an epoch: a permutation of range(samples), int64 of shape (samples,)."""
    return _generator(seed, _Purpose.ORDER, epoch).permutation(samples)


def shape_rng(seed: int, epoch: int) -> np.random.Generator:
    """For the order of an epoch's blocks of pictures of like shapes."""
    return _generator(seed, _Purpose.ORDER, epoch, 1)


def block_order(seed: int, epoch: int, stream: int, block: int, samples: int) -> np.ndarray:
    """The order of one block of a stream: a permutation of range(samples), int64 of shape (samples,)."""
    return _generator(seed, _Purpose.BLOCK, epoch, block, stream).permutation(samples)


def spare_rng(seed: int, step: int, rank: int = 0, micro: int = 0) -> np.random.Generator:
    """For the choice of what stands in for the damaged samples of a step, or of a rank's part of it."""
    return _generator(seed, _Purpose.SPARE, step, micro, rank)


def batch_rng(seed: int, step: int, rank: int, micro: int) -> np.random.Generator:
    """For what is drawn once a micro-batch on the host: Mixup's and CutMix's lambda, boxes, switches."""
    return _generator(seed, _Purpose.BATCH, step, micro, rank)


def device_seed(seed: int, step: int, rank: int, micro: int) -> int:
    """The seed of torch's generators for one micro-batch: drop path, dropout, the noise of random erasing."""
    return int(_generator(seed, _Purpose.DEVICE, step, micro, rank).integers(2**63 - 1))
