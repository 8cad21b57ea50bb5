"""A checkpoint as a model that answers for pictures, whatever the task."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hornet_train.config.schema import EvalConfig
from hornet_train.data.sources.source import Encoded, Fields
from hornet_train.images.decode import read_bytes
from hornet_train.run.asking import Asking
from hornet_train.run.open_predictor import open_predictor
from hornet_train.run.process import chosen_device, set_up_process
from hornet_train.tasks.asked import Asked
from hornet_train.tasks.kit import Kit
from hornet_train.tasks.predictor_types import Answer, Answers

Picture = str | os.PathLike[str] | bytes | Tensor
"""A path, the bytes of an image file, or pixels: uint8 (3, H, W), RGB, or (1, H, W), grey."""


@dataclass(frozen=True, repr=False)
class LoadedModel:
    """A model with the weights of a checkpoint, in evaluation mode, and its preprocessing.

    Attributes:
        model: the module. It takes batches of normalised images.
        classes: the names of its classes, in the order of its outputs.
        notes: one sentence for each thing that a user should know of.
    """

    model: nn.Module
    classes: tuple[str, ...]
    notes: tuple[str, ...]
    _asking: Asking
    _batch_size: int

    def __repr__(self) -> str:
        """One line: that of the module alone would have hundreds."""
        kind, device = type(self.model).__name__, self._asking.device
        return f"<LoadedModel: {kind}, {len(self.classes):,} classes, {device}>"

    def predict(self, pictures: Picture | Sequence[Picture]) -> Any:
        """What the model says of a picture, or of each of several.

        A classifier gives `classes`, at most five names, the most probable first, and their `probabilities`;
        a segmentation model `mask`, the class of each pixel, uint8 (H, W), and `shares` of the classes; a
        detector `objects`, each with `class`, `score`, `box` and perhaps `mask`, COCO's run-length code.

        Args:
            pictures: one, or a list; see `Picture`.

        Returns:
            A dict for one picture, a list of dicts for a list.

        Raises:
            SampleError: a picture cannot be read or decoded.
            TypeError, ValueError: one is neither a path nor bytes nor pixels.
        """
        if isinstance(pictures, (str, os.PathLike, bytes, Tensor)):
            return self._answers([pictures])[0]
        return self._answers(pictures)

    def features(self, pictures: Picture | Sequence[Picture]) -> Tensor:
        """The vector from which a classifier concludes, of a picture or of each of several.

        Args:
            pictures: see `predict`.

        Returns:
            float32 (C,) for one picture, (N, C) for a list, on the CPU.

        Raises:
            ConfigError: the model is no classifier.
            SampleError, TypeError, ValueError: see `predict`.
        """
        answers = self._asking.predictor.answers.with_features()
        if isinstance(pictures, (str, os.PathLike, bytes, Tensor)):
            return torch.as_tensor(self._answers([pictures], answers)[0]["features"])
        return torch.stack([answer["features"] for answer in self._answers(pictures, answers)])

    def _answers(self, pictures: Sequence[Picture], answers: Answers | None = None) -> list[Answer]:
        found: list[Answer] = []
        for start in range(0, len(pictures), self._batch_size):
            numbers = range(start, min(start + self._batch_size, len(pictures)))
            items = self._asking.items(numbers, lambda number: _stored(pictures[number], number))
            found += self._asking.answers(items, answers)
        return found


def load_model(
    kit: Kit[Any, Any], config: EvalConfig, notes: Sequence[str] = (), asked: Asked | None = None
) -> LoadedModel:
    """The model of a checkpoint.

    Args:
        notes: what is known before.
        asked: of every answer; None for the task's defaults.

    Raises:
        UserError: see `open_predictor`.
    """
    device = chosen_device(config.dist)
    set_up_process(config.dist, device, deterministic=False)
    predictor = open_predictor(kit, config, device, asked or Asked(), notes)
    return LoadedModel(
        predictor.model,
        predictor.classes,
        tuple(predictor.notes),
        Asking(predictor, device, config.precision),
        config.batch_size,
    )


def _stored(picture: Picture, index: int) -> Fields:
    """A picture as storage would give it."""
    if isinstance(picture, Tensor):
        channels = picture.shape[0] if picture.ndim == 3 else 0
        if picture.dtype != torch.uint8 or channels not in (1, 3) or not picture.numel():
            raise ValueError(
                f"picture {index}: {picture.dtype} {tuple(picture.shape)}, where pixels are uint8 (3, H, W), "
                "or (1, H, W) for grey"
            )
        return {"image": picture.cpu().expand(3, -1, -1)}
    if isinstance(picture, bytes):
        return {"image": Encoded(picture, f"picture {index}")}
    if isinstance(picture, (str, os.PathLike)):
        return {"image": Encoded(read_bytes(picture), os.fspath(picture))}
    raise TypeError(f"picture {index} is a {type(picture).__name__}: give a path, bytes, or a uint8 tensor")
