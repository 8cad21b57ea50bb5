"""The class names of a data set whose labels are stored as numbers."""

from __future__ import annotations

from collections.abc import Sequence

from hornet_train.errors import DataError


def class_names(
    labels: Sequence[int], where: str, *, names: Sequence[str] | None, given: Sequence[str] | None
) -> tuple[str, ...]:
    """The classes that labels are of: `names`, or `given`, or the labels themselves, which are 0, 1, ...

    Args:
        labels: the distinct ones, sorted.
        where: the data set, for messages.
        names: as stored with the labels.
        given: those of the training split, where none are stored.

    Raises:
        DataError: there are none, or one is negative (as of a split whose labels are withheld) or beyond the
            names.
    """
    if not labels:
        raise DataError(f"{where} has no samples; choose another split, or fetch it again")
    low, high = labels[0], labels[-1]
    if low < 0:
        raise DataError(
            f"{where} has samples labelled {low}: their labels are withheld; choose another split"
        )
    known = names if names is not None else given
    if known is not None:
        if high >= len(known):
            raise DataError(
                f"{where} has a sample labelled {high}, but there are {len(known)} classes, from 0 on; "
                "mend the labels, or the class names that are stored with them"
            )
        return tuple(known)
    return tuple(map(str, labels))
