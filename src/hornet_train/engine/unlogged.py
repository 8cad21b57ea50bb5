"""Sums for the next `train` event, as a checkpoint between two events stores them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from hornet_train.data.worker import BadSample

_COUNT_LIMIT = 2**53  # a float64 cannot represent all integers above


@dataclass(frozen=True)
class Unlogged:
    """The steps since the last `train` event, over all ranks.

    Attributes:
        loss: loss times weight, summed over the steps that were not skipped.
        weight: sum of the weights of these steps: their images, or what else the task's loss is a mean over.
        parts: the named parts of the loss, each times weight and summed likewise.
        grad_norm: gradient norm of the newest of these steps; 0 if there is none.
        greatest: the monitor's greatest values, by name.
        bad: damaged training samples that are in no event yet, sorted by index.
    """

    loss: float = 0.0
    weight: float = 0.0
    parts: dict[str, float] = field(default_factory=dict)
    grad_norm: float = 0.0
    greatest: dict[str, float] = field(default_factory=dict)
    bad: list[BadSample] = field(default_factory=list)

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> Unlogged:
        """From the JSON form of `asdict`, checked by `is_unlogged`; empty for older checkpoints."""
        return cls(**{**saved, "bad": [BadSample(**sample) for sample in saved.get("bad", ())]})


def is_unlogged(value: object) -> bool:
    """Whether a value read from an untrusted file is an `Unlogged` as JSON; some fields may be missing."""
    if not isinstance(value, dict) or not value.keys() <= {field.name for field in fields(Unlogged)}:
        return False
    value = {**asdict(Unlogged()), **value}
    named, bad = (value["parts"], value["greatest"]), value["bad"]
    return (
        all(map(is_number, (value["loss"], value["weight"], value["grad_norm"])))
        and value["weight"] >= 0
        and all(isinstance(one, dict) and all(map(is_number, one.values())) for one in named)
        and isinstance(bad, list)
        and all(map(_is_bad_sample, bad))
    )


def _is_bad_sample(value: object) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == {"index", "where", "reason"}
        and is_count(value["index"])
        and isinstance(value["where"], str)
        and isinstance(value["reason"], str)
    )


def is_count(value: object) -> bool:
    """Whether a value from JSON is a number of steps or samples."""
    return type(value) is int and 0 <= value < _COUNT_LIMIT


def is_number(value: object) -> bool:
    """Whether a value from JSON is a number; NaN and infinity count as numbers."""
    return is_count(value) or type(value) is float
