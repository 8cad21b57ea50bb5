"""Build a training run from its config: a Trainer in the state of the newest checkpoint, if there is one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hornet_train.config.compose import to_yaml
from hornet_train.config.schema import Config
from hornet_train.config.stored import HEADER, header_text
from hornet_train.config.validate import accumulation
from hornet_train.data.batch import Batch
from hornet_train.data.loader import EvalData
from hornet_train.data.order import Plan
from hornet_train.data.sources.source import Shards
from hornet_train.data.stream_plan import StreamPlan
from hornet_train.engine.checkpoint import Checkpoint, CheckpointStore, read_checkpoint
from hornet_train.engine.damage_reports import DamageReports
from hornet_train.engine.distributed import World
from hornet_train.engine.memory_watch import MemoryWatch
from hornet_train.engine.recovery import fall_back_to_saved_best
from hornet_train.engine.sharding import is_sharded
from hornet_train.engine.task import Monitor
from hornet_train.engine.trainer import Trainer
from hornet_train.errors import ConfigError, DataError
from hornet_train.models.compiled_block import compile_blocks
from hornet_train.models.stem import takes_channels
from hornet_train.models.structure import gate_monitor, smallest_blocks
from hornet_train.run.facts import start_facts
from hornet_train.run.gone_files import Gone, gone_files, listings
from hornet_train.run.initial_state import initial_state
from hornet_train.run.loaders import eval_loader, train_loader, train_plan
from hornet_train.run.open_weights import classes_of, find_weights
from hornet_train.run.process import keep_compiled_code
from hornet_train.run.rate_jump import rate_notes
from hornet_train.run.resume import restore_state
from hornet_train.run.settings import resolve_schedule, resolve_settings
from hornet_train.run.single_images import check_single_images
from hornet_train.tasks.kit import Kit
from hornet_train.tasks.kit_types import Datasets


@dataclass(frozen=True)
class Run:
    """A training run, ready for `trainer.fit()`.

    Attributes:
        facts: what the start panel says: name -> value.
        notes: what was done beyond what the config says, one sentence each.
        resumed_from: the step it goes on from; None for a new run.
        lost_best: what `fall_back_to_saved_best` gives the next event.
        datasets: what it is trained and evaluated on.
    """

    trainer: Trainer
    facts: dict[str, str | list[str]]
    notes: list[str]
    resumed_from: int | None
    datasets: Datasets
    lost_best: dict[str, int] = field(default_factory=dict)


def build_run(
    kit: Kit[Any, Any],
    config: Config,
    tree: Mapping[str, Any],
    *,
    world: World,
    folder: Path,
    opened: Datasets | None = None,
) -> Run:
    """Build everything and take over the newest checkpoint, if any. The caller adds sinks.

    Args:
        kit: of the run's task.
        config: typed; tree: the same as the mapping that config.yaml holds.
        folder: the run folder.
        opened: the data, where they were opened before; those of a checkpoint's classes are opened anew.

    Raises:
        UserError: the data, the model or a checkpoint does not fit, on any rank; nothing was written.
    """
    store = CheckpointStore(folder / "checkpoints", keep=config.checkpoint.keep)
    newest, passed_over = (None, []) if config.resume == "restart" else world.on_main(store.newest)
    run = world.on_all_ranks(lambda: _build_alone(kit, config, world, store, newest, opened))
    identity = run.datasets.identity()
    if not world.same_on_all_ranks((run.trainer.state.step, identity)):
        raise DataError("the processes see other images than each other: data.root must be the same for all")
    lost = fall_back_to_saved_best(run.trainer.state, store, world)
    store.texts = {"config.yaml": to_yaml(tree), "data.json": json.dumps(identity)}
    store.metadata |= {HEADER: header_text(tree, run.datasets.classes)}
    run.trainer.network = _network(run.trainer.state.model, config, world)
    notes = [*(f"checkpoint skipped: {reason}" for reason in passed_over), *run.notes]
    return replace(run, facts={**run.facts, "writes to": str(folder)}, notes=notes, lost_best=lost)


def _build_alone(
    kit: Kit[Any, Any],
    config: Config,
    world: World,
    store: CheckpointStore,
    newest: Path | None,
    opened: Datasets | None,
) -> Run:
    """What each rank builds without a word to the others, its state that of the checkpoint `newest`."""
    before = None if newest is None else read_checkpoint(newest, groups=())
    datasets, gone = _open_data(kit, config, before, store.folder.parent, opened)
    task = kit.build_task(config, datasets)
    micro, _ = accumulation(config.batch_size, config.micro_batch_size, world.size)
    plan = train_plan(kit, datasets, config, world, micro)
    if isinstance(plan, StreamPlan):
        datasets = replace(datasets, dealt=plan.dealt)
    settings, schedule = resolve_settings(config, plan, micro), resolve_schedule(config, plan)
    samples = kit.train_samples(
        config,
        datasets=datasets,
        steps_per_epoch=plan.steps_per_epoch,
        total_steps=settings.total_steps,
    )

    def initial_model() -> tuple[nn.Module, list[str]]:
        torch.manual_seed(config.seed)
        model = task.build_model()
        if config.init_from is None:
            return model, []
        weights = find_weights(Path(config.init_from), None)
        done = kit.start_from(model, weights, config, datasets.classes)
        return model, [f"starting from {weights.place} ({weights.name})", *weights.notes, *done]

    torch.manual_seed(config.seed)
    model, notes = initial_model() if newest is None else (task.build_model(), [])
    if not takes_channels(model, channels := config.model.in_chans):
        raise ConfigError([f"model.in_chans={channels}: task={kit.schema.name} builds a model of 3 channels"])
    model = model.to(world.device)
    lengths = {"total_steps": settings.total_steps, "processes": world.size}
    check = kit.check_model(model, config, datasets, plan, **lengths)
    assert datasets.train is not None
    check_single_images(task, model, datasets.train, samples, plan, **lengths)
    notes = [*datasets.notes, *gone.notes, *check.notes, *notes]
    state = initial_state(model, config, plan, world)
    monitor = _gate_monitor(state.model, config)
    if newest is not None:
        saved = read_checkpoint(newest)
        notes += restore_state(state, saved, datasets, forced=config.resume == "force")
        notes += rate_notes(saved, store.folder.parent, config, schedule, state)
        if config.init_from is not None:
            notes.append(f"init_from={config.init_from} is not read: the run goes on from its own weights")
    trainer = Trainer(
        task=task,
        state=state,
        network=state.model,
        plan=plan,
        train_data=train_loader(datasets, samples, config, plan, world.device),
        eval_data=_eval_data(kit, datasets, config, world),
        schedule=schedule,
        settings=settings,
        store=store,
        world=world,
        initial_weights=lambda: initial_model()[0].state_dict(),
        metrics=kit.metrics,
        monitor=monitor,
        damage=DamageReports(gone.places, gone.indices),
        memory=_memory_watch(kit, config, datasets, plan),
    )
    facts = start_facts(kit.metrics, config, datasets, trainer, check.description)
    return Run(trainer, facts, notes, None if newest is None else state.step, datasets)


def _memory_watch(kit: Kit[Any, Any], config: Config, datasets: Datasets, plan: Plan) -> MemoryWatch:
    def largest() -> Batch | None:
        return kit.largest_batch(config, datasets, plan)

    if datasets.train is None or isinstance(datasets.train, Shards):
        return MemoryWatch(largest=largest)
    return MemoryWatch(datasets.train.locate, largest)


def _open_data(
    kit: Kit[Any, Any], config: Config, before: Checkpoint | None, folder: Path, opened: Datasets | None
) -> tuple[Datasets, Gone]:
    """The samples, in the places that they had in the checkpoint `before`, and which of them have gone.

    `opened`: the samples where they were opened before.
    """
    if before is None:
        return opened or kit.open_data(config.data), Gone()
    classes = classes_of(before) or None
    kept = {split: place for split, place in listings(folder).items() if place.exists()}
    if not kept:
        return kit.open_data(config.data, classes=classes), Gone()
    datasets = kit.open_data(config.data, classes=classes, kept=kept)
    try:
        return datasets, gone_files(datasets, folder, before.numbers)
    except DataError:
        if config.resume != "force":
            raise
        return kit.open_data(config.data, classes=classes), Gone()


def _eval_data(kit: Kit[Any, Any], datasets: Datasets, config: Config, world: World) -> EvalData | None:
    if datasets.val is None:
        return None
    return eval_loader(datasets.val, kit.eval_samples(config.data), config.data, world.device, on_bad="skip")


def _network(model: nn.Module, config: Config, world: World) -> nn.Module:
    """The model as it is trained: compiled, under DDP. Every rank together.

    Raises:
        ConfigError: its blocks are to be compiled, and it has none.
    """
    network = model
    if config.compile:
        keep_compiled_code()
    if config.compile == "blocks":
        if not compile_blocks(smallest_blocks(model)):
            raise ConfigError(
                [f"compile=blocks: {config.model.name} repeats no block; compile=true compiles it whole"]
            )
    elif config.compile:
        network = torch.compile(model)  # type: ignore[assignment]  # a module for a module
    if is_sharded(model):
        return network
    return world.wrap(network, find_unused_parameters=config.dist.find_unused_parameters)


def _gate_monitor(model: nn.Module, config: Config) -> Monitor | None:
    """Raises ConfigError where there are no gating products to watch."""
    if not config.log.gates:
        return None
    try:
        return gate_monitor(model)
    except ValueError as error:
        raise ConfigError([f"log.gates=true cannot watch {config.model.name}: {error}"]) from error
