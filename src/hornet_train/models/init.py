"""The published initialisation, in place."""

from timm.layers import trunc_normal_
from torch import nn

from hornet_train.models.block import Block
from hornet_train.models.layers import LayerNorm


def init_layer_(module: nn.Module) -> None:
    """Weights of convolutions and linear layers from a normal of std 0.02 (truncated at +-2), biases 0.

    On the meta device nothing is done: there are no values, and each operator takes long.
    """
    if any(parameter.is_meta for parameter in module.parameters(recurse=False)):
        return
    if isinstance(module, nn.Conv2d | nn.Linear):
        trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, LayerNorm | nn.LayerNorm):
        nn.init.ones_(module.weight)
        nn.init.zeros_(module.bias)
    elif isinstance(module, Block):
        for gamma in (module.gamma1, module.gamma2):
            if gamma is not None:
                nn.init.constant_(gamma, module.layer_scale_init)
