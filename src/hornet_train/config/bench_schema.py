"""What the benches take: a group for each, typed."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hornet_train.config.fields import Count, ImageSize, Positive, group
from hornet_train.config.key import Key
from hornet_train.config.schema import Dist, FilePath

SEVERAL = Key(comma_list=True)
Names = Annotated[tuple[str, ...], Field(min_length=1), SEVERAL]
Modes = Annotated[tuple[Literal["train", "inference"], ...], Field(min_length=1), SEVERAL]
Layouts = Annotated[tuple[Literal["contiguous", "channels_last"], ...], Field(min_length=1), SEVERAL]
Precision = Literal["fp32", "bf16", "fp16"]
Sizes = Annotated[tuple[Count, ...], Field(min_length=2), SEVERAL]


@group
class StepBench:
    """A training step and an inference of several models."""

    models: Names  # by timm's names
    peers: Names  # ratios are to the first
    modes: Modes
    batch_size: Count  # images
    image_size: ImageSize  # pixels, square or [height,width]
    precision: Precision | None
    rounds: Count  # timed calls of each
    layouts: Layouts  # memory formats to try
    compile: bool | Literal["blocks", "graphs", "all"]  # also try torch.compile
    plain: bool  # also time the HorNets among models in plain layers
    runtimes: Annotated[  # also time inference of the models in other programs
        tuple[Literal["onnx", "openvino"], ...], SEVERAL
    ]
    out: FilePath  # a JSON file
    plot: FilePath  # a PNG
    dist: Dist


@group
class OneModel:
    """A bench of one model."""

    model: str  # by timm's name
    batch_size: Count  # images
    image_size: ImageSize  # pixels, square or [height,width]
    precision: Precision | None
    out: FilePath  # a JSON file
    dist: Dist


@group
class LoopBench(OneModel):
    """What the loop adds to a step."""

    rounds: Count  # timed steps of each kind
    checkpoints: Count  # how many are written


@group
class ScalingBench(OneModel):
    """How the time of a step grows. batch_size and image_size hold where they are not what grows."""

    modes: Modes
    batches: Sizes  # images
    sides: Sizes  # pixels
    orders: Sizes  # of one gnConv
    width: Count  # channels of that gnConv
    map_side: Count  # pixels of its map
    processes: Count  # of one thread each, timed beside one process of as many threads; 1: not at all
    rounds: Count  # timed calls of each
    plot: FilePath  # a PNG


@group
class LimitBench(OneModel):
    """How far a step is from what the machine can do."""

    compile: bool | Literal["blocks"]


@group
class HeadsBench:
    """The decode head of UperNet and its fusion."""

    widths: Annotated[tuple[Count, ...], Field(min_length=2), SEVERAL]  # of the backbone's levels
    channels: Count  # of the maps in the head
    num_classes: Count
    side: Count  # pixels of a square crop; the finest level has a quarter of them a side
    batch_size: Count  # crops
    parts: Annotated[tuple[Literal["fusion", "head"], ...], Field(min_length=1), SEVERAL]
    modes: Modes
    rounds: Count  # timed calls of each
    peer: bool  # also time the head of Hugging Face's transformers
    out: FilePath  # a JSON file
    dist: Dist


@group
class DetectorsBench:
    """Mask R-CNN, its RoIAlign and its pyramid."""

    image_size: ImageSize  # pixels, multiples of 32
    batch_size: Count  # pictures
    objects: Count  # in each
    regions: Count  # of the RoIAlign that is measured alone
    parts: Annotated[tuple[Literal["detector", "roi_align", "pyramid"], ...], Field(min_length=1), SEVERAL]
    modes: Modes
    rounds: Count  # timed calls of each
    out: FilePath  # a JSON file
    dist: Dist


@group
class ServiceBench(OneModel):
    """A model behind HTTP."""

    clients: Count  # that send pictures at once
    seconds: Positive  # for which they do


Bench = StepBench | LoopBench | ScalingBench | LimitBench | HeadsBench | DetectorsBench | ServiceBench
BENCHES: dict[str, type[Bench]] = {
    "step": StepBench,
    "loop": LoopBench,
    "scaling": ScalingBench,
    "limit": LimitBench,
    "heads": HeadsBench,
    "detectors": DetectorsBench,
    "service": ServiceBench,
}
