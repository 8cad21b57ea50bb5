"""`hornet_train.swap`: gnConv in the place of layers of any network."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

    from hornet_train.integrations.exchange_layers import SwapReport, Where
    from hornet_train.models.mixers import Mixer


def swap(
    model: nn.Module,
    where: Where,
    *,
    order: int = 3,
    mixer: Mixer = "7x7",
    image_size: int | tuple[int, int] = 224,
    dry_run: bool = False,
) -> SwapReport:
    """Exchange layers of any network for new gnConvs of equal widths and stride, in place.

    Convolutions are square, odd, padded to keep their map, not dilated, with one group or one a channel (the
    token mixer of a ConvNeXt block). Attentions are those of timm's ViT, BEiT and Swin. A layer that several
    places share stays shared. Device, dtype and mode stay.

    Args:
        model: any network.
        where: names of layers, or of modules that hold them, with `*` and `?`: `"layer4"`,
            `"stages.*.conv_dw"`, or a list of such; or a function of name and module.
        order: of gnConv; widths are multiples of 2^(order - 1).
        mixer: see `hornet_train.models.GnConv`; "gf" stores filters for images of `image_size`.
        image_size: pixels, for which costs are counted.
        dry_run: report alone; the network stays as it is.

    Returns:
        What was exchanged, what was refused and why, parameters and MACs before and after; `print` shows it.

    Raises:
        ValueError: `where` means no layer, none of those it means can be exchanged, or the network would not
            run any more; the network is as it was.
    """
    from hornet_train.integrations.exchange_layers import exchange_layers

    return exchange_layers(model, where, order=order, mixer=mixer, image_size=image_size, dry_run=dry_run)
