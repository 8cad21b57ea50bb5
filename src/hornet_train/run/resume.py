"""Resume from a checkpoint of this run; refused on other samples than it was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hornet_train.config.stored import CLASSES, config_in_folder
from hornet_train.data.sources.listing import with_count
from hornet_train.engine.calendar import Calendar, calendar_of
from hornet_train.engine.checkpoint import Checkpoint
from hornet_train.engine.fault_history import FaultHistory
from hornet_train.engine.state import TrainState
from hornet_train.errors import DataError
from hornet_train.run.gone_files import changes_of_files
from hornet_train.run.open_weights import identity_of
from hornet_train.tasks.kit_types import Datasets


def restore_state(
    state: TrainState,
    saved: Checkpoint,
    datasets: Datasets,
    *,
    forced: bool,
) -> list[str]:
    """Restore a checkpoint that was trained on these samples; what a user should know of it, as sentences.

    Args:
        forced: also where the samples are others now (resume=force). Rollbacks are forgotten then, and where
            the batch size is another.

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
    before = calendar_of(saved.numbers) or _older_calendar(saved)
    numbers = saved.numbers if before is None else {**saved.numbers, "calendar": before.to_json()}
    state.restore(saved.tensors, numbers)
    moved = [] if before is None else _moved(before, state)
    notes += moved
    if "val" in changed and state.best is not None:
        notes.append(
            f"the best so far ({state.best.metric} {state.best.value:.2f} at step {state.best.step:,}) is of "
            "other held-out images, and forgotten"
        )
        state.best = None
    if (forced or moved) and state.fault_history.rollbacks:
        notes.append(
            f"{state.fault_history.rollbacks} returns to a checkpoint are forgotten, and what they left out "
            "and did to the learning rate"
        )
        state.fault_history = FaultHistory()
    return [*notes, f"going on from {saved.folder}"]


def _moved(before: Calendar, state: TrainState) -> list[str]:
    """A sentence where the run goes on by another calendar."""
    now = state.calendar
    if (before.samples, before.batch_size) == (now.samples, now.batch_size) and before.shift == now.shift:
        return []
    epoch, done = before.position(state.step)
    place = f"after image {done:,} of {before.samples:,} of epoch {epoch + 1} (step {state.step:,})"
    text = f"going on {place} with batch_size={now.batch_size} (before: {before.batch_size})"
    if before.samples != now.samples:
        return [f"{text}, at the same share of an epoch of {now.samples:,} images"]
    again = done - now.position(state.step)[1]
    return [text + (f"; {with_count(again, 'image')} of this epoch are seen again" if again > 0 else "")]


def _older_calendar(saved: Checkpoint) -> Calendar | None:
    """That of a checkpoint which does not say: by its config, of samples with random access."""
    samples = identity_of(saved).get("train", {}).get("samples")
    config = (
        config_in_folder(saved.texts["config.yaml"], saved.folder) if "config.yaml" in saved.texts else {}
    )
    size, data = config.get("batch_size"), config.get("data", {})
    if not isinstance(samples, int) or not isinstance(size, int) or not 0 < size <= samples:
        return None
    if data.get("streaming"):
        return None
    whole, rest = divmod(samples, size)
    return Calendar(samples, size, whole + (1 if rest and not data.get("drop_last") else 0))


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
