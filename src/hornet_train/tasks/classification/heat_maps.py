"""Where in an image a classifier looks: LayerCAM and EigenCAM, by the package grad-cam."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from hornet_train.data.batch import Batch, stacked
from hornet_train.errors import ConfigError
from hornet_train.images.layout import Pixels, pixels_of
from hornet_train.tasks.classification.task import Classification

_COLOURS = "inferno"  # of matplotlib
_OPAQUE = 0.6  # share of the colours where the heat is greatest


def check_package() -> None:
    """Raises ConfigError where grad-cam is missing."""
    if find_spec("pytorch_grad_cam") is None:
        raise ConfigError(["--heatmaps needs grad-cam: pip install 'hornet-train[heatmaps]'"])


def heat_maps(
    task: Classification, model: nn.Module, batch: Batch, rows: Sequence[int], method: str
) -> list[Pixels]:
    """What the model sees of each picture, under the heat of a class, uint8 (height, width, 3).

    Args:
        task: prepares the images.
        model: not fused; HorNet, or one of timm's whose last maps are (B, C, H, W).
        batch: see `Classification`.
        rows: the class of each picture.
        method: `layercam`, by the gradients of the class, or `eigencam`, the first principal component of the
            maps, whatever the class.

    Raises:
        ConfigError: the model has no such maps.
    """
    from matplotlib import colormaps
    from pytorch_grad_cam import EigenCAM, LayerCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    targets = [ClassifierOutputTarget(row) for row in rows]
    given = stacked(batch, "image")
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(given.device.type, enabled=False):
        pixels = given.clone()
        images = task.images({"image": pixels}).requires_grad_(True)
        kind = LayerCAM if method == "layercam" else EigenCAM
        with kind(model=model, target_layers=[last_maps(model, images)]) as cam:
            found: np.ndarray[Any, Any] = cam(input_tensor=images, targets=targets)
    shades = colormaps[_COLOURS](found)[..., :3] * 255
    shares = _OPAQUE * found[..., None]
    views = np.stack([pixels_of(one.cpu()) for one in pixels])
    return list((views * (1 - shares) + shades * shares).round().astype(np.uint8))


def last_maps(model: nn.Module, images: Tensor) -> nn.Module:
    """The module that gives a model's last maps, (B, C, H, W).

    Raises:
        ConfigError: there is none.
    """
    known = cast("Any", model).__dict__.get("feature_info") or ()
    facts = list(known)[-1] if known else {}
    try:
        module = model.get_submodule(facts["module"])
    except (KeyError, TypeError, AttributeError):
        module = None
    shapes: list[torch.Size] = []
    if module is not None:
        hook = module.register_forward_hook(lambda _module, _inputs, output: shapes.append(output.shape))
        with torch.no_grad():
            model(images[:1])
        hook.remove()
    if module is None or not shapes or len(shapes[0]) != 4 or shapes[0][1] != facts["num_chs"]:
        raise ConfigError(
            [f"--heatmaps: {type(model).__name__} has no last maps of channels, height and width"]
        )
    return module
