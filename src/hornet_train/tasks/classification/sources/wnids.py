"""ImageNet's classes by their WordNet ids, from the lists that timm ships."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from hornet_train.data.sources.listing import preview
from hornet_train.errors import DataError

# ImageNet-1K classes that winter21's 10,450 lack and the published 22K label set has at its end
_APPENDED = (152, 165, 166, 167, 175, 241, 262, 268, 850)


def imagenet_wnids() -> tuple[str, ...]:
    """ImageNet-1K's 1,000 WordNet ids, sorted, which is their order in published heads."""
    return timm_list("imagenet_synsets.txt")


def imagenet_22k_wnids() -> tuple[str, ...]:
    """The 10,459 WordNet ids of HorNet's published 22K heads, in their order.

    The 10,450 of ImageNet-21K-P (winter21), sorted, then the nine ImageNet-1K classes that these lack. So a
    head that is trained here goes with the published map of its rows to the 1K classes.
    """
    one_k = imagenet_wnids()
    return (*timm_list("imagenet21k_miil_w21_synsets.txt"), *(one_k[label] for label in _APPENDED))


def check_wnids(
    classes: Sequence[str],
    wnids: Sequence[str],
    name: str,
    where: str = "",
    remedy: str = "choose another data set (data=folder takes any classes)",
) -> None:
    """Refuse classes that are not a known data set's, in any order.

    Args:
        wnids: the known ones.
        name: of the known data set.
        where: the folder, for the message.
        remedy: beside naming the folders rightly.

    Raises:
        DataError: how many are missing or unexpected, and the first few.
    """
    faults = []
    if missing := sorted(set(wnids) - set(classes)):
        faults.append(f"{len(missing):,} missing ({preview(missing)})")
    if unexpected := sorted(set(classes) - set(wnids)):
        faults.append(f"{len(unexpected):,} unexpected ({preview(unexpected)})")
    if faults:
        raise DataError(
            f"{where}{': ' if where else ''}{len(classes):,} classes are not {name}'s {len(wnids):,}: "
            f"{'; '.join(faults)}; "
            f"name the class folders by WordNet id (n01440764, ...) or {remedy}"
        )


@cache
def timm_list(file: str) -> tuple[str, ...]:
    """The words of a file of timm's metadata."""
    return tuple(timm_file(file).split())


def timm_file(file: str) -> str:
    """A file of timm's metadata, found without importing timm, whose `ImageNetInfo` does not offer all."""
    spec = find_spec("timm")
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0], "data", "_info", file).read_text(encoding="utf-8")
