"""Exchanges layers of any network for gnConv, in place, and says what that cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn

from hornet_train.data.sources.listing import with_count
from hornet_train.errors import did_you_mean
from hornet_train.images.size import times
from hornet_train.integrations.stand_ins import Place, TokenGnConv, described, is_candidate, refusal, stand_in
from hornet_train.models.complexity import Complexity, count
from hornet_train.models.mixers import Mixer
from hornet_train.models.spec import MODEL_ERRORS, first_line

Where = str | Sequence[str] | Callable[[str, nn.Module], bool]


@dataclass(frozen=True)
class Exchange:
    """A layer that was exchanged.

    Attributes:
        names: where it is; several where it is shared.
        was, now: in a few words.
        parameters: before and after.
    """

    names: tuple[str, ...]
    was: str
    now: str
    parameters: tuple[int, int]


@dataclass(frozen=True)
class SwapReport:
    """What was exchanged, and what a network costs before and after.

    Attributes:
        exchanged: in the network's order.
        refused: name of each layer that was meant and is as it was -> why.
        parameters: before and after.
        macs: multiply-accumulates of one image likewise; None where the network could not be run.
        image_size: pixels, (height, width), for which they are.
        notes: one sentence for each thing that a user should know of.
        dry_run: whether the network is as it was.
    """

    exchanged: tuple[Exchange, ...]
    refused: dict[str, str]
    parameters: tuple[int, int]
    macs: tuple[int, int] | None
    image_size: tuple[int, int]
    notes: tuple[str, ...]
    dry_run: bool

    def __str__(self) -> str:
        """A table."""
        verb = "would be exchanged" if self.dry_run else "exchanged"
        lines = [f"{with_count(len(self.exchanged), 'layer')} {verb}"]
        for one in self.exchanged:
            before, after = one.parameters
            lines.append(f"  {', '.join(one.names)}: {one.was} -> {one.now} ({before:,} -> {after:,})")
        lines += [f"  {name} stays: {reason}" for name, reason in self.refused.items()]
        before, after = self.parameters
        lines.append(f"parameters: {before:,} -> {after:,} ({after / before - 1:+.1%})")
        if self.macs is not None:
            before, after = self.macs
            lines.append(
                f"MACs at {times(self.image_size)}: {before:,} -> {after:,} ({after / before - 1:+.1%})"
            )
        return "\n".join([*lines, *self.notes])


def exchange_layers(
    model: nn.Module,
    where: Where,
    *,
    order: int,
    mixer: Mixer,
    image_size: int | tuple[int, int],
    dry_run: bool,
) -> SwapReport:
    """See `hornet_train.swap`."""
    size = (image_size, image_size) if isinstance(image_size, int) else image_size
    meant = _meant(model, where)
    before, notes = _cost(model, size)
    parameters = sum(one.numel() for one in model.parameters())
    exchanged, refused, made = list[Exchange](), dict[str, str](), dict[str, nn.Module]()
    for names, module in meant:
        reason, new = refusal(module), None
        if reason is None:
            place = _place(model, names[0], before)
            try:
                new = stand_in(module, place, order=order, mixer=mixer)
            except ValueError as error:
                reason = str(error)
        if new is None:
            refused |= dict.fromkeys(names, reason or "")
            continue
        made |= dict.fromkeys(names, new)
        numbers = (_parameters(module), _parameters(new))
        exchanged.append(Exchange(names, described(module), described(new), numbers))
    if not exchanged:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in refused.items())
        raise ValueError(f"no layer can be exchanged: {reasons}")
    old = {name: model.get_submodule(name) for name in made}
    _put(model, made)
    done = False
    try:
        after = _checked(model, before, size)
        total = sum(one.numel() for one in model.parameters())
        done = not dry_run
    finally:
        if not done:
            _put(model, old)
    if not dry_run:
        notes.append("new weights are untrained; an optimizer that was made before does not know them")
    if any(isinstance(new, TokenGnConv) for new in made.values()):
        notes.append("the MACs of attentions are without the products of queries, keys and values")
    macs = None if before is None or after is None else (before.macs, after.macs)
    return SwapReport(tuple(exchanged), refused, (parameters, total), macs, size, tuple(notes), dry_run)


def _meant(model: nn.Module, where: Where) -> list[tuple[tuple[str, ...], nn.Module]]:
    """The layers that are meant, each once, with all its names.

    Raises:
        ValueError: none is.
    """
    candidates = [
        (name, module)
        for name, module in model.named_modules(remove_duplicate=False)
        if name and is_candidate(module)
    ]
    if callable(where):
        chosen = [(name, module) for name, module in candidates if where(name, module)]
        if not chosen:
            raise ValueError("where= holds for no convolution and no attention of this network")
    else:
        patterns = [where] if isinstance(where, str) else list(where)
        chosen = [pair for pair in candidates if any(_fits(pair[0], pattern) for pattern in patterns)]
        names = [name for name, _ in model.named_modules() if name]
        for pattern in patterns:
            if not any(_fits(name, pattern) for name, _ in candidates):
                known = names if not any(_fits(name, pattern) for name in names) else []
                hint = f": {did_you_mean(pattern, known)}" if known else ""
                raise ValueError(f"{pattern!r} is no convolution and no attention of this network{hint}")
    found: dict[nn.Module, list[str]] = {}
    for name, module in _outermost(chosen):
        found.setdefault(module, []).append(name)
    return [(tuple(names), module) for module, names in found.items()]


def _fits(name: str, pattern: str) -> bool:
    """Whether a pattern names a layer, or a module that it is inside of."""
    return fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")


def _outermost(chosen: list[tuple[str, nn.Module]]) -> Iterator[tuple[str, nn.Module]]:
    """Without those inside of another, as the convolutions of an attention are."""
    names = {name for name, _ in chosen}
    for name, module in chosen:
        parts = name.split(".")
        if not any(".".join(parts[:length]) in names for length in range(1, len(parts))):
            yield name, module


def _place(model: nn.Module, name: str, cost: Complexity | None) -> Place:
    prefix = _prefix(model, name)
    if cost is None:
        return Place(None, prefix)
    if name not in cost.output_tokens:
        return Place(cost.output_sizes.get(name), prefix)
    tokens = cost.output_tokens[name] - prefix
    side = math.isqrt(max(tokens, 0))
    return Place((side, side) if side * side == tokens else None, prefix)


def _prefix(model: nn.Module, name: str) -> int:
    """Tokens before those of the map, as the nearest network around a layer says it."""
    parts = name.split(".")
    for length in range(len(parts) - 1, -1, -1):
        found = vars(model.get_submodule(".".join(parts[:length]))).get("num_prefix_tokens")
        if isinstance(found, int):
            return found
    return 0


def _cost(model: nn.Module, size: tuple[int, int]) -> tuple[Complexity | None, list[str]]:
    """What a network costs, if it is one of images."""
    try:
        return count(model, size), []
    except MODEL_ERRORS as error:
        return None, [
            f"MACs are not counted: it does not take an image of {times(size)} ({first_line(error)})"
        ]


def _checked(model: nn.Module, before: Complexity | None, size: tuple[int, int]) -> Complexity | None:
    """What it costs now.

    Raises:
        ValueError: it ran before and does not run any more, or gives maps of other sizes.
    """
    if before is None:
        return None
    try:
        after = count(model, size)
    except MODEL_ERRORS as error:
        raise ValueError(f"with these layers exchanged the network does not run any more: {error}") from error
    for name, was in before.output_sizes.items():
        if after.output_sizes.get(name, was) != was:
            raise ValueError(
                f"with these layers exchanged {name} gives {after.output_sizes[name]}, not {was}"
            )
    return after


def _put(model: nn.Module, modules: dict[str, nn.Module]) -> None:
    for name, module in modules.items():
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, module)


def _parameters(module: nn.Module) -> int:
    return sum(one.numel() for one in module.parameters())
