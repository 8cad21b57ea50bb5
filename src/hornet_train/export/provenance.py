"""What travels with an export: how pictures are prepared, names of classes, licence, and where it is from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor

from hornet_train.config.schema import EvalConfig
from hornet_train.config.stored import CLASSES, HEADER
from hornet_train.config.task_schema import TaskSchema
from hornet_train.images.size import WARP_FROM
from hornet_train.redaction import redacted_tree
from hornet_train.untrusted import parse_json


@dataclass(frozen=True)
class Provenance:
    """What travels with an export, as plain values; nothing of it names a place on this machine.

    Attributes:
        task: its name.
        model: its name, as timm knows it.
        classes: names, in the order of the outputs.
        config: the part of a training config that `hornet-predict` needs.
        licence: None where it is not said.
        weights: SHA-256 of the weights that were exported.
        step: of the training; None where it is not known.
    """

    task: str
    model: str
    classes: tuple[str, ...]
    config: Mapping[str, Any]
    licence: str | None
    weights: str
    step: int | None

    @property
    def preprocessing(self) -> dict[str, Any]:
        """How a picture becomes the model's input: the keys of `data` that say it.

        Of a classifier also, in timm's words, whether it sees the `center` or the whole picture, warped:
        `squash`.
        """
        seen = {key: value for key, value in self.config["data"].items() if key != "source"}
        size = seen.get("image_size")
        if "crop_pct" in seen:
            warps = isinstance(size, int) and size >= WARP_FROM
            seen |= {"crop_mode": "squash", "crop_pct": 1.0} if warps else {"crop_mode": "center"}
        return seen

    def texts(self) -> dict[str, str]:
        """Key -> text, for formats that keep such."""
        found = {
            "task": self.task,
            "model": self.model,
            "classes": json.dumps(list(self.classes), ensure_ascii=False),
            "preprocessing": json.dumps(self.preprocessing),
            "weights_sha256": self.weights,
            "made_by": f"hornet-train {version('hornet-train')}",
            HEADER: json.dumps({**self.config, CLASSES: list(self.classes)}, ensure_ascii=False),
        }
        if self.licence is not None:
            found["license"] = self.licence
        if self.step is not None:
            found["step"] = str(self.step)
        return found


def provenance_of(
    schema: TaskSchema,
    config: EvalConfig,
    classes: Sequence[str],
    tensors: Mapping[str, Tensor],
    *,
    step: int | None,
    licence: str | None,
) -> Provenance:
    """What travels with an export of a checkpoint's model.

    Args:
        schema: of the task.
        config: of the checkpoint.
        classes: names, in the order of the outputs.
        tensors: the weights.
        step: of the training.
        licence: of the weights.
    """
    of_data = (key.partition(".")[2] for key in schema.preprocessing if key.startswith("data."))
    data = vars(config.data)
    seen = {name: data[name] for name in sorted(of_data) if name in data}
    kept = {
        "task": {"name": schema.name},
        "model": asdict(config.model),
        "data": {"source": data["source"], **seen},
        "precision": config.precision,
    }
    plain = parse_json(json.dumps(redacted_tree(kept), default=str))
    return Provenance(schema.name, config.model.name, tuple(classes), plain, licence, _digest(tensors), step)


def _digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, shapes and values, in the order of the names."""
    found = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        found.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        found.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()
