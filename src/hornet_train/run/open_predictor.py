"""A checkpoint as a model on a device that is ready to answer for pictures, whatever the task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from hornet_train.config.schema import EvalConfig
from hornet_train.errors import ConfigError
from hornet_train.models.structure import fuse
from hornet_train.run.open_weights import find_weights
from hornet_train.tasks.asked import Asked
from hornet_train.tasks.kit import Kit
from hornet_train.tasks.model_check import filter_notes
from hornet_train.tasks.predictor_types import Predictor


def open_predictor(
    kit: Kit[Any, Any],
    config: EvalConfig,
    device: torch.device,
    asked: Asked,
    notes: Sequence[str] = (),
) -> Predictor:
    """The model of a checkpoint, in evaluation mode on a device, and how it answers.

    Args:
        notes: what is known before.

    Raises:
        UserError: the checkpoint is damaged or for another model, or its task does not predict, or not so.
    """
    assert config.checkpoint is not None
    if config.out is not None:
        raise ConfigError([f"out={config.out} is the file of an evaluation's results"])
    weights = find_weights(Path(config.checkpoint), config.weights, exports=True)
    predictor = kit.open_prediction(config, weights, asked)
    model = predictor.model.to(device).eval()
    slow: list[str] = []
    if config.fuse and predictor.image_size is not None:
        fuse(model, predictor.image_size)
    elif predictor.image_size is not None:
        slow = filter_notes(model, predictor.image_size)
    known = tuple(dict.fromkeys([*notes, *weights.notes, *predictor.notes, *slow]))
    return replace(predictor, model=model, notes=known, step=weights.step)
