"""The parts of a dense model and what they cost, as a table."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from hornet_train.dense.counts import count_dense
from hornet_train.errors import ConfigError
from hornet_train.images.size import Size, as_value, height_width
from hornet_train.models.spec import MODEL_ERRORS, error_text
from hornet_train.tasks.kit_types import ModelParts, Table

_COLUMNS = ("part", "parameters", "GMACs", "as published, GFLOPs")
_MEANING = (
    "GMACs: multiply-accumulates of convolutions and linear layers, of one image. As published: with one "
    "more for each output of a convolution with bias, of a ReLU {}, and each pooled value."
)


def model_parts(
    built: nn.Module, name: str, size: Size, *, in_chans: int, classes: int, relu: str, notes: Sequence[str]
) -> ModelParts:
    """Count a dense model; see `count_dense`.

    Args:
        built: the model.
        name: for the title.
        size: of the image, in pixels.
        in_chans: its channels.
        classes: K.
        relu: which of its ReLUs count in the published figures.
        notes: sentences behind those on the figures.

    Raises:
        ConfigError: the model takes no image of that size.
    """
    height, width = height_width(size)
    try:
        counts = count_dense(built, (in_chans, height, width))
    except MODEL_ERRORS as error:
        raise ConfigError(
            [f"image_size={as_value(size)} does not suit {name}: {error_text(error)}"]
        ) from error
    rows = [
        (part, f"{number:,}", _giga(counts.macs.get(part)), _giga(counts.flops.get(part)))
        for part, number in counts.parameters.items()
    ]
    totals = [sum(one.values()) for one in (counts.parameters, counts.macs, counts.flops)]
    rows.append(("all", f"{totals[0]:,}", _giga(totals[1]), _giga(totals[2])))
    title = f"{name} at {height} x {width}, {classes} classes"
    return ModelParts(
        size, totals[0], totals[1], Table(title, _COLUMNS, rows), [_MEANING.format(relu), *notes]
    )


def _giga(count: int | None) -> str:
    return "-" if count is None else f"{count / 1e9:.4f}"
