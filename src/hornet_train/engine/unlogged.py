"""What is summed up for the next `train` event, so that a checkpoint within its window can keep it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from hornet_train.data.reader import BadSample

_MOST = 2**53  # from which on a float cannot tell whole numbers apart


@dataclass(frozen=True)
class Unlogged:
    """The steps since the last `train` event, over all ranks.

    Attributes:
        loss: summed over the images of the steps that were not skipped.
        images: how many these are.
        grad_norm: of the newest of these steps; 0 where there is none.
        greatest: of what the monitor watches, by its name.
        bad: damaged training samples that were met and are in no event yet, sorted by their index.
    """

    loss: float = 0.0
    images: float = 0.0
    grad_norm: float = 0.0
    greatest: dict[str, float] = field(default_factory=dict)
    bad: list[BadSample] = field(default_factory=list)

    @classmethod
    def of(cls, saved: Mapping[str, Any]) -> Unlogged:
        """From what `asdict` gave, by way of JSON and `is_unlogged`; of an older checkpoint nothing."""
        return cls(**{**saved, "bad": [BadSample(**sample) for sample in saved.get("bad", ())]})


def is_unlogged(value: object) -> bool:
    """Whether a value from a file that may be anyone's is what `asdict` gives of an `Unlogged`. Fields may be
    missing."""
    if not isinstance(value, dict) or not value.keys() <= {field.name for field in fields(Unlogged)}:
        return False
    value = {**asdict(Unlogged()), **value}
    greatest, bad = value["greatest"], value["bad"]
    return (
        all(map(is_number, (value["loss"], value["images"], value["grad_norm"])))
        and value["images"] >= 0
        and isinstance(greatest, dict)
        and all(map(is_number, greatest.values()))
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
