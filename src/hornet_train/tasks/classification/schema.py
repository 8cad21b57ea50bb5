"""The config of classification: data, augmentation, loss and evaluation sets, besides what tasks share."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, PlainSerializer

from hornet_train.config import schema
from hornet_train.config.fields import (
    Count,
    Fraction,
    ImageSize,
    Jitter,
    Length,
    NotNegative,
    PerChannel,
    Positive,
    Share,
    group,
)
from hornet_train.config.key import Key
from hornet_train.config.schema import FilePath, NeutralPath
from hornet_train.errors import did_you_mean
from hornet_train.tasks.classification.evaluation_sets import EvaluationSet

ClassOrder = Literal["sorted", "natural"]  # of labels by name: as text, or with numbers by their values
ValShare = Annotated[  # of the training images of each class, to hold out; null: none, there is a val folder
    Annotated[float, Field(gt=0, lt=1, strict=True)] | None, Key(neutral=True)
]
Exif = Literal["ignore", "apply"]
Interpolation = Literal["bicubic", "bilinear"]


@group
class Preprocessing:
    """How an image becomes the model's input."""

    image_size: Annotated[  # pixels, square or [height,width]
        ImageSize, Key(preprocessing=True, how_read=True)
    ]
    mean: Annotated[  # of each channel, in 0..1: red, green and blue, or grey
        PerChannel, Key(preprocessing=True, how_read=True)
    ]
    std: Annotated[PerChannel, Key(preprocessing=True, how_read=True)]
    crop_pct: Annotated[  # crop / short side, in evaluations below 384 pixels
        Share, Key(preprocessing=True, how_read=True)
    ]
    interpolation: Annotated[Interpolation, Key(preprocessing=True, how_read=True)]
    exif: Annotated[  # apply: turn photos as their EXIF orientation says
        Exif, Key(preprocessing=True, how_read=True, absent=("ignore",))
    ]


@group
class Images(schema.Data, Preprocessing):
    """What all data groups of classification have."""


@group
class NamedImages(Images):
    """Images whose classes are named by whoever stored them."""

    class_map: Annotated[
        FilePath, Key(absent=(None,))
    ]  # lines of old,new: other names for classes; several old ones may become one


@group
class DigitsData(Images):
    """scikit-learn's handwritten digits."""

    source: Literal["digits"]


@group
class FolderData(NamedImages):
    """Class folders under root/train and root/val."""

    source: Literal["folder"]
    root: NeutralPath  # neutral: which images there are is stored and compared apart from the config
    classes: Literal["any", "imagenet_1k", "imagenet_22k"]  # the class folders must be those of this set
    val: Annotated[  # false: there is no root/val and, without val_share, the run evaluates nothing
        bool, Key(training_only=True)
    ]
    val_share: ValShare
    train_dir: Annotated[str, Key(neutral=True)]  # folder below root
    val_dir: Annotated[str, Key(neutral=True)]
    val_labels: NeutralPath  # labels file of ImageNet's loose val images; null: val has class folders
    class_order: Annotated[ClassOrder, Key(absent=("sorted",))]


@group
class CsvData(NamedImages):
    """Files listed in a text file with their labels."""

    source: Literal["csv"]
    file: NeutralPath  # neutral: as for class folders
    root: NeutralPath  # folder that its paths are relative to; null: that of the file
    image_column: str | None  # null: the column with a usual name
    label_column: str | None
    split_column: str | None
    val: Annotated[bool, Key(training_only=True)]  # false: without val_share the run evaluates nothing
    val_share: ValShare
    class_order: Annotated[ClassOrder, Key(absent=("sorted",))]


@group
class HubData(NamedImages):
    """What Hugging Face's `datasets` reads: of the hub, or parquet, arrow and webdataset files."""

    source: Literal["hub"]
    name: FilePath  # id of a hub data set, or a local folder, file or pattern
    config: str | None  # of a hub data set that has several
    revision: str | None  # branch, tag or commit of a hub data set; null: the newest
    train_split: Annotated[str, Key(training_only=True)]
    val_split: str | None  # null: nothing is held out and the run evaluates nothing
    image_column: str | None  # null: the only column of images
    label_column: str | None  # null: found by type, by a usual name, or by its few distinct values
    streaming: bool  # read shards from front to back instead of at random
    shuffle_buffer: Annotated[  # streaming: encoded images that each worker holds and shuffles
        Count, Key(training_only=True)
    ]


@group
class SyntheticData(Images):
    """Coloured gratings made on the fly."""

    source: Literal["synthetic"]
    train_count: Annotated[Count, Key(training_only=True)]
    val_count: Count
    num_classes: Count
    source_size: Count  # pixels, square, before the transforms


@group
class TorchvisionData(NamedImages):
    """CIFAR or MNIST files below root, as torchvision reads them; the test set is held out."""

    source: Literal["torchvision"]
    name: Literal["cifar10", "cifar100", "mnist", "fashion_mnist"]
    root: NeutralPath


@group
class SetData(Images):
    """A set that ImageNet classifiers are evaluated on; root is its folder."""

    source: Annotated[
        Literal["imagenet_v2", "imagenet_a", "imagenet_r", "imagenet_sketch", "imagenet_c"],
        Key(evaluation_only=True),
    ]
    root: NeutralPath


@group
class RealData(Images):
    """ImageNet's validation images under ReaL's labels."""

    source: Annotated[Literal["imagenet_real"], Key(evaluation_only=True)]
    root: NeutralPath  # the val folder, or the one that holds it
    labels: FilePath  # real.json; null: the published labels


@group
class SuiteData(Images):
    """Several such sets, chosen by `suite`, in their usual folders below root."""

    source: Annotated[Literal["suite"], Key(evaluation_only=True)]
    root: NeutralPath


EVALUATION_DATA = (SetData, RealData, SuiteData)

Data = Annotated[
    DigitsData
    | FolderData
    | CsvData
    | HubData
    | SyntheticData
    | TorchvisionData
    | SetData
    | RealData
    | SuiteData,
    Field(discriminator="source"),
]


@group
class Augment(schema.Augment):
    """Random changes of training images, and their mixing."""

    scale: tuple[Share, Share]  # random resized crop: share of the area
    ratio: tuple[Positive, Positive]  # and width / height
    hflip: Fraction  # probability
    policy: str | None  # rand-m9-mstd0.5-inc1, original, v0, 3a, augmix-m3-w3, ta_wide, three
    color_jitter: Jitter | None  # after the policy; one number stands for the first three
    color_jitter_prob: Fraction  # of the colour jitter
    grayscale: Fraction  # probability
    blur: Fraction  # probability of a Gaussian blur of 0.1 to 2 pixels
    erase: Fraction  # probability of random erasing
    mixup: NotNegative  # alpha of Beta(alpha, alpha); 0: no mixup
    cutmix: NotNegative  # likewise
    mix_prob: Fraction  # share of the micro-batches that are mixed
    switch_prob: Fraction  # of these, the share with CutMix where both are on
    repeats: Count  # copies of each image in a step, each augmented differently (repeated augmentation)
    start_size: ImageSize | None  # of the first epoch, growing to data.image_size; one number: short side
    grow_until: Length  # from the start of the run
    size_step: Count  # pixels; sizes on the way are multiples of it


@group
class Task(schema.Task):
    """The loss of classification."""

    name: Literal["classification"]
    label_smoothing: Annotated[float, Field(ge=0, lt=1, strict=True)]


def _from_top1(value: Any) -> dict[str, float]:
    if value is None:
        return {}
    try:
        return {"top1": float(value)}
    except (TypeError, ValueError):
        raise ValueError("input should be a valid number, unable to parse string as a number") from None


@group
class Recipe(schema.Recipe):
    """A recipe of classification. In files the published result is a single number, `top1`, in per cent."""

    published: Annotated[
        dict[str, float],
        BeforeValidator(_from_top1),
        PlainSerializer(lambda published: published.get("top1")),
        Field(alias="top1"),
    ]


@group
class ClassificationConfig(schema.Config):
    """A training of a classifier."""

    data: Data
    augment: Augment
    task: Task
    recipe: Recipe


def _sets(value: object) -> object:
    """`all`, or a set or list of sets, each once."""
    if value is None or value == "all":
        return value
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, (list, tuple)) or not names:
        raise ValueError("is neither all nor a list of evaluation sets, as in [imagenet,imagenet_a]")
    for name in names:
        if name not in get_args(EvaluationSet):
            raise ValueError(
                f"no evaluation set {name!r}; {did_you_mean(str(name), get_args(EvaluationSet))}"
            )
    return tuple(dict.fromkeys(names))


@group
class ClassificationEval(schema.EvalConfig):
    """An evaluation of a classifier."""

    data: Data
    suite: Annotated[  # evaluation sets below data.root; all: as many as are found
        tuple[EvaluationSet, ...] | Literal["all"] | None,
        BeforeValidator(_sets),
        Key(selects_data="_suite"),
    ]
