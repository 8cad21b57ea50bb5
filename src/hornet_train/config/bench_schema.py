"""What the benches take."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hornet_train.config.fields import Count, group
from hornet_train.config.schema import Dist

Names = Annotated[tuple[str, ...], Field(min_length=1)]
Modes = Annotated[tuple[Literal["train", "inference"], ...], Field(min_length=1)]
Layouts = Annotated[tuple[Literal["contiguous", "channels_last"], ...], Field(min_length=1)]
Precision = Literal["fp32", "bf16", "fp16"]
Sizes = Annotated[tuple[Count, ...], Field(min_length=2)]


@group
class StepBench:
    """A training step and an inference of several models."""

    models: Names  # by timm's names
    peers: Names  # ratios are to the first
    modes: Modes
    batch_size: Count  # images
    image_size: Count  # pixels, square
    precision: Precision | None
    rounds: Count  # calls of each that count
    layouts: Layouts  # memory formats that are tried
    compile: bool  # torch.compile is tried too
    plain: bool  # also the HorNets among models in plain layers
    out: str | None  # a JSON file
    plot: str | None  # a PNG
    dist: Dist


@group
class OneModel:
    """A bench of one model."""

    model: str  # by timm's name
    batch_size: Count  # images
    image_size: Count  # pixels, square
    precision: Precision | None
    out: str | None  # a JSON file
    dist: Dist


@group
class LoopBench(OneModel):
    """What the loop adds to a step."""

    rounds: Count  # steps of each kind that count
    checkpoints: Count  # that are written


@group
class ScalingBench(OneModel):
    """How the time of a step grows; batch_size and image_size stand where they are not what grows."""

    modes: Modes
    batches: Sizes  # images
    sides: Sizes  # pixels
    orders: Sizes  # of one gnConv
    width: Count  # channels of that gnConv
    map_side: Count  # pixels of its map
    processes: Count  # of one thread each, beside one process of as many; 1: none
    rounds: Count  # calls of each that count
    plot: str | None  # a PNG


@group
class LimitBench(OneModel):
    """How far a step is from what the machine can do."""

    compile: bool


Bench = StepBench | LoopBench | ScalingBench | LimitBench
