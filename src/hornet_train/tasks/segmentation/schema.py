"""The config of segmentation: model, data, augmentation, loss and evaluation, besides what tasks share."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from hornet_train.config import schema
from hornet_train.config.fields import (
    Count,
    Fraction,
    ImageSize,
    NotNegative,
    PerChannel,
    Positive,
    Share,
    group,
)
from hornet_train.config.key import Key
from hornet_train.config.schema import FilePath, NeutralPath

_SEEN = Key(preprocessing=True, how_read=True)


def _listed(value: Any) -> Any:
    """One value as a list of one; null as an empty list."""
    if value is None:
        return []
    return value if isinstance(value, (list, tuple)) else [value]


@group
class Model(schema.Model):
    """A published UperNet by its name, or UperNet on any backbone of timm's."""

    backbone: str | None  # of model.name=upernet, as timm knows it
    fusion: Literal["conv", "7x7", "gf"] | None  # what joins the levels: a 3x3 convolution, or gnConv
    channels: Annotated[int, Field(ge=2, strict=True)] | None  # of the maps in the decode head
    dropout: Annotated[Fraction, Key(training_only=True, no_cost=True)]  # of channels before the classifiers


@group
class Preprocessing:
    """How a picture becomes the model's input, and how its pixels are answered for."""

    image_size: Annotated[ImageSize, _SEEN]  # of a training crop and of a window: square or [height,width]
    mean: Annotated[PerChannel, _SEEN]  # of each channel, in 0..1
    std: Annotated[PerChannel, _SEEN]
    scale: Annotated[  # [short,long]: most pixels of either side of a picture; null: as it is stored
        tuple[Count, Count] | None, _SEEN
    ]
    antialias: Annotated[bool, _SEEN]  # when a picture shrinks; the published trainings do without
    inference: Annotated[Literal["slide", "whole"], _SEEN]  # windows of image_size, or the picture at once
    stride: Annotated[Count | None, _SEEN]  # between windows, in pixels; null: two thirds of a window
    ratios: Annotated[  # scales of which an evaluation averages the probabilities
        tuple[Positive, ...], Field(min_length=1), _SEEN
    ]
    flip: Annotated[bool, _SEEN]  # and those of the mirror images


@group
class Pictures(schema.Data, Preprocessing):
    """What all data groups of segmentation have."""


@group
class Ade20kData(Pictures):
    """ADEChallengeData2016, with its folders images/ and annotations/."""

    source: Literal["ade20k"]
    root: NeutralPath


@group
class CityscapesData(Pictures):
    """Cityscapes, with its folders leftImg8bit/ and gtFine/."""

    source: Literal["cityscapes"]
    root: NeutralPath


@group
class Coded(Pictures):
    """Anyone's masks, and what their values mean."""

    classes: FilePath  # a name a line, with a colour where masks are in colours; null: root/classes.txt
    values: tuple[Annotated[int, Field(ge=0, le=255, strict=True)], ...] | None  # stored value of each class
    ignore: Annotated[tuple[int | str, ...], BeforeValidator(_listed)]  # values or colours without a label
    reduce_zero_label: bool  # 0 is no label, and 1 the first class


@group
class MasksData(Coded):
    """Folders of pictures and masks."""

    source: Literal["masks"]
    root: NeutralPath
    images_dir: str | None  # null: images, or another usual name
    masks_dir: str | None  # null: masks, annotations, labels or another usual name
    val: Annotated[bool, Key(training_only=True)]  # false: nothing is held out and the run evaluates nothing
    val_share: Annotated[  # of the pictures, to hold out; null: there are folders for that
        Annotated[float, Field(gt=0, lt=1, strict=True)] | None, Key(neutral=True)
    ]


@group
class HubData(Coded):
    """What Hugging Face's `datasets` reads, with a column of pictures and one of masks."""

    source: Literal["hub"]
    name: FilePath  # id of a hub data set, or a local folder, file or pattern
    config: str | None
    revision: str | None
    train_split: Annotated[str, Key(training_only=True)]
    val_split: str | None  # null: nothing is held out
    image_column: str | None
    mask_column: str | None


Data = Annotated[Ade20kData | CityscapesData | MasksData | HubData, Field(discriminator="source")]


@group
class Augment(schema.Augment):
    """Random changes of training pictures with their masks."""

    ratio: tuple[Positive, Positive]  # smallest and largest factor of data.scale
    cat_max_ratio: Share  # a crop with a larger share of one class is drawn again, up to ten times; 1: never
    hflip: Fraction  # probability
    photometric: bool  # brightness, contrast, saturation and hue by random amounts
    pad: Literal["crop", "batch"]  # pad always to image_size, or to the largest crop of a micro-batch
    fill: Literal["mean", "black"]  # of the padding: mean is 0 to the model, as published


@group
class Task(schema.Task):
    """The losses of segmentation."""

    name: Literal["segmentation"]
    auxiliary: NotNegative  # weight of the auxiliary head's loss; 0: there is no such head
    average: Literal["all", "valid"]  # over all pixels, ignored ones included, as published; or labelled ones
    class_weights: Annotated[  # a factor for each class; auto: median share / its share in some masks
        Literal["auto"] | tuple[Positive, ...] | None, Field()
    ]
    focal_gamma: NotNegative  # of focal loss; 0: cross-entropy
    hardest: Share  # OHEM: the share of each crop's labelled pixels that count, those of the largest loss
    dice: NotNegative  # weight of a Dice loss beside it


@group
class Recipe(schema.Recipe):
    """A recipe of segmentation; the published result is mIoU in per cent, in single and multi-scale."""


@group
class SegmentationConfig(schema.Config):
    """A training of a segmentation model."""

    model: Model
    data: Data
    augment: Augment
    task: Task
    recipe: Recipe


@group
class SegmentationInfo(schema.InfoConfig):
    """What hornet-info is asked about a segmentation model."""

    model: Model


@group
class SegmentationEval(schema.EvalConfig):
    """An evaluation of a segmentation model."""

    model: Model
    data: Data
    save: Annotated[  # masks: the predicted classes; overlays: truth and prediction on the pictures
        tuple[Literal["masks", "overlays"], ...], BeforeValidator(_listed)
    ]
    save_dir: FilePath  # null: beside out
    worst: Annotated[int, Field(ge=0, le=64, strict=True)]  # pictures of the lowest mIoU that are drawn
