"""The head of a classifier and the weights for it: by class map, or initialised where classes are others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from hornet_train.errors import CheckpointError, ConfigError
from hornet_train.models.convert import convert_names
from hornet_train.models.unpickling import unpickle
from hornet_train.models.weights import class_map, load_into
from hornet_train.tasks.classification.sources.match_classes import are_keys
from hornet_train.tasks.kit_types import Weights
from hornet_train.untrusted import MAX_LABELS, read_text


def read_class_map(path: Path) -> Tensor:
    """A class map: a tensor in a .pth, or whole numbers in a text file, one a line.

    Raises:
        ConfigError: it cannot be read, or is none.
    """
    try:
        if path.suffix in (".pth", ".pt"):
            return class_map(unpickle(path))
        return class_map(
            torch.tensor([int(line) for line in read_text(path, MAX_LABELS, encoding="utf-8-sig").split()])
        )
    except CheckpointError as error:  # which begins with the path
        raise ConfigError([f"init_map={error}"]) from error
    except OSError as error:
        raise ConfigError([f"init_map={path}: cannot be read ({error.strerror}); check the path"]) from error
    except (ValueError, RuntimeError) as error:  # no numbers, or beyond 64 bits
        raise ConfigError([f"init_map={path}: {error}; it takes one number a line, or a .pth"]) from error


def start_classifier(
    model: nn.Module, weights: Weights, rows: Tensor | None, classes: Sequence[str]
) -> list[str]:
    """Load weights to train on from; what was done beyond copying.

    Rows of the head go along with the names of their classes. For other classes it is begun anew, even if
    they are as many. Where they are mere numbers or WordNet ids on one side only, or not known, only their
    number counts.

    Args:
        rows: of the file's head, for each class; None: by the names.
        classes: of the training, in the order of the model's outputs.

    Raises:
        CheckpointError: they are for another model.
    """
    names = weights.classes
    renamed = bool(names) and rows is None and tuple(names) != tuple(classes)
    by_name = renamed and are_keys(names) == are_keys(classes)
    if by_name and sorted(names) == sorted(classes):
        places = torch.tensor([names.index(name) for name in classes])
        done = load_classifier(model, weights, rows=places, allow_new_head=True)
        others = [note for note in done if not note.endswith("by the class map")]  # nobody gave one
        return [*others, "the head's rows are in the order of the classes here, by their names"]
    notes = load_classifier(model, weights, rows=rows, allow_new_head=True, other_classes=by_name)
    if renamed and not by_name and len(names) == len(classes):
        notes.append(
            "classes are numbers or WordNet ids on one side: the head's rows are kept in their order, "
            f"that of {names[0]!r} for {classes[0]!r}, and so on"
        )
    return notes


def load_classifier(
    model: nn.Module,
    weights: Weights,
    *,
    rows: Tensor | None = None,
    allow_new_head: bool = False,
    other_classes: bool = False,
) -> list[str]:
    """Load weights strictly, with the head as `load_into` says; what was done beyond copying.

    Where a new head is allowed, so are images of other channels.

    Raises:
        CheckpointError: they are for another model.
    """
    classifier = classifier_name(model)
    try:
        state, taken = convert_names(weights.tensors)  # of a model for dense prediction, the backbone
        done = load_into(
            model,
            state,
            classifier=classifier,
            head_rows=rows,
            allow_new_head=allow_new_head,
            other_classes=other_classes,
            adapt_stem=allow_new_head,
        )
        return [*taken, *done]
    except CheckpointError as error:
        raise CheckpointError(f"{weights.place}: {error}") from error


def classifier_name(model: nn.Module) -> str:
    """What timm calls the head of one of its models."""
    name = getattr(model, "pretrained_cfg", {}).get("classifier", "head")
    return name if isinstance(name, str) else name[0]
