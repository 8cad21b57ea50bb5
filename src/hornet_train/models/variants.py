"""The model family, one row a model; a loop registers every row with timm.

After `import hornet_train.models`, `timm.create_model("hornet_tiny_gf", drop_path_rate=...)` works.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import (
    build_model_with_cfg,
    generate_default_cfgs,
    register_model,
    resolve_pretrained_cfg,
)
from torch import Tensor, nn

from hornet_train.errors import CheckpointError
from hornet_train.models.convert import STEM, Misfit, convert_names, fit_filters, trunk
from hornet_train.models.hornet import HorNet

log = logging.getLogger(__name__)

GF = ("7x7", "7x7", "gf", "gf")  # the global filter acts in the last two stages only


@dataclass(frozen=True)
class Variant:
    """One registered model: the arguments of `HorNet` that set it apart, and the image size it is made for.

    Attributes:
        name: timm's name.
        dim: width of the first stage, the paper's C.
        mixers: f, of all stages or of each.
        image_size: height and width of an input image, in pixels.
        about: what to know of it besides.
    """

    name: str
    dim: int
    mixers: str | tuple[str, ...] = "7x7"
    image_size: int = 224
    depths: tuple[int, ...] = (2, 3, 18, 2)
    orders: int | tuple[int, ...] = (2, 3, 4, 5)
    stem_stride: int = 4
    isotropic: bool = False
    layer_scale_init: float = 1e-6
    about: str = "as published"

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments for `HorNet`."""
        return {
            "dim": self.dim,
            "mixers": self.mixers,
            "img_size": self.image_size,
            "depths": self.depths,
            "orders": self.orders,
            "stem_stride": self.stem_stride,
            "isotropic": self.isotropic,
            "layer_scale_init": self.layer_scale_init,
        }

    def pretrained_cfg(self) -> dict[str, Any]:
        """timm's description of input and head. From 384 pixels on, evaluation warps the image, uncropped."""
        crop = {"crop_pct": 1.0, "crop_mode": "squash"} if self.image_size >= 384 else {"crop_pct": 0.875}
        last = self.image_size // (self.stem_stride * (1 if self.isotropic else 2 ** (len(self.depths) - 1)))
        return {
            "input_size": (3, self.image_size, self.image_size),
            "pool_size": (last, last),
            "num_classes": 1000,
            "mean": IMAGENET_DEFAULT_MEAN,
            "std": IMAGENET_DEFAULT_STD,
            "interpolation": "bicubic",
            "first_conv": "downsample_layers.0.0",
            "classifier": "head",
            **crop,
        }


def _pico(name: str, mixers: str | tuple[str, ...]) -> Variant:
    """A model for 32 x 32 images and for tests on CPU, ours, not the paper's.

    Its runs are short, and a layer scale of 1e-6 does not wake the blocks up in them. After 110 AdamW steps
    on the digits (batch 64, lr 4e-3, one seed) the gf model has 92.5 % of the held-out ones right from 1e-6,
    93.3 % from 0.1 and 96.1 % from 1; the 7x7 model 90.6, 94.4 and 95.8 %. So it starts from 1.
    """
    return Variant(
        name=name,
        dim=16,
        mixers=mixers,
        image_size=32,
        depths=(1, 2, 4, 1),
        stem_stride=2,
        layer_scale_init=1.0,
        about="ours, for small images and tests; not the paper's",
    )


def _isotropic(name: str, dim: int, mixer: str) -> Variant:
    """One width and one resolution throughout: a 16x16 stem without a norm, then blocks without layer scale.

    The authors did not record depth and order of the models they report. These have the order of the last
    stage, 5, and 12 blocks, which then cost about what the isotropic ConvNeXt-S and -B do (22M parameters and
    4.3 GMACs, 87M and 16.9). The blocks are grouped into four stages of three, for the features that
    timm's contract asks for; nothing lies between these.
    """
    return Variant(
        name=name,
        dim=dim,
        mixers=mixer,
        depths=(3, 3, 3, 3),
        orders=5,
        stem_stride=16,
        isotropic=True,
        layer_scale_init=0.0,
        about="the paper's isotropic structure; depth and order, which it does not record, are ours",
    )


VARIANTS: dict[str, Variant] = {
    row.name: row
    for row in (
        Variant("hornet_tiny_7x7", 64),
        Variant("hornet_tiny_gf", 64, GF),
        Variant("hornet_small_7x7", 96),
        Variant("hornet_small_gf", 96, GF),
        Variant("hornet_base_7x7", 128),
        Variant("hornet_base_gf", 128, GF),
        Variant("hornet_base_gf_img384", 128, GF, 384),
        Variant("hornet_large_7x7", 192),
        Variant("hornet_large_gf", 192, GF),
        Variant("hornet_large_gf_img384", 192, GF, 384),
        _isotropic("hornet_iso_small_7x7", 384, "7x7"),
        _isotropic("hornet_iso_small_gf", 384, "gf"),
        _isotropic("hornet_iso_base_7x7", 768, "7x7"),
        _isotropic("hornet_iso_base_gf", 768, "gf"),
        _pico("hornet_pico_7x7", "7x7"),
        _pico("hornet_pico_gf", GF),
    )
}

default_cfgs = generate_default_cfgs({row.name: row.pretrained_cfg() for row in VARIANTS.values()})
__all__ = ["VARIANTS", "Variant", "checkpoint_filter_fn"]  # register_model adds the entry points


def _entry_point(row: Variant) -> Callable[..., nn.Module]:
    """timm's entry point of a row: builds the model; an argument that nobody knows is a TypeError."""

    def build(pretrained: bool = False, **kwargs: Any) -> nn.Module:
        if pretrained:
            _require_weights(row.name, kwargs.get("pretrained_cfg"), kwargs.get("pretrained_cfg_overlay"))
        if kwargs.get("gating", "recursive") != "recursive" and {"orders", "scale"} & kwargs.keys():
            raise ValueError(f"gating={kwargs['gating']!r} has no gnConv, and so neither orders nor scale")
        arguments = {**row.arguments(), **kwargs}
        stages = len(arguments["depths"])
        features: dict[str, Any] = {"feature_cls": "getter", "out_indices": tuple(range(stages))}
        if arguments.get("output_norms") and arguments.get("features_only"):
            if arguments.get("feature_cls", "getter") != "getter":
                raise ValueError(
                    f"output_norms goes with feature_cls='getter', not {arguments['feature_cls']!r}, "
                    "which would put out the stages without their norms"
                )
            features["norm"] = True
        model: nn.Module = build_model_with_cfg(
            HorNet,
            row.name,
            pretrained=pretrained,
            pretrained_filter_fn=checkpoint_filter_fn,
            feature_cfg=features,
            **arguments,
        )
        return model

    build.__name__ = build.__qualname__ = row.name
    build.__doc__ = f"{row.name}: C = {row.dim}, {row.image_size} pixels; {row.about}."
    return build


def _require_weights(name: str, given: Any, overlay: Any) -> None:
    """Raises CheckpointError where timm's configs name no weights for pretrained=True."""
    config = resolve_pretrained_cfg(name, pretrained_cfg=given, pretrained_cfg_overlay=overlay)
    if not (config.file or config.url or config.hf_hub_id or config.state_dict):
        raise CheckpointError(
            f"{name}: pretrained=True has nothing to load, as no weights are hosted; download a checkpoint "
            'and give its path as init_from= (hornet-train) or as pretrained_cfg_overlay={"file": <path>, '
            '"num_classes": <of its head>} (timm)'
        )


def checkpoint_filter_fn(state: dict[str, Any], model: nn.Module) -> dict[str, Tensor]:
    """timm's hook for pretrained=True: names become ours, filters fit, and the trunk is complete.

    timm itself loads with strict=False where the head has other classes and for features_only, so a file of
    another model would leave parts of this one at random. The head and the stem of other in_chans are timm's.

    Raises:
        CheckpointError: the trunk in the file is not the model's.
    """
    inside = state.get("module")  # a key of the published code that timm does not look under
    converted, notes = convert_names(inside if isinstance(inside, dict) else state)
    wanted = model.state_dict()
    notes += fit_filters(converted, wanted)
    theirs, ours = trunk(converted), trunk(wanted)
    stem = theirs.get(STEM)
    if stem is not None and stem.ndim == 4 and stem[:, :1].shape == ours[STEM][:, :1].shape:
        ours[STEM] = stem  # of other in_chans, which timm fits later
    if misfit := Misfit.of(theirs, ours):
        raise CheckpointError(f"made for another model; first keys that differ: {misfit}")
    for note in notes:
        log.warning("%s", note)
    return converted


for _row in VARIANTS.values():
    globals()[_row.name] = register_model(_entry_point(_row))
