"""The config of detection: model, data, augmentation and evaluation, besides what tasks share."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from hornet_train.config import schema
from hornet_train.config.fields import Count, Fraction, PerChannel, Positive, group
from hornet_train.config.key import Key
from hornet_train.config.schema import FilePath, NeutralPath

_SEEN = Key(preprocessing=True, how_read=True)
Side = Annotated[int, Field(ge=8, strict=True)]


def _listed(value: Any) -> Any:
    """One value as a list of one; null as an empty list."""
    if value is None:
        return []
    return value if isinstance(value, (list, tuple)) else [value]


@group
class Model(schema.Model):
    """A published detector by its name, or Mask R-CNN or its cascade on any backbone of timm's."""

    backbone: str | None  # as timm knows it
    neck: Literal["fpn", "horfpn_7x7", "horfpn_gf"] | None  # the pyramid: 3x3 convolutions, or gnConv
    masks: bool  # false: boxes alone (Faster R-CNN, Cascade R-CNN)
    channels: Annotated[int, Field(ge=2, strict=True)] | None  # of the pyramid and the heads
    width: Count | None  # of the box heads' fully connected layers


@group
class Pictures(schema.Data):
    """What all data groups of detection have: how a picture becomes the model's input."""

    mean: Annotated[PerChannel, _SEEN]  # of each channel, in 0..1
    std: Annotated[PerChannel, _SEEN]
    scale: Annotated[  # [short,long]: most pixels of either side of a picture; null: as it is stored
        tuple[Side, Side] | None, _SEEN
    ]
    antialias: Annotated[bool, _SEEN]  # when a picture shrinks; the published trainings do without
    fill: Annotated[Literal["mean", "black"], _SEEN]  # of the padding: mean is 0 to the model, as published
    empty: Annotated[bool, Key(training_only=True)]  # train on pictures without objects, too
    group_shapes: Annotated[bool, Key(training_only=True)]  # pictures of like shapes make a step


@group
class CocoData(Pictures):
    """COCO 2017, with its folders annotations/, train2017/ and val2017/."""

    source: Literal["coco"]
    root: NeutralPath


@group
class CocoFolderData(Pictures):
    """Anyone's pictures with COCO's JSON."""

    source: Literal["coco_folder"]
    root: NeutralPath
    train_json: Annotated[str | None, Key(training_only=True)]  # within root; null: found by its name
    val_json: str | None
    train_images: Annotated[
        str | None, Key(training_only=True)
    ]  # folder within root; null: found by its name
    val_images: str | None
    val: Annotated[bool, Key(training_only=True)]  # false: nothing is held out and the run evaluates nothing
    val_share: Annotated[  # of the pictures, to hold out; null: there is a JSON for that
        Annotated[float, Field(gt=0, lt=1, strict=True)] | None, Key(neutral=True)
    ]


@group
class VocData(Pictures):
    """Pascal VOC: an XML file with boxes for each picture."""

    source: Literal["voc"]
    root: NeutralPath
    train_split: Annotated[str, Key(training_only=True)]  # ImageSets/Main/<this>.txt, or a folder
    val_split: str | None  # null: nothing is held out
    val_share: Annotated[  # of the training pictures, to hold out in place of val_split
        Annotated[float, Field(gt=0, lt=1, strict=True)] | None, Key(neutral=True)
    ]


@group
class HubData(Pictures):
    """What Hugging Face's `datasets` reads, with a column of pictures and one of objects."""

    source: Literal["hub"]
    name: FilePath  # id of a hub data set, or a local folder, file or pattern
    config: str | None
    revision: str | None
    train_split: Annotated[str, Key(training_only=True)]
    val_split: str | None  # null: nothing is held out
    image_column: str | None
    objects_column: str | None
    box_format: Literal["xywh", "xyxy"]  # left, top, width, height; or left, top, right, bottom


Data = Annotated[CocoData | CocoFolderData | VocData | HubData, Field(discriminator="source")]


@group
class Augment(schema.Augment):
    """Random changes of training pictures with their boxes and masks."""

    # of a training picture, one at random; null: the size of evaluations, data.scale
    short_sides: Annotated[tuple[Side, ...], Field(min_length=1)] | None
    crop_share: Fraction  # how often a picture is resized, cropped and resized again
    crop_short_sides: Annotated[tuple[Side, ...], Field(min_length=1)]  # before the crop, one at random
    crop: tuple[Side, Side]  # smallest and largest side of the crop
    jitter: tuple[Positive, Positive] | None  # large-scale jitter in place of all these
    copy_paste: Fraction  # how often objects of another picture are pasted
    hflip: Fraction  # probability
    photometric: bool  # brightness, contrast, saturation and hue by random amounts


@group
class Task(schema.Task):
    """The rules of detection."""

    name: Literal["detection"]
    border: Annotated[int, Field(ge=-1, strict=True)] | None  # pixels that anchors may reach out; -1: any
    regions: Annotated[int, Field(ge=4, strict=True)] | None  # of a picture that the heads are trained on
    try_largest: bool  # a batch of the largest pictures with most objects behind the first step


@group
class Recipe(schema.Recipe):
    """A recipe of detection; the published result is AP of boxes and masks in per cent."""


@group
class DetectionConfig(schema.Config):
    """A training of a detector."""

    model: Model
    data: Data
    augment: Augment
    task: Task
    recipe: Recipe


@group
class DetectionInfo(schema.InfoConfig):
    """What hornet-info is asked about a detector."""

    model: Model


@group
class DetectionEval(schema.EvalConfig):
    """An evaluation of a detector."""

    model: Model
    data: Data
    save: Annotated[  # overlays: truth and detections on the pictures; json: COCO's results
        tuple[Literal["overlays", "json"], ...], BeforeValidator(_listed)
    ]
    save_dir: FilePath  # null: beside out
    worst: Annotated[int, Field(ge=0, le=64, strict=True)]  # pictures with most mistakes that are drawn
