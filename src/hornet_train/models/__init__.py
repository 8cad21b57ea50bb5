"""HorNet and its parts. Importing this package registers every variant with timm."""

from hornet_train.models import variants as variants  # registers
from hornet_train.models.global_filter import GlobalLocalFilter
from hornet_train.models.gnconv import GnConv
from hornet_train.models.hornet import HorNet

__all__ = ["GlobalLocalFilter", "GnConv", "HorNet"]
