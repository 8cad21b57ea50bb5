"""Modules that stand on a backbone: necks and heads for dense prediction, and whole models by name."""

from hornet_train.dense.backbone import build_backbone, features_of
from hornet_train.dense.dense_models import create
from hornet_train.dense.horfpn import HorFPN
from hornet_train.dense.upernet import FcnHead, UperNetHead

__all__ = ["FcnHead", "HorFPN", "UperNetHead", "build_backbone", "create", "features_of"]
