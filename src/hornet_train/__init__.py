"""hornet-train: train, evaluate and deploy HorNet.

Importing this registers the HorNet models with timm: `timm.create_model("hornet_tiny_gf")`. The commands are
calls, too: `hornet_train.train(["model=hornet_t_gf", ...])`, `evaluate`, `load`, `info`.
"""

from hornet_train._timm import register_with_timm
from hornet_train.library import evaluate, info, load, train

__all__ = ["evaluate", "info", "load", "train"]

register_with_timm()
