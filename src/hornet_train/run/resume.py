"""Resume from a checkpoint of this run; refused on other samples than it was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hornet_train.config.stored import CLASSES
from hornet_train.engine.checkpoint import Checkpoint
from hornet_train.engine.fault_history import FaultHistory
from hornet_train.engine.state import TrainState
from hornet_train.errors import DataError
from hornet_train.run.gone_files import changes_of_files
from hornet_train.run.open_weights import identity_of
from hornet_train.tasks.kit_types import Datasets


def restore_state(state: TrainState, saved: Checkpoint, datasets: Datasets, *, forced: bool) -> list[str]:
    """Restore a checkpoint that was trained on these samples; what a user should know of it, as sentences.

    Args:
        forced: also where the samples are others now (resume=force); rollbacks are forgotten then.

    Raises:
        CheckpointError: it is for another model.
        DataError: the samples are not those it was trained on, and `forced` is not set.
    """
    notes = []
    changed = identity_changes(identity_of(saved), datasets.identity())
    if changed:
        files = changes_of_files(datasets.files)
        listed = "; ".join(
            [*(f"{name}: {change}" for name, change in changed.items()), *filter(None, [files])]
        )
        if CLASSES in changed:
            raise DataError(
                f"{saved.folder} was trained on other classes than the data group names now ({listed}): "
                f"bring them back, or start from its weights in another run_dir: init_from={saved.folder}"
            )
        if not forced and [*changed] == ["dealt"]:
            raise DataError(
                f"{saved.folder} read shards that were dealt out otherwise ({listed}): go on with the same "
                "numbers (torchrun --nproc_per_node, data.workers, micro_batch_size), or all the same with "
                "resume=force; then some images come twice in this epoch, and some not at all"
            )
        if not forced:
            raise DataError(
                f"{saved.folder} was trained on other images than the data group names now ({listed}): "
                "bring them back, or go on all the same with resume=force"
            )
        notes.append(f"going on with other images ({listed})")
    state.restore(saved.tensors, saved.numbers)
    if forced and state.fault_history.rollbacks:
        notes.append(
            f"{state.fault_history.rollbacks} returns to a checkpoint are forgotten, and what they left out "
            "and did to the learning rate"
        )
        state.fault_history = FaultHistory()
    return [*notes, f"going on from {saved.folder}"]


def identity_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, str]:
    """`before -> after` in a few words, for each part of the samples' identity that is another now."""
    return {
        name: f"{_in_words(value)} -> {_in_words(now.get(name))}"
        for name, value in before.items()
        if now.get(name) != value
    }


def _in_words(part: Any) -> str:
    """An entry of the samples' identity (see `Datasets.identity`)."""
    if isinstance(part, dict):
        if "sha256" not in part:
            return ", ".join(f"{value} {name.replace('_', ' ')}" for name, value in part.items())
        return f"{part['samples']:,} images, {part['sha256'][:8]}"
    return f"{len(part):,} classes" if isinstance(part, list) else str(part or "none")
