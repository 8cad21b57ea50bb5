"""Where samples come from."""

from hornet_train.data.sources.classes import check_same_classes, check_wnids
from hornet_train.data.sources.digits import DigitsSource
from hornet_train.data.sources.folder import FolderSource
from hornet_train.data.sources.hub import HubSource
from hornet_train.data.sources.source import Source, Split
from hornet_train.data.sources.synthetic import SyntheticSource

__all__ = [
    "DigitsSource",
    "FolderSource",
    "HubSource",
    "Source",
    "Split",
    "SyntheticSource",
    "check_same_classes",
    "check_wnids",
]
