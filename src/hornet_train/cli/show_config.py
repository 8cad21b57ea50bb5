"""`--cfg job`: print the config that a command would run with."""

from __future__ import annotations

from typing import Any

from hornet_train._timm import import_timm
from hornet_train.config.bench_schema import BENCHES
from hornet_train.config.compose import Composed, to_yaml
from hornet_train.config.compose_info import compose_bench, compose_info
from hornet_train.config.compose_train import compose_train
from hornet_train.config.schema import Config
from hornet_train.redaction import redacted_tree
from hornet_train.tasks.table import NAMES, find, kit_of


def training_config(overrides: list[str]) -> str:
    """Of `hornet-train <overrides>`, as YAML."""

    def compose(more: list[str]) -> Composed[Config]:
        return compose_train([*overrides, *more], find=find, names=NAMES)

    composed = compose([])
    run = composed.repeats
    changed = run is not None and run.model != composed.config.model.name
    if composed.choices["model"] == "timm" or changed:  # what these want timm knows, which takes seconds
        import_timm()
        from hornet_train.run.follow_model import follow_model

        assert composed.task is not None
        composed = follow_model(kit_of(composed.task), composed, compose)
    return _text(composed)


def evaluation_config(overrides: list[str]) -> str:
    """Of `hornet-eval <overrides>`, as YAML."""
    from hornet_train.run.compose_checkpoint import compose_checkpoint

    return _text(compose_checkpoint(overrides)[1])


def info_config(overrides: list[str]) -> str:
    """Of `hornet-info <overrides>`, as YAML; --family is no part of it."""
    return _text(compose_info([text for text in overrides if text != "--family"], find=find, names=NAMES))


def bench_config(name: str, overrides: list[str]) -> str:
    """Of `hornet-bench <name> <overrides>`, as YAML."""
    return _text(compose_bench(BENCHES[name], name, overrides))


def _text(composed: Composed[Any]) -> str:
    return to_yaml(redacted_tree(composed.tree))
