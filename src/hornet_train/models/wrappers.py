"""Weights out of what other tools wrap around a model: prefixes of its names, and counters beside it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping

from torch import Tensor

_COUNTER = "n_averaged"  # of torch's AveragedModel: how many weights the average is of
_SHOWN = 3


def without_counter(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """The weights without the counter of torch's `AveragedModel`, and a sentence where there was one."""
    count = state.get(_COUNTER)
    if count is None or count.numel() != 1:
        return dict(state), []
    rest = {name: tensor for name, tensor in state.items() if name != _COUNTER}
    return rest, [f"these are averaged weights, of {int(count):,} updates (torch's AveragedModel)"]


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
