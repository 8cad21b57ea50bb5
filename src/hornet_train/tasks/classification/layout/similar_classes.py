"""Find class names that are nearly the same: perhaps two folders of one class."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence

_MIN_LENGTH = 6  # characters; shorter names that are one edit apart are mostly different words (cat, bat)
_WNID = re.compile(r"[a-z]\d{8}")


def near_duplicates(names: Sequence[str]) -> list[tuple[str, str, str]]:
    """Pairs of names that may mean one class: (name, other name, in what they differ).

    They differ only in case, spaces, hyphens and underscores, in Unicode form, in plural, or in one letter.
    WordNet ids and names that differ in a digit are not reported. Apart from the pairs found, the time is
    linear in the total length of the names.
    """
    words = [name for name in names if not _WNID.fullmatch(name)]
    pairs: dict[tuple[str, str], str] = {}
    for key, difference in (
        (_composed, "Unicode form"),
        (_folded, "case, spaces, hyphens or underscores"),
        (_singular, "plural"),
    ):
        groups = defaultdict(list)
        for name in words:
            groups[key(name)].append(name)
        for group in groups.values():
            for other in group[1:]:
                pairs.setdefault((group[0], other), difference)
    first_position: dict[str, int] = {}  # folded name -> its first position in `words`
    for position, name in enumerate(words):
        first_position.setdefault(_folded(name), position)
    for one, other in _one_edit_apart(sorted(first_position)):
        first, second = sorted((first_position[one], first_position[other]))
        pairs.setdefault((words[first], words[second]), "one letter")
    return [(one, other, difference) for (one, other), difference in pairs.items()]


def _composed(name: str) -> str:
    """The name in Unicode's composed form, NFC."""
    return unicodedata.normalize("NFC", name)


def _folded(name: str) -> str:
    """The name without case, and with one space for any spaces, hyphens and underscores."""
    return re.sub(r"[\s_-]+", " ", _composed(name).casefold()).strip()


def _singular(name: str) -> str:
    """A stem that singular and plural have in common: butterfli(es), butterfly; hous(es), hous(e)."""
    folded = _folded(name)
    stem = folded if folded.endswith("ss") else re.sub(r"(es|s|e)$", "", folded)
    return re.sub(r"y$", "i", stem) if len(stem) >= _MIN_LENGTH - 2 else folded


def _one_edit_apart(names: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of distinct names that one insertion, deletion or substitution of a letter turns into each other.

    Two such names have a string in common that is each of them with at most one letter deleted.
    """
    by_shortened: dict[str, list[str]] = defaultdict(list)
    for name in names:
        if len(name) >= _MIN_LENGTH:
            for key in {name, *(name[:i] + name[i + 1 :] for i in range(len(name)))}:
                by_shortened[key].append(name)
    found: set[tuple[str, str]] = set()
    for group in by_shortened.values():
        for i, one in enumerate(group):
            found.update((one, other) for other in group[i + 1 :] if _differ_in_a_letter(one, other))
    return sorted(found)


def _differ_in_a_letter(one: str, other: str) -> bool:
    """Whether one edit turns two names into each other, and the edited character is a letter."""
    if len(one) > len(other):
        one, other = other, one
    i = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), len(one))
    same_length = len(one) == len(other)
    edited = other[i] + (one[i] if same_length else "")
    return one[i + same_length :] == other[i + 1 :] and edited.isalpha()
