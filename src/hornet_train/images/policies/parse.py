"""Parse the text of any policy: `rand-m9-mstd0.5-inc1`, `v0-mstd0.5`, `augmix-m3-w3`, `ta_wide`, `three`."""

from __future__ import annotations

from hornet_train.images.layout import Interpolation
from hornet_train.images.policies.augmix import AugMix
from hornet_train.images.policies.autoaugment import POLICIES, AutoAugment
from hornet_train.images.policies.grammar import read_parts
from hornet_train.images.policies.policy import Policy
from hornet_train.images.policies.randaugment import RandAugment
from hornet_train.images.policies.three import ThreeAugment
from hornet_train.images.policies.trivial import TrivialAugment

HEADS = ("rand", *POLICIES, "augmix", "ta_wide", "three")


def parse_policy(text: str, fill: tuple[int, int, int], interpolation: Interpolation) -> Policy:
    """Create the policy that a text names.

    Args:
        text: one of `HEADS`, for some of them followed by parts of timm's grammar, joined by dashes.
        fill: RGB, 0..255, of pixels that geometric operations take from outside the image.
        interpolation: of geometric operations.

    Raises:
        ValueError: a head or part is unknown, or a number is out of range; the message names it.
    """
    head = text.split("-")[0]
    if head == "rand":
        return RandAugment.parse(text, fill, interpolation)
    if head in POLICIES:
        return AutoAugment.parse(text, fill, interpolation)
    if head == "augmix":
        return AugMix.parse(text, fill, interpolation)
    read_parts(text, HEADS, {}, fractions=())
    return ThreeAugment() if head == "three" else TrivialAugment(fill, interpolation)
