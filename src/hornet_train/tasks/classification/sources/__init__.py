"""Sources of labelled images: stored files, tables and tars, with labels."""

from hornet_train.tasks.classification.sources.class_folders import FolderSource
from hornet_train.tasks.classification.sources.digits import DigitsSource
from hornet_train.tasks.classification.sources.flat_val import FlatSource
from hornet_train.tasks.classification.sources.hub_tables import HubSource
from hornet_train.tasks.classification.sources.labelled import LabelledImages, LabelledShards
from hornet_train.tasks.classification.sources.labelled_shards import open_shards
from hornet_train.tasks.classification.sources.synthetic import SyntheticSource
from hornet_train.tasks.classification.sources.torchvision_files import TorchvisionSource
from hornet_train.tasks.classification.sources.wnids import (
    check_wnids,
    imagenet_22k_wnids,
    imagenet_wnids,
)

__all__ = [
    "DigitsSource",
    "FlatSource",
    "FolderSource",
    "HubSource",
    "LabelledImages",
    "LabelledShards",
    "SyntheticSource",
    "TorchvisionSource",
    "check_wnids",
    "imagenet_22k_wnids",
    "imagenet_wnids",
    "open_shards",
]
