"""What the benches take."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hornet_train.config.fields import Count, group
from hornet_train.config.schema import Dist

Names = Annotated[tuple[str, ...], Field(min_length=1)]
Modes = Annotated[tuple[Literal["train", "inference"], ...], Field(min_length=1)]


@group
class StepBench:
    """A training step and an inference of several models."""

    models: Names  # by timm's names
    peers: Names  # ratios are to the first
    modes: Modes
    batch_size: Count  # images
    image_size: Count  # pixels, square
    precision: Literal["fp32", "bf16", "fp16"]
    rounds: Count  # calls of each that count
    compile: bool  # torch.compile is tried too
    plain: bool  # also the HorNets among models in plain layers
    out: str | None  # a JSON file
    plot: str | None  # a PNG
    dist: Dist
