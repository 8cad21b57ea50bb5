"""Settings that follow from the model, where neither the command line nor a run says otherwise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from hornet_train.config.compose import Composed, at
from hornet_train.config.from_run import Repeated
from hornet_train.config.key import keys_where
from hornet_train.config.schema import Config, EvalConfig
from hornet_train.config.stored import read_config
from hornet_train.config.validate import typed
from hornet_train.tasks.kit import Kit

C = TypeVar("C", bound=Config | EvalConfig)


def follow_model(
    kit: Kit[Any, Any], composed: Composed[C], compose: Callable[[list[str]], Composed[C]]
) -> Composed[C]:
    """The config with what the kit's `model_defaults` says of its model, and a note of it.

    A run that is there keeps what it has. One that `from=` repeats with another model, or with another data
    group, keeps what was given to it, but not what followed from its own model.

    Args:
        kit: of the config's task.
        composed: the config.
        compose: composes it with more overrides.
    """
    if composed.goes_on:
        return composed
    kept = _kept(composed)
    config, run = composed.config, composed.repeats
    if run is None:
        asked, whose, notes = kit.model_defaults(config), "", list[str]()
    else:
        asked, notes = _asked_beside(run, kit, composed)
        whose = f", not {run.model}" if run.model != config.model.name else ""
    wanted = {key: value for key, value in asked.items() if key not in composed.given and key not in kept}
    if not wanted:
        return replace(composed, notes=(*composed.notes, *notes)) if notes else composed
    in_timm = " in timm" if run is None or composed.choices["model"] == "timm" else ""
    note = (
        f"{', '.join(f'{key}={_text(value)}' for key, value in wanted.items())}: as "
        f"{config.model.name} has it{in_timm}{whose}; the command line can say otherwise"
    )
    followed = compose([f"{key}={_text(value)}" for key, value in wanted.items()])
    return replace(followed, given=composed.given, notes=(*composed.notes, note, *notes))


def _asked_beside(
    run: Repeated, kit: Kit[Any, Any], composed: Composed[C]
) -> tuple[dict[str, Any], list[str]]:
    """What the model of a config asks for that the run which it repeats has otherwise.

    A value of that run that its own model had asked for, or that is the default, says nothing of another
    model. Any other was given on a command line, and is kept. Of groups that are chosen anew, the run says
    nothing at all.

    Returns:
        Key -> value, and a note for the values that are kept.
    """
    config, defaults = composed.config, run.defaults
    changed = run.model != config.model.name
    if not changed and composed.given.isdisjoint(composed.choices):
        return {}, []
    preprocessing = keys_where(type(config), lambda key: key.preprocessing)
    by_default = _with(composed.tree, {key: at(defaults, key) for key in preprocessing})
    stored = run.tree["model"] if run.model is not None else {}
    model = {name: stored.get(name, value) for name, value in composed.tree["model"].items()}
    before = _model_defaults(kit, config, {**by_default, "model": model})
    after = _model_defaults(kit, config, by_default)
    asked, kept = dict[str, Any](), dict[str, Any]()
    for key in {**before, **after}:
        default, now = at(defaults, key), at(composed.tree, key)
        anew = key.partition(".")[0] in composed.given
        if not (changed or anew) or key in composed.given:
            continue
        new = after.get(key, default)
        if _same(now, new):
            continue
        if _same(now, default if anew else before.get(key, default)):
            asked[key] = new
        else:
            kept[key] = new
    notes = []
    if kept:
        values = ", ".join(f"{key}={_text(at(composed.tree, key))}" for key in kept)
        follows = " ".join(f"{key}={_text(value)}" for key, value in kept.items())
        notes = [f"{values}: as given to {run.file}; {config.model.name} has {follows}"]
    return asked, notes


def _model_defaults(kit: Kit[Any, Any], like: Config | EvalConfig, tree: Mapping[str, Any]) -> dict[str, Any]:
    """What the model of a tree asks for; nothing where the tree is no config, as an old run's may not be."""
    config, _ = typed(type(like), tree)
    return kit.model_defaults(config) if config is not None else {}


def _with(tree: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The tree with other values at keys of `group.name`."""
    changed = dict(tree)
    for key, value in values.items():
        group, _, name = key.partition(".")
        changed[group] = {**changed[group], name: value}
    return changed


def _kept(composed: Composed[C]) -> set[str]:
    """The keys of `group.name` whose defaults the run in the folder of a training has, if there is one."""
    config = composed.config
    if not isinstance(config, Config) or config.run_dir is None or config.resume == "restart":
        return set()
    file = Path(config.run_dir) / "config.yaml"
    kept = read_config(file) if file.is_file() else {}
    return {
        f"{group}.{name}"
        for group, part in kept.items()
        if isinstance(part, dict)
        for name, value in part.items()
        if value == composed.tree.get(group, {}).get(name)
    }


def _text(value: Any) -> str:
    """A value as a command line has it."""
    if isinstance(value, (list, tuple)):
        return f"[{','.join(str(one) for one in value)}]"
    return str(value)


def _same(one: Any, other: Any) -> bool:
    """Whether two values are equal: 1 and 1.0 are, and a list and a tuple of the same."""
    sequences = isinstance(one, (list, tuple)) and isinstance(other, (list, tuple))
    return list(one) == list(other) if sequences else bool(one == other)
