"""The data groups of the config, typed."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hornet_train.config.fields import RGB, Count, Fraction, Share, group


@group
class _Images:
    image_size: Count  # pixels, square
    mean: RGB  # of RGB in 0..1
    std: RGB
    crop_pct: Share  # crop / short side of evaluations below 384 pixels
    interpolation: Literal["bicubic", "bilinear"]
    workers: Annotated[int, Field(ge=0, le=256, strict=True)]  # reading processes of each rank
    prefetch: Count  # batches ready in each worker
    drop_last: bool  # leave out the shorter last step of an epoch
    max_bad: Fraction  # share of the training images that may be damaged; others stand in for these
    on_bad: Literal["error", "skip"]  # of an evaluation that meets a damaged image


@group
class DigitsData(_Images):
    """scikit-learn's handwritten digits."""

    source: Literal["digits"]


@group
class FolderData(_Images):
    """Class folders under root/train and root/val."""

    source: Literal["folder"]
    root: str | None
    classes: Literal["any", "imagenet_1k", "imagenet_22k"]  # checked against what is on the disk
    val: bool  # false: there is no root/val and the run evaluates nothing
    train_dir: str  # folder below root
    val_dir: str
    val_labels: str | None  # labels file of ImageNet's loose val images; null: val has class folders


@group
class HubData(_Images):
    """What Hugging Face's `datasets` reads: of the hub, or parquet, arrow and webdataset files."""

    source: Literal["hub"]
    name: str | None  # id of a hub data set, or a local folder, file or pattern
    config: str | None  # of a hub data set that has several
    revision: str | None  # branch, tag or commit of a hub data set; null: the newest
    train_split: str
    val_split: str | None  # null: nothing is held out and the run evaluates nothing
    image_column: str | None  # null: the one whose type tells
    label_column: str | None
    streaming: bool  # read shards from front to back instead of at random
    shuffle_buffer: Count  # streaming: encoded images that each worker holds and shuffles


@group
class SyntheticData(_Images):
    """Coloured gratings made on the fly."""

    source: Literal["synthetic"]
    train_count: Count
    val_count: Count
    num_classes: Count
    source_size: Count  # pixels, square, before the transforms


@group
class TorchvisionData(_Images):
    """CIFAR or MNIST files below root, as torchvision reads them; the test set is held out."""

    source: Literal["torchvision"]
    name: Literal["cifar10", "cifar100", "mnist", "fashion_mnist"]
    root: str | None


@group
class SetData(_Images):
    """A set that ImageNet classifiers are evaluated on; root is its folder."""

    source: Literal["imagenet_v2", "imagenet_a", "imagenet_r", "imagenet_sketch", "imagenet_c"]
    root: str | None


@group
class RealData(_Images):
    """ImageNet's validation images under ReaL's labels."""

    source: Literal["imagenet_real"]
    root: str | None  # the val folder, or the one that holds it
    labels: str | None  # real.json; null: the published labels


@group
class SuiteData(_Images):
    """Several such sets, chosen by `suite`, in their usual folders below root."""

    source: Literal["suite"]
    root: str | None


EVALUATION_DATA = (SetData, RealData, SuiteData)

Data = Annotated[
    DigitsData | FolderData | HubData | SyntheticData | TorchvisionData | SetData | RealData | SuiteData,
    Field(discriminator="source"),
]
