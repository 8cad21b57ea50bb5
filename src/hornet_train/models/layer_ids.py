"""Layer-decay ids: how deep a parameter of HorNet sits, by its name."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Any


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


def group_matcher(depths: Sequence[int], coarse: bool) -> dict[str, Any]:
    """The parameter groups in order of depth, as patterns of names in the form that timm takes.

    Args:
        coarse: a group a stage with its downsampler; else the layer ids, so that timm's layer decay is the
            published one. What no pattern names (norm, head) is the last group.
    """
    stem = r"^downsample_layers\.0\."
    if coarse:
        return {"stem": stem, "blocks": [(r"^(?:downsample_layers|stages)\.(\d+)\.", None)]}
    members: dict[int, list[str]] = defaultdict(list)
    for stage, depth in enumerate(depths):
        if stage:
            name = f"downsample_layers.{stage}.0."
            members[layer_id(name, depths)].append(rf"downsample_layers\.{stage}\.")
        for block in range(depth):
            name = f"stages.{stage}.{block}."
            members[layer_id(name, depths)].append(re.escape(name))
    blocks = [(f"^(?:{'|'.join(names)})", (number,)) for number, names in sorted(members.items())]
    return {"stem": stem, "blocks": blocks}
