"""Class names that are nearly the same: two folders where there should be one."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence

_LONG = 6  # characters; below it names that are one edit apart are mostly words of their own (cat, bat)
_WNID = re.compile(r"[a-z]\d{8}")


def near_duplicates(names: Sequence[str]) -> list[tuple[str, str, str]]:
    """Pairs of names that a person may have meant as one: (name, other name, in what they differ).

    By case, spaces, hyphens and underscores, Unicode form, plural, or one letter; WordNet ids and names that
    differ in a digit are left alone. In time linear in the names' total length, but for the pairs themselves.
    """
    spoken = [name for name in names if not _WNID.fullmatch(name)]
    pairs: dict[tuple[str, str], str] = {}
    for key, difference in (
        (_unicode, "Unicode form"),
        (_folded, "case, spaces, hyphens or underscores"),
        (_singular, "plural"),
    ):
        groups = defaultdict(list)
        for name in spoken:
            groups[key(name)].append(name)
        for group in groups.values():
            for other in group[1:]:
                pairs.setdefault((group[0], other), difference)
    spelt: dict[str, int] = {}  # folded name -> where it is first met
    for at, name in enumerate(spoken):
        spelt.setdefault(_folded(name), at)
    for one, other in _one_edit_apart(sorted(spelt)):
        first, second = sorted((spelt[one], spelt[other]))
        pairs.setdefault((spoken[first], spoken[second]), "one letter")
    return [(one, other, difference) for (one, other), difference in pairs.items()]


def _unicode(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _folded(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", _unicode(name).casefold()).strip()


def _singular(name: str) -> str:
    """What singular and plural share: butterfli(es), butterfly; hous(es), hous(e); glass(es), glass."""
    folded = _folded(name)
    stem = folded if folded.endswith("ss") else re.sub(r"(es|s|e)$", "", folded)
    return re.sub(r"y$", "i", stem) if len(stem) >= _LONG - 2 else folded


def _one_edit_apart(names: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of distinct names one insertion, deletion or substitution of a letter apart.

    Two such names have a string in common that each of them becomes by losing at most one letter.
    """
    shorter: dict[str, list[str]] = defaultdict(list)
    for name in names:
        if len(name) >= _LONG:
            for key in {name, *(name[:i] + name[i + 1 :] for i in range(len(name)))}:
                shorter[key].append(name)
    found: set[tuple[str, str]] = set()
    for group in shorter.values():
        for i, one in enumerate(group):
            found.update((one, other) for other in group[i + 1 :] if _differ_in_a_letter(one, other))
    return sorted(found)


def _differ_in_a_letter(one: str, other: str) -> bool:
    """Whether two names are one edit apart, and that in a letter."""
    if len(one) > len(other):
        one, other = other, one
    i = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), len(one))
    same_length = len(one) == len(other)
    edited = other[i] + (one[i] if same_length else "")
    return one[i + same_length :] == other[i + 1 :] and edited.isalpha()
