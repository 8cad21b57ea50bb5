"""What is summed up for the next `train` event, so that a checkpoint within its window can keep it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from hornet_train.data.worker import BadSample

_MOST = 2**53  # from which on a float cannot tell whole numbers apart


@dataclass(frozen=True)
class Unlogged:
    """The steps since the last `train` event, over all ranks.

    Attributes:
        loss: times its weight, summed over the steps that were not skipped.
        weight: of these steps: their images, or what else the task's loss is a mean over.
        parts: what the loss is made of, by name, summed likewise.
        grad_norm: of the newest of these steps; 0 where there is none.
        greatest: of what the monitor watches, by its name.
        bad: damaged training samples that were met and are in no event yet, sorted by their index.
    """

    loss: float = 0.0
    weight: float = 0.0
    parts: dict[str, float] = field(default_factory=dict)
    grad_norm: float = 0.0
    greatest: dict[str, float] = field(default_factory=dict)
    bad: list[BadSample] = field(default_factory=list)

    @classmethod
    def of(cls, saved: Mapping[str, Any]) -> Unlogged:
        """From what `asdict` gave, by way of JSON and `is_unlogged`; of an older checkpoint nothing."""
        return cls(**{**saved, "bad": [BadSample(**sample) for sample in saved.get("bad", ())]})


def is_unlogged(value: object) -> bool:
    """Whether a value read from a file that may be anyone's is what `asdict` gives of an `Unlogged`."""
    if not isinstance(value, dict) or value.keys() != {field.name for field in fields(Unlogged)}:
        return False
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
    return type(value) is int and 0 <= value < _MOST


def is_number(value: object) -> bool:
    """Whether a value from JSON is a number; NaN and the infinities are."""
    return is_count(value) or type(value) is float
