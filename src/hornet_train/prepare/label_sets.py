"""Which known data set the class names are those of."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hornet_train.data.sources.listing import preview
from hornet_train.tasks.classification.sources.wnids import imagenet_22k_wnids, timm_file, timm_list

_WNID = re.compile(r"n\d{8}")
_1K, _W21 = "imagenet_synsets.txt", "imagenet21k_miil_w21_synsets.txt"


@dataclass(frozen=True)
class Known:
    """A published label set.

    Attributes:
        name: as people call it.
        file: timm's file of its wnids; None for those of the published HorNets.
        images: how many images a split has as published.
        suite: its name in `data=`, where it is a set for evaluation.
    """

    name: str
    file: str | None
    images: Mapping[str, int] = field(default_factory=dict)
    suite: str | None = None

    def wnids(self) -> frozenset[str]:
        return frozenset(timm_list(self.file) if self.file is not None else imagenet_22k_wnids())


IMAGENET_1K = Known("ImageNet-1K", _1K, {"train": 1_281_167, "val": 50_000})
KNOWN = (
    IMAGENET_1K,
    Known("HorNet's ImageNet-22K label set (winter21's and 9 of ImageNet-1K)", None),
    Known("ImageNet-21K-P, winter21 (imagenet21k_miil_w21)", _W21),
    Known("ImageNet-21K-P, fall11 (imagenet-21k-miil)", "imagenet21k_miil_synsets.txt"),
    Known("ImageNet-22K, fall11 (imagenet-22k)", "imagenet22k_synsets.txt", {"train": 14_197_122}),
    Known("ImageNet-22K as Microsoft has it (imagenet-22k-ms)", "imagenet22k_ms_synsets.txt"),
    Known("ImageNet-21K as Google has it (imagenet-21k-goog)", "imagenet21k_goog_synsets.txt"),
    Known("ImageNet-12K (imagenet-12k)", "imagenet12k_synsets.txt"),
    Known("ImageNet-A", "imagenet_a_synsets.txt", suite="imagenet_a"),
    Known("ImageNet-R", "imagenet_r_synsets.txt", suite="imagenet_r"),
    Known("mini-ImageNet", "mini_imagenet_synsets.txt"),
)


def recognise(classes: Sequence[str]) -> tuple[Known | None, str]:
    """The known data set that has exactly these classes, if any, and a sentence about it or the nearest.

    The nearest is the one with the largest share of common classes in all classes of the two.
    """
    have = frozenset(classes)
    if not any(map(_WNID.fullmatch, have)):
        return None, f"a data set of its own: {len(have):,} classes that are not named by WordNet ids"
    near: tuple[float, Known, frozenset[str]] | None = None
    for known in KNOWN:
        wnids = known.wnids()
        if have == wnids:
            return known, f"{known.name}: exactly its {len(wnids):,} classes"
        share = len(have & wnids) / len(have | wnids)
        if near is None or share > near[0]:
            near = share, known, wnids
    assert near is not None
    if have < IMAGENET_1K.wnids() and near[0] < 0.9:
        return None, (
            f"{len(have):,} of ImageNet-1K's 1,000 classes (a subset, as Imagenette, Imagewoof or "
            "ImageNet-100 are)"
        )
    _, known, wnids = near
    if not have & wnids:
        return None, f"{len(have):,} classes, none of them a class of a known data set"
    parts = [
        f"{len(names):,} {what} ({preview(sorted(names))})"
        for names, what in ((wnids - have, "missing"), (have - wnids, "not among its"))
        if names
    ]
    return None, f"nearest to {known.name}, {len(wnids):,} classes, but for {' and '.join(parts)}"


def unknown_wnids(classes: Sequence[str]) -> list[str]:
    """Names in the form of a WordNet id (n01440764) that no ImageNet has."""
    text = timm_file("imagenet_synset_to_lemma.txt")
    real = {line.split("\t", 1)[0] for line in text.splitlines()}
    return [name for name in classes if _WNID.fullmatch(name) and name not in real]
