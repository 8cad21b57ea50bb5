"""What splits are called: which of those that a data set has is meant by a name."""

from __future__ import annotations

from collections.abc import Sequence

_TRAIN = ("train", "training")
_HELD_OUT = ("validation", "val", "valid", "dev", "eval", "evaluation")
_TEST = ("test", "testing")
KNOWN = (*_TRAIN, *_HELD_OUT, *_TEST)


def spellings(split: str) -> tuple[str, ...]:
    """The names that are tried for a split, its own first.

    `train` may be called `training`, and `test` stands in where there is no validation split.
    """
    family: tuple[str, ...] = ()
    if split in _TRAIN:
        family = _TRAIN
    elif split in _HELD_OUT:
        family = (*_HELD_OUT, *_TEST)
    elif split in _TEST:
        family = _TEST
    return (split, *(name for name in family if name != split))


def find_split(split: str, present: Sequence[str]) -> str | None:
    """Which of the splits that are there is meant, upper and lower case alike; None if none is."""
    folded = {name.casefold(): name for name in present}
    folded[split.casefold()] = split if split in present else folded.get(split.casefold(), "")
    return next((found for name in spellings(split) if (found := folded.get(name.casefold()))), None)


def split_notes(asked: str, found: str) -> tuple[str, ...]:
    """A sentence where the test images stand in for the validation images."""
    if asked in _HELD_OUT and found.casefold() in _TEST:
        return (
            f"there is no split {asked!r}: evaluations are of {found!r} (data.val_split={found} says so, "
            "data.val_split=null holds nothing out)",
        )
    return ()


def choices(split: str, present: Sequence[str]) -> str:
    """What to type in place of a split that is not there."""
    if split in _TRAIN:
        return f"choose {' or '.join(f'data.train_split={name}' for name in present)}"
    held_out = [f"data.val_split={name}" for name in present if name.casefold() not in _TRAIN]
    advice = f"{' or '.join(held_out)} holds that out, " if held_out else ""
    return f"{advice}data.val_split=null holds nothing out"
