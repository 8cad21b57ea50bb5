"""Exports of weights alone: a folder of the Hugging Face hub, and a .pth as the authors published theirs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from hornet_train.errors import ConfigError
from hornet_train.export.provenance import Provenance
from hornet_train.images.size import height_width
from hornet_train.untrusted import parse_json

_CARD = "README.md"


def write_huggingface(model: nn.Module, folder: Path, known: Provenance) -> None:
    """A folder that `timm.create_model("local-dir:<folder>", pretrained=True)` loads, after
    `import hornet_train`, and transformers' TimmWrapper.

    Args:
        model: with the published names, not fused.
        folder: is created.
        known: of the model.

    Raises:
        ConfigError: it is no classifier.
    """
    if known.task != "classification":
        raise ConfigError(["--format huggingface is for classifiers: that is what timm loads"])
    from timm.models import save_for_hf

    seen, args = known.preprocessing, dict(known.config["model"].get("args") or {})
    channels = int(known.config["model"]["in_chans"])
    height, width = height_width(_size(seen["image_size"]))
    # of these alone contiguous ones are saved, and neither num_classes nor in_chans may stand among the
    # arguments, where transformers gives them a second time
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data = tensor.data.contiguous()
    plain: Any = model
    plain.pretrained_cfg = {**getattr(model, "pretrained_cfg", {}), "architecture": known.model}
    settings: dict[str, Any] = {
        "input_size": (channels, height, width),
        "mean": _per_channel(seen["mean"], channels),
        "std": _per_channel(seen["std"], channels),
        "crop_pct": seen["crop_pct"],
        "interpolation": seen["interpolation"],
        "crop_mode": seen["crop_mode"],
        "num_classes": len(known.classes),
        **({} if known.licence is None else {"license": known.licence}),
    }
    plain.pretrained_cfg |= settings
    config: dict[str, Any] = {"label_names": list(known.classes), "hornet_train": known.texts()}
    if args:
        config["model_args"] = args
    folder.mkdir()
    save_for_hf(model, str(folder), model_config=config, safe_serialization=True)
    path = folder / "config.json"
    written = parse_json(path.read_bytes())
    # transformers gives the number of classes a second time
    rest = {"num_classes": None, "global_pool": "avg", "in_chans": 3}
    stored = written.get("model_args", {})
    kept = {key: value for key, value in stored.items() if key not in rest or rest[key] not in (None, value)}
    written.pop("model_args", None)
    written |= {"model_args": kept} if kept else {}
    written["pretrained_cfg"] = {**written.get("pretrained_cfg", {}), **_plain(settings)}
    path.write_text(json.dumps(written, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / _CARD).write_text(card_of(known), encoding="utf-8")


def open_huggingface(folder: Path) -> nn.Module:
    """The model in a folder, as anybody would load it, in evaluation mode."""
    model: nn.Module = timm.create_model(f"local-dir:{folder}", pretrained=True)
    return model.eval()


def card_of(known: Provenance) -> str:
    """A model card: what it is, how it is loaded, how pictures are prepared, where it is from."""
    seen = known.preprocessing
    licence = known.licence or "unknown"
    names = ", ".join(known.classes[:20]) + (", ..." if len(known.classes) > 20 else "")
    step = "" if known.step is None else f"- step of the training: {known.step:,}\n"
    rows = "\n".join(f"| {key} | {value} |" for key, value in seen.items())
    return f"""---
license: {licence}
library_name: timm
pipeline_tag: image-classification
tags:
- image-classification
- timm
- hornet
---

# {known.model}

An image classifier of {len(known.classes):,} classes: {names}.

```python
import hornet_train  # registers HorNet with timm
import timm

model = timm.create_model("hf-hub:<user>/<name>", pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
```

How pictures are prepared:

| key | value |
|---|---|
{rows}

Where it is from:

- {known.texts()["made_by"]}
{step}- SHA-256 of the weights: {known.weights}
- licence of the weights: {known.licence or "not stated by whoever exported them"}
"""


def write_official(model: nn.Module, path: Path, known: Provenance) -> None:
    """A .pth as published: tensors under `model` for classifiers, else under `state_dict`, beside `meta`.

    Args:
        model: with the published names, not fused.
        path: of the file.
        known: of the model.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    dense = {"meta": {"CLASSES": list(known.classes)}, "state_dict": tensors}
    torch.save({"model": tensors} if known.task == "classification" else dense, path)


def _size(stored: Any) -> int | tuple[int, int]:
    return int(stored) if isinstance(stored, int) else (int(stored[0]), int(stored[1]))


def _per_channel(values: Sequence[float], channels: int) -> tuple[float, ...]:
    """As many as there are channels; a single value is of all."""
    return tuple(values) * channels if len(values) == 1 else tuple(values)


def _plain(settings: dict[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in settings.items()}
