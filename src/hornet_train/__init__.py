"""hornet-train: train, evaluate and deploy HorNet.

Importing this registers the HorNet models with timm: `timm.create_model("hornet_tiny_gf")`. The commands are
calls, too: `hornet_train.train(["model=hornet_t_gf", ...])`, `evaluate`, `load`,
`predict`, `serve`, `export_model`, `info`, `swap`.
"""

# ruff: noqa: E402 - what comes first ends a command on Ctrl-C while all else is imported
from hornet_train._interrupt import end_at_once_on_interrupt

end_at_once_on_interrupt()

from hornet_train._timm import register_with_timm
from hornet_train.layer_swap import swap
from hornet_train.library import evaluate, export_model, info, load, predict, serve, train

__all__ = ["evaluate", "export_model", "info", "load", "predict", "serve", "swap", "train"]

register_with_timm()
