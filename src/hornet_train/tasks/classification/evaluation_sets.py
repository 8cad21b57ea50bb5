"""The names of the sets that an ImageNet classifier is evaluated on. Nothing heavy is imported here."""

from __future__ import annotations

from typing import Literal

EvaluationSet = Literal[
    "imagenet",
    "imagenet_real",
    "imagenet_v2",
    "imagenet_v2_threshold",
    "imagenet_v2_top",
    "imagenet_a",
    "imagenet_r",
    "imagenet_sketch",
    "imagenet_c",
]
