"""Settings that follow from the model, where neither the command line nor a run says otherwise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from hornet_train.config.compose import Composed
from hornet_train.config.schema import Config, EvalConfig
from hornet_train.config.stored import read_config
from hornet_train.tasks.kit import Kit

C = TypeVar("C", bound=Config | EvalConfig)


def follow_model(
    kit: Kit[Any, Any], composed: Composed[C], compose: Callable[[list[str]], Composed[C]]
) -> Composed[C]:
    """The config with what the kit's `model_defaults` says of its model, and a note of it.

    A run that is there keeps what it has.

    Args:
        kit: of the config's task.
        composed: the config.
        compose: composes it with more overrides.
    """
    if composed.repeats is not None or composed.goes_on:
        return composed
    kept = _kept(composed)
    wanted = {
        key: value
        for key, value in kit.model_defaults(composed.config).items()
        if key not in composed.given and key not in kept
    }
    if not wanted:
        return composed
    note = (
        f"{', '.join(f'{key}={_text(value)}' for key, value in wanted.items())}: as "
        f"{composed.config.model.name} has it in timm; the command line can say otherwise"
    )
    followed = compose([f"{key}={_text(value)}" for key, value in wanted.items()])
    return replace(followed, given=composed.given, notes=(*composed.notes, note))


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
