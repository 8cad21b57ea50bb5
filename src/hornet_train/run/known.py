"""What is known about the training of a checkpoint, before anything is built."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm

from hornet_train.config.stored import config_in_folder, config_in_weights
from hornet_train.dense.dense_models import identify_detector, identify_segmenter
from hornet_train.engine.find_checkpoint import find_checkpoint, followed
from hornet_train.errors import CheckpointError
from hornet_train.models.convert import STEM, convert_names
from hornet_train.models.variants import VARIANTS
from hornet_train.models.weight_files import read_weights
from hornet_train.models.weights import identify, nearest


def known_of(checkpoint: str) -> dict[str, Any] | None:
    """The config that a checkpoint was trained with, or the parts of one that follow from its weights.

    Raises:
        CheckpointError: it cannot be read.
    """
    path = followed(Path(checkpoint))
    if path.is_dir():
        saved = find_checkpoint(path, groups=())[0]
        if "config.yaml" not in saved.texts:
            raise CheckpointError(f"{saved.folder} has no config.yaml: give one of its .safetensors instead")
        return config_in_folder(saved.texts["config.yaml"], saved.folder)
    stored = config_in_weights(path)
    if stored is not None:
        return stored
    state, origin = read_weights(path, whole=True)
    if name := identify_segmenter(state):
        return {
            "task": {"name": "segmentation"},
            "model": {"name": name, "backbone": None, "fusion": None, "channels": None, "dropout": 0.1},
            "data": {"image_size": 640, "scale": [640, 2560]} if "_large_" in name else {},
        }
    if name := identify_detector(state):
        masks = any(".mask_head." in one for one in state)
        parts = {"backbone": None, "neck": None, "masks": masks, "channels": None, "width": None}
        return {"task": {"name": "detection"}, "model": {"name": name, **parts}, "data": {}}
    state, _ = convert_names(state)
    if name := identify(state):
        channels = state[STEM].shape[1]
        return {
            "model": {"name": name, **({"in_chans": channels} if channels != 3 else {})},
            "data": {"image_size": VARIANTS[name].image_size},
        }
    if known := _of_settings(origin["settings"]):
        return known
    if near := nearest(state):
        return {"model": {}, "unlike": f"it is nearest to {near[0]}, but for {near[1]}"}
    return None


def _of_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What `arch` and the arguments of a training by timm say: the model and its preprocessing."""
    arch = settings.get("arch")
    if arch is None or not timm.is_model(arch.split(".")[0]):
        return {}
    data = {
        key: value
        for key in ("mean", "std", "crop_pct", "interpolation")
        if (value := settings.get(key)) not in (None, "")
    }
    channels, *sides = _input_size(settings)
    if all(sides):
        data["image_size"] = sides
    return {"model": {"name": arch, **({"in_chans": channels} if channels else {})}, "data": data}


def _input_size(settings: Mapping[str, Any]) -> tuple[int, int, int]:
    """Channels, height and width of a training by timm; 0 for what it does not say."""
    size, side, channels = (settings.get(key) for key in ("input_size", "img_size", "in_chans"))
    if isinstance(size, (list, tuple)) and len(size) == 3 and all(_is_count(one) for one in size):
        return size[0], size[1], size[2]
    given = (channels, side, side)
    return tuple(one if _is_count(one) else 0 for one in given)  # type: ignore[return-value]


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
