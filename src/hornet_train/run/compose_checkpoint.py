"""The config of an evaluation or a prediction, from a command line and the checkpoint that it names."""

from __future__ import annotations

from typing import Any

from hornet_train._timm import import_timm
from hornet_train.config.compose import Composed
from hornet_train.config.compose_eval import check_keys, checkpoint_of, compose_eval
from hornet_train.config.schema import EvalConfig
from hornet_train.run.glance import glance
from hornet_train.tasks.table import NAMES, find, kit_of


def compose_checkpoint(given: list[str], *, opens_data: bool = True) -> tuple[Any, Composed[EvalConfig]]:
    """The kit of the checkpoint's task, and the config.

    What is wrong with the command line is found before torch and timm are imported, which takes seconds.

    Args:
        given: overrides of `hornet-eval`.
        opens_data: False for a prediction.

    Raises:
        UserError: the overrides or the checkpoint are at fault.
    """

    def composed_with(stored: dict[str, Any] | None) -> Composed[EvalConfig]:
        return compose_eval(given, lambda _: stored, find=find, names=NAMES, opens_data=opens_data)

    checkpoint = checkpoint_of(given)
    seen = glance(checkpoint) if checkpoint is not None else None
    if seen is not None or checkpoint is None:
        composed = composed_with(seen)
    else:
        check_keys(given, find=find, names=NAMES)
    import_timm()
    from hornet_train.run.follow_model import follow_model
    from hornet_train.run.known import known_of

    known = known_of(checkpoint) if checkpoint is not None else None
    if seen is None or known != seen:
        composed = composed_with(known)
    assert composed.task is not None

    def compose(more: list[str]) -> Composed[EvalConfig]:
        return compose_eval([*given, *more], lambda _: known, find=find, names=NAMES, opens_data=opens_data)

    kit = kit_of(composed.task)
    return kit, follow_model(kit, composed, compose)
