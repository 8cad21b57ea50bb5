"""Where samples come from."""

from hornet_train.data.sources.classes import (
    check_same_classes,
    check_wnids,
    imagenet_22k_wnids,
    imagenet_wnids,
)
from hornet_train.data.sources.digits import DigitsSource
from hornet_train.data.sources.flat import FlatSource
from hornet_train.data.sources.folder import FolderSource
from hornet_train.data.sources.hub import HubSource
from hornet_train.data.sources.source import Source, Split
from hornet_train.data.sources.synthetic import SyntheticSource
from hornet_train.data.sources.torchvision_files import TorchvisionSource

__all__ = [
    "DigitsSource",
    "FlatSource",
    "FolderSource",
    "HubSource",
    "Source",
    "Split",
    "SyntheticSource",
    "TorchvisionSource",
    "check_same_classes",
    "check_wnids",
    "imagenet_22k_wnids",
    "imagenet_wnids",
]
