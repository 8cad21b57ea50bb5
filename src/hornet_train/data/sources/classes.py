"""What the classes of a data set must be."""

from __future__ import annotations

from collections.abc import Sequence

from hornet_train.data.sources.listing import preview
from hornet_train.errors import DataError


def check_same_classes(train: Sequence[str], val: Sequence[str]) -> None:
    """Refuse splits whose labels would not mean the same classes.

    Raises:
        DataError: names the classes that only one of the two has.
    """
    faults = []
    if unknown := sorted(set(val) - set(train)):
        faults.append(f"{len(unknown)} in val but not in train ({preview(unknown)})")
    if missing := sorted(set(train) - set(val)):
        faults.append(f"{len(missing)} in train but not in val ({preview(missing)})")
    if not faults and tuple(train) != tuple(val):
        faults.append("the same classes in another order")
    if faults:
        raise DataError(
            f"the classes of train ({len(train)}) and val ({len(val)}) differ: {'; '.join(faults)}; "
            "both splits need the same classes"
        )


def check_wnids(classes: Sequence[str]) -> None:
    """Refuse classes that are not ImageNet-1K's 1,000 WordNet ids, sorted, as published weights have them.

    Raises:
        DataError: how many are missing or unexpected, and the first few.
    """
    from timm.data import ImageNetInfo  # type: ignore[import-untyped,unused-ignore]  # slow to import

    wnids: list[str] = ImageNetInfo("imagenet-1k").label_names()
    faults = []
    if missing := sorted(set(wnids) - set(classes)):
        faults.append(f"{len(missing)} missing ({preview(missing)})")
    if unexpected := sorted(set(classes) - set(wnids)):
        faults.append(f"{len(unexpected)} unexpected ({preview(unexpected)})")
    if not faults and list(classes) != wnids:
        faults.append("the right names, but repeated or not in sorted order")
    if faults:
        raise DataError(
            f"{len(classes)} classes are not ImageNet-1K's 1,000: {'; '.join(faults)}; "
            "name the class folders by WordNet id (n01440764, ...) or choose another data set"
        )
