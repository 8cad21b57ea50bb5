"""A share of samples held out by hashes of their names, where nobody has split them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence


def split_by_hash(keys: Sequence[bytes], share: float) -> tuple[list[int], list[int]]:
    """(places of the training samples, places of those that are held out), always the same ones.

    By a hash of their names, so that a new sample moves hardly any other one.

    Args:
        keys: of the samples.
        share: of them, above 0 and below 1; at least one is held out and one kept.
    """
    by_hash = sorted(range(len(keys)), key=lambda place: hashlib.sha256(keys[place]).digest())
    number = min(len(keys) - 1, max(1, round(share * len(keys))))
    return sorted(by_hash[number:]), sorted(by_hash[:number])
