"""Weights out of what other tools wrap around a model: prefixes of its names, and counters beside it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Literal

from torch import Tensor

Prefer = Literal["ema", "model"]
_COUNTER = "n_averaged"  # of torch's AveragedModel: how many weights the average is of
_AVERAGED = frozenset(("ema", "swa", "avg", "average", "averaged"))  # `teacher` may be another model
_ONLINE = "online_model"  # the raw weights within the average of ema_pytorch
_SHARE = 10  # smaller parts of a file are layers, which may be called so too
_SHOWN = 3


def without_counter(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """The weights without the counter of torch's `AveragedModel`, and a sentence where there was one."""
    count = state.get(_COUNTER)
    if count is None or count.numel() != 1:
        return dict(state), []
    rest = {name: tensor for name, tensor in state.items() if name != _COUNTER}
    return rest, [f"these are averaged weights, of {int(count):,} updates (torch's AveragedModel)"]


def averaged_parts(state: Mapping[str, Tensor]) -> dict[str, str]:
    """The names of averaged weights, each with the prefix that tells it (`ema_model.`, `net_ema.`).

    A prefix tells it by a word of its last part, or by the counter of torch's `AveragedModel` under it.
    """
    counted = {full.removesuffix(_COUNTER) for full in state if full.endswith(f".{_COUNTER}")}
    found = {}
    for full in state:
        parts = full.split(".")
        for place, part in enumerate(parts[:-1]):
            prefix = ".".join(parts[: place + 1]) + "."
            words = re.split(r"_|(?<=[a-z])(?=[A-Z])", part)
            if prefix in counted or not _AVERAGED.isdisjoint(word.lower() for word in words):
                if parts[place + 1] != _ONLINE:
                    found[full] = prefix
                break
    return found


def of_one_kind(state: Mapping[str, Tensor], prefer: Prefer) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors without the raw or without the averaged weights, where a file holds both of one model.

    Averaged ones count only where the same names stand under another prefix: a layer of a model may be called
    `ema` too.

    Args:
        state: names and tensors of a file.
        prefer: the kind to keep.

    Returns:
        The tensors, and a sentence for each part that was left out.
    """
    averaged = averaged_parts(state)
    raw = [full for full in state if full not in averaged]
    gone: set[str] = set()
    notes = []
    for prefix, count in Counter(averaged.values()).most_common():
        if _SHARE * count < len(state):
            break
        part = [full for full, its in averaged.items() if its == prefix]
        within = _common([full for full in part if state[full].ndim])  # a decay may lie beside the weights
        twins = _twins([full.removeprefix(within) for full in part if state[full].ndim], raw)
        if not twins:
            continue
        if prefer == "model":
            gone.update(part)
            notes.append(f"left out the averaged weights under {within!r} (weights=ema)")
            continue
        gone.update(full for full in raw if full.startswith(twins))
        gone.update(full for full in part if not full.startswith(within))
        places = ", ".join(f"under {twin!r}" if twin else "without a prefix" for twin in twins)
        notes.append(f"left out the raw weights {places} (weights=model)")
        break
    return {full: tensor for full, tensor in state.items() if full not in gone}, notes


def _common(names: Collection[str]) -> str:
    """The longest prefix of whole parts that all names have."""
    parts = [name.split(".")[:-1] for name in names]
    first, last = min(parts, default=[]), max(parts, default=[])
    same = 0
    while same < min(len(first), len(last)) and first[same] == last[same]:
        same += 1
    return "".join(f"{part}." for part in first[:same])


def _twins(names: Collection[str], others: Collection[str]) -> tuple[str, ...]:
    """The prefixes under which all `names` are found among `others`, and few besides."""
    longest = max(names, key=len, default="")
    known = frozenset(others)
    found = []
    for full in others:
        if full != longest and not full.endswith(f".{longest}"):
            continue
        prefix = full.removesuffix(longest)
        if all(f"{prefix}{name}" in known for name in names):
            size = sum(other.startswith(prefix) for other in others)
            if 2 * len(names) >= size:
                found.append(prefix)
    return tuple(found)


def unwrapped(state: Mapping[str, Tensor], names: Collection[str]) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors with the names of a model, which may stand behind a common prefix (`net.`, `model.`).

    The prefix is that under which most of the names are found, averaged weights first (`ema`). Where this is
    not even half of them, the state stays as it is.

    Args:
        state: names and tensors of a file.
        names: those of the model asked for.

    Returns:
        The tensors, and a sentence of what was done.
    """
    wanted = frozenset(names)
    found = Counter({"": sum(name in wanted for name in state)})
    for full in state:
        cut = full.find(".")
        while cut >= 0:
            if full[cut + 1 :] in wanted:
                found[full[: cut + 1]] += 1
            cut = full.find(".", cut + 1)
    prefix = max(found, key=lambda one: (found[one], "ema" in one.lower(), one == ""))
    if not prefix or 2 * found[prefix] < len(wanted):
        return dict(state), []
    taken = {full.removeprefix(prefix): one for full, one in state.items() if full.startswith(prefix)}
    others = [full for full in state if not full.startswith(prefix)]
    note = f"took the tensors under {prefix!r}"
    if others:
        parts = Counter(full.split(".")[0] for full in others)
        shown = ", ".join(f"{part} ({count})" for part, count in parts.most_common(_SHOWN))
        note += f" and left out {len(others)} others: {shown}{', ...' if len(parts) > _SHOWN else ''}"
    return taken, [note]
