"""Recognise a published label set by the names of its classes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hornet_train.data.sources.listing import preview
from hornet_train.tasks.classification.sources.wnids import imagenet_22k_wnids, timm_file, timm_list

_WNID = re.compile(r"n\d{8}")
_1K, _W21 = "imagenet_synsets.txt", "imagenet21k_miil_w21_synsets.txt"


@dataclass(frozen=True)
class LabelSet:
    """A published label set.

    Attributes:
        name: the usual one.
        file: timm's file with its WordNet ids; None: HorNet's ImageNet-22K, whose ids lie with this program.
        images: split -> number of images as published.
        suite: its name in `data=`, if it is an evaluation set.
    """

    name: str
    file: str | None
    images: Mapping[str, int] = field(default_factory=dict)
    suite: str | None = None

    def wnids(self) -> frozenset[str]:
        """The WordNet ids of its classes."""
        return frozenset(timm_list(self.file) if self.file is not None else imagenet_22k_wnids())


IMAGENET_1K = LabelSet("ImageNet-1K", _1K, {"train": 1_281_167, "val": 50_000})
LABEL_SETS = (
    IMAGENET_1K,
    LabelSet("HorNet's ImageNet-22K label set (winter21's and 9 of ImageNet-1K)", None),
    LabelSet("ImageNet-21K-P, winter21 (imagenet21k_miil_w21)", _W21),
    LabelSet("ImageNet-21K-P, fall11 (imagenet-21k-miil)", "imagenet21k_miil_synsets.txt"),
    LabelSet("ImageNet-22K, fall11 (imagenet-22k)", "imagenet22k_synsets.txt", {"train": 14_197_122}),
    LabelSet("ImageNet-22K as Microsoft has it (imagenet-22k-ms)", "imagenet22k_ms_synsets.txt"),
    LabelSet("ImageNet-21K as Google has it (imagenet-21k-goog)", "imagenet21k_goog_synsets.txt"),
    LabelSet("ImageNet-12K (imagenet-12k)", "imagenet12k_synsets.txt"),
    LabelSet("ImageNet-A", "imagenet_a_synsets.txt", suite="imagenet_a"),
    LabelSet("ImageNet-R", "imagenet_r_synsets.txt", suite="imagenet_r"),
    LabelSet("mini-ImageNet", "mini_imagenet_synsets.txt"),
)


def recognise(classes: Sequence[str]) -> tuple[LabelSet | None, str]:
    """The label set with exactly these classes, if any, and a sentence about it or about the nearest one.

    The nearest has the largest intersection over union of its classes with these.
    """
    names = frozenset(classes)
    if not any(map(_WNID.fullmatch, names)):
        return None, f"a data set of its own: {len(names):,} classes that are not named by WordNet ids"
    nearest: tuple[float, LabelSet, frozenset[str]] | None = None
    for label_set in LABEL_SETS:
        wnids = label_set.wnids()
        if names == wnids:
            return label_set, f"{label_set.name}: exactly its {len(wnids):,} classes"
        overlap = len(names & wnids) / len(names | wnids)
        if nearest is None or overlap > nearest[0]:
            nearest = overlap, label_set, wnids
    assert nearest is not None
    if names < IMAGENET_1K.wnids() and nearest[0] < 0.9:
        return None, (
            f"{len(names):,} of ImageNet-1K's 1,000 classes (a subset, as Imagenette, Imagewoof or "
            "ImageNet-100 are)"
        )
    _, label_set, wnids = nearest
    if not names & wnids:
        return None, f"{len(names):,} classes, none of them a class of a known data set"
    parts = [
        f"{len(some):,} {what} ({preview(sorted(some))})"
        for some, what in ((wnids - names, "missing"), (names - wnids, "not among its"))
        if some
    ]
    return None, f"nearest to {label_set.name}, {len(wnids):,} classes, but for {' and '.join(parts)}"


def unknown_wnids(classes: Sequence[str]) -> list[str]:
    """Names that look like a WordNet id (n01440764) but are in no ImageNet."""
    text = timm_file("imagenet_synset_to_lemma.txt")
    real = {line.split("\t", 1)[0] for line in text.splitlines()}
    return [name for name in classes if _WNID.fullmatch(name) and name not in real]
