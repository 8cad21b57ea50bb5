"""The statistics of images for the channels that a model sees: red, green and blue, or their luma."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from hornet_train.tasks.classification.schema import ClassificationConfig, ClassificationEval, Preprocessing


def for_channels(values: Sequence[float], in_chans: int) -> tuple[float, ...]:
    """`data.mean` or `data.std` for a model's channels; three for one channel are averaged, as timm does."""
    return tuple(values) if len(values) == in_chans else (fmean(values),) * in_chans


def colour_of(data: Preprocessing) -> tuple[int, int, int]:
    """The mean of the images as a colour, 0..255."""
    red, green, blue = (round(255 * value) for value in (data.mean if len(data.mean) == 3 else data.mean * 3))
    return red, green, blue


def channel_notes(config: ClassificationConfig | ClassificationEval) -> list[str]:
    """A sentence where statistics of red, green and blue are averaged for grey."""
    data, in_chans = config.data, config.model.in_chans
    averaged = {
        f"data.{name}": for_channels(values, in_chans)[0]
        for name, values in (("mean", data.mean), ("std", data.std))
        if len(values) != in_chans and len(set(values)) > 1
    }
    if not averaged:
        return []
    own = " ".join(f"{key}=[{value:.4g}]" for key, value in averaged.items())
    return [
        f"model.in_chans=1: {' and '.join(averaged)} are those of red, green and blue, averaged for grey "
        f"as timm does: {own}"
    ]
