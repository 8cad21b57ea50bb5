"""hornet-train: train, evaluate and deploy HorNet.

Importing this registers the HorNet models with timm: `timm.create_model("hornet_tiny_gf")`.
"""

from hornet_train._timm import register_with_timm

register_with_timm()
