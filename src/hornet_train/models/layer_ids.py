"""Layer-decay ids: how deep a parameter of HorNet sits, by its name."""

from __future__ import annotations

import re
from collections.abc import Sequence


def _stage_ids(depth: int) -> int:
    """How many layer ids a stage of `depth` blocks takes: one if short, else one for every two blocks."""
    return 1 if depth <= 3 else (depth + 1) // 2


def num_layer_ids(depths: Sequence[int]) -> int:
    """The number of layer-decay ids: 14 for the published depths (2, 3, 18, 2)."""
    return 2 + sum(_stage_ids(depth) for depth in depths)


def layer_id(name: str, depths: Sequence[int]) -> int:
    """The layer-decay id of a parameter, 0 .. num_layer_ids(depths) - 1; its scale is decay^(last id - id).

    The stem has id 0. Each stage then takes the ids after the stage before it: one where it has at most 3
    blocks, else one for every two blocks; its downsampler shares its first id. Everything else (norm, head,
    norms of dense outputs) has the last id. For (2, 3, 18, 2) these are the published ids: stages 1, 2,
    3..11, 12; head 13.
    """
    found = re.match(r"(downsample_layers|stages)\.(\d+)\.(\d+)", name)
    if found is None:
        return num_layer_ids(depths) - 1
    kind, stage, position = found[1], int(found[2]), int(found[3])
    if kind == "downsample_layers" and stage == 0:
        return 0
    first = 1 + sum(_stage_ids(depth) for depth in depths[:stage])
    if kind == "downsample_layers" or depths[stage] <= 3:
        return first
    return first + position // 2
