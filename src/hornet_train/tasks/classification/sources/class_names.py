"""The class names of a data set whose labels are stored as numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hornet_train.data.sources.columns import Integers
from hornet_train.data.sources.listing import preview
from hornet_train.errors import DataError


def class_names(
    labels: Integers, where: str, *, names: Sequence[str] | None, given: Sequence[str] | None
) -> tuple[str, ...]:
    """The classes that labels are of: `names`, or `given`, or the numbers 0 to the largest label.

    Args:
        labels: int64 (samples,), or the distinct ones of these.
        where: the data set, for messages.
        names: as stored with the labels.
        given: those of the training split, where none are stored.

    Raises:
        DataError: a label is negative (as of a split whose labels are withheld) or beyond the names, or
            plain numbers leave some between 0 and the largest out.
    """
    distinct = np.unique(labels)
    if not len(distinct):
        raise DataError(f"{where} has no samples; choose another split, or fetch it again")
    low, high = int(distinct[0]), int(distinct[-1])
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
    if len(distinct) != high + 1:
        absent = preview([str(k) for k in np.setdiff1d(np.arange(len(distinct) + 1), distinct)[:6]])
        raise DataError(
            f"{where} has labels from 0 to {high}, but none is {absent}: labels are 0, 1, ... without a gap; "
            "number them so, or name the classes (a ClassLabel column, or an index.json beside the shards)"
        )
    return tuple(str(label) for label in range(high + 1))
