"""From a training config to a Trainer that stands where the run stands."""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hornet_train.config.compose import to_yaml
from hornet_train.config.duration import Duration
from hornet_train.config.schema import Config, CosineSchedule, PolySchedule
from hornet_train.config.stored import HEADER, header_text
from hornet_train.config.validate import accumulation
from hornet_train.data.loader import LoaderSettings, TrainData
from hornet_train.data.order import Plan
from hornet_train.data.streaming import StreamPlan
from hornet_train.engine.checkpoint import Checkpoint, CheckpointStore, read_checkpoint
from hornet_train.engine.distributed import World
from hornet_train.engine.fault_history import FaultHistory
from hornet_train.engine.guard import GuardSettings
from hornet_train.engine.precision import loss_scaler
from hornet_train.engine.recovery import InitialWeights, fall_back_to_saved_best
from hornet_train.engine.sharding import is_sharded, shard
from hornet_train.engine.state import TrainState
from hornet_train.engine.trainer import Settings, Trainer
from hornet_train.errors import ConfigError, DataError
from hornet_train.models import structure
from hornet_train.models.complexity import Complexity
from hornet_train.models.monitor import GateMonitor
from hornet_train.optim import schedules
from hornet_train.optim.ema import AveragedModel
from hornet_train.optim.groups import parameter_groups
from hornet_train.optim.optimizers import adamw
from hornet_train.run.data import (
    Sources,
    build_sources,
    build_task,
    check_classes,
    images_changed,
    samples_of,
)
from hornet_train.run.facts import facts, filter_notes, measured
from hornet_train.run.loading import eval_data, train_data, train_transform
from hornet_train.run.micro_batches import check_micro_batches
from hornet_train.run.process import keep_compiled_code
from hornet_train.run.weights import identity_of, start_from
from hornet_train.tasks.classification.schema import ClassificationConfig
from hornet_train.tasks.classification.task import Classification


@dataclass(frozen=True)
class Run:
    """A training run, ready for `trainer.fit()`.

    Attributes:
        facts: what the start panel says.
        notes: what was done beyond what the config says, one sentence each.
        resumed_from: the step it goes on from; None for a new run.
        images: the identity of those that it is trained and evaluated on.
    """

    trainer: Trainer
    facts: dict[str, str | list[str]]
    notes: list[str]
    resumed_from: int | None
    images: Mapping[str, Any]


def build_run(config: ClassificationConfig, tree: Mapping[str, Any], *, world: World, folder: Path) -> Run:
    """Build everything and take over the newest checkpoint, if any. Sinks are added by the caller.

    Raises:
        UserError: the data, the model or a checkpoint does not fit, on any rank; nothing was written.
    """
    store = CheckpointStore(folder / "checkpoints", keep=config.checkpoint.keep)
    place, passed_over = (
        (None, []) if config.resume == "restart" else world.on_main(store.newest)  # one for all ranks
    )
    parts = world.on_all_ranks(lambda: _build_parts(config, world, place))
    if not world.same_on_all_ranks((parts.state.step, parts.sources.identity())):
        raise DataError("the processes see other images than each other: data.root must be the same for all")
    fall_back_to_saved_best(parts.state, store, world)
    store.texts = {"config.yaml": to_yaml(tree), "data.json": json.dumps(parts.sources.identity())}
    store.metadata |= {HEADER: header_text(tree, parts.sources.classes)}
    monitor = _gate_monitor(parts.state.model, config) if config.log.gates else None
    if config.compile:
        keep_compiled_code()
    network = torch.compile(parts.state.model) if config.compile else parts.state.model
    assert isinstance(network, nn.Module)

    loading = LoaderSettings(world.device, config.data.workers, config.data.prefetch)
    val = parts.sources.val
    trainer = Trainer(
        task=parts.task,
        state=parts.state,
        network=network
        if is_sharded(parts.state.model)
        else world.wrap(network, find_unused_parameters=config.dist.find_unused_parameters),
        plan=parts.plan,
        train_data=parts.train_data,
        eval_data=eval_data(val, config.data, loading) if val is not None else None,
        schedule=parts.schedule,
        settings=parts.settings,
        store=store,
        world=world,
        initial_weights=parts.initial,
        monitor=monitor,
    )
    notes = [*(f"checkpoint skipped: {reason}" for reason in passed_over), *parts.notes]
    resumed_from = None if place is None else parts.state.step
    told = facts(config, parts.sources, trainer, folder, parts.cost)
    return Run(trainer, told, notes, resumed_from, parts.sources.identity())


@dataclass(frozen=True)
class _Parts:
    """What each rank builds on its own, without a word to the others."""

    sources: Sources
    task: Classification
    plan: Plan
    settings: Settings
    schedule: schedules.Schedule
    train_data: TrainData
    state: TrainState
    initial: InitialWeights
    cost: Complexity
    notes: list[str]


def _build_parts(config: ClassificationConfig, world: World, place: Path | None) -> _Parts:
    """Data, task, plan and state, the latter from the checkpoint at `place` where there is one."""
    sources = build_sources(config.data)
    assert sources.train is not None
    check_classes(sources)
    task = build_task(config.model, config.data, len(sources.classes), config)
    micro, _ = accumulation(config.batch_size, config.micro_batch_size, world.size)
    samples = samples_of(sources.train)
    if config.batch_size > samples:
        raise ConfigError(
            [f"batch_size={config.batch_size} is larger than the data set of {samples} training images"]
        )
    plan, opening = train_data(sources.train, config, world, micro)
    if isinstance(plan, StreamPlan):
        sources = replace(sources, dealt=plan.dealt)
    settings, schedule = _resolve(config, plan, micro)
    grow = config.augment.grow_until.steps(
        steps_per_epoch=plan.steps_per_epoch, total_steps=settings.total_steps
    )
    transform = train_transform(config.data, config.augment, grow / plan.steps_per_epoch)

    def begun(*, anew: bool = True) -> tuple[nn.Module, list[str]]:
        torch.manual_seed(config.seed)
        model = task.build_model()
        if config.init_from is None or not anew:
            return model, []
        return model, start_from(model, config.init_from, config.init_map)

    model, loaded = begun(anew=place is None)
    model = model.to(world.device)
    cost = measured(model, config.model.name, config.data.image_size)
    smallest = config.data.image_size
    if transform.growth is not None:
        smallest = transform.growth(0)
        measured(model, config.model.name, smallest, "augment.start_size")
    check_micro_batches(
        *(model, config, plan),
        image_size=smallest,
        total_steps=settings.total_steps,
        processes=world.size,
    )
    notes = [*filter_notes(model, config.data.image_size), *loaded]
    state = _state(model, config, world)
    if place is not None:
        notes += _take_over(state, read_checkpoint(place), sources, forced=config.resume == "force")
        if config.init_from is not None:
            notes.append(f"init_from={config.init_from} is not read: the run goes on from its own weights")
    initial = lambda: begun()[0].state_dict()  # noqa: E731
    return _Parts(sources, task, plan, settings, schedule, opening(transform), state, initial, cost, notes)


def _state(model: nn.Module, config: Config, world: World) -> TrainState:
    """A run's state at its beginning; with dist=fsdp the model is sharded here."""
    twin = deepcopy(model) if config.ema.enabled else None
    if config.dist.strategy == "fsdp":
        for sharded in filter(None, (model, twin)):
            shard(sharded, structure.blocks_of(sharded), config.precision)
    return TrainState(
        model=model,
        optimizer=_optimizer(model, config),
        scaler=loss_scaler(config.precision, world.device),
        average=AveragedModel(model, decay=config.ema.decay, warmup=config.ema.warmup, twin=twin)
        if twin is not None
        else None,
    )


def _take_over(state: TrainState, saved: Checkpoint, sources: Sources, *, forced: bool) -> list[str]:
    """Restore a checkpoint that was trained on these images.

    Raises:
        CheckpointError: it is for another model.
        DataError: the images are not those it was trained on, and `forced` is not set.
    """
    notes = []
    changed = images_changed(identity_of(saved), sources.identity())
    if changed:
        told = "; ".join(f"{name}: {change}" for name, change in changed.items())
        if not forced and [*changed] == ["dealt"]:
            raise DataError(
                f"{saved.folder} read shards that were dealt out otherwise ({told}): go on with the same "
                "numbers (torchrun --nproc_per_node, data.workers, micro_batch_size), or all the same with "
                "resume=force; then some images come twice in this epoch, and some not at all"
            )
        if not forced:
            raise DataError(
                f"{saved.folder} was trained on other images than the data group names now ({told}): "
                "bring them back, or go on all the same with resume=force"
            )
        notes.append(f"going on with other images ({told})")
    state.restore(saved.tensors, saved.numbers)
    if forced and state.fault_history.rollbacks:
        notes.append(
            f"{state.fault_history.rollbacks} returns to a checkpoint are forgotten, and what they left out "
            "and did to the learning rate"
        )
        state.fault_history = FaultHistory()
    return [*notes, f"going on from {saved.folder}"]


def _resolve(config: Config, plan: Plan, micro: int) -> tuple[Settings, schedules.Schedule]:
    """Durations to steps, now that the data are known."""
    per_epoch = plan.steps_per_epoch
    total = config.epochs.steps(steps_per_epoch=per_epoch)

    def steps(length: Duration) -> int:
        return length.steps(steps_per_epoch=per_epoch, total_steps=total)

    faults = [
        f"{key}={length} is less than a step"
        for key, length in (
            ("epochs", config.epochs),
            ("log.every", config.log.every),
            ("eval.every", config.eval.every),
            ("checkpoint.every", config.checkpoint.every),
            ("guard.window", config.guard.window),
        )
        if steps(length) < 1
    ]
    given, warmup = config.schedule, steps(config.schedule.warmup)
    if warmup > total:
        faults.append(
            f"schedule.warmup={given.warmup} ({warmup} steps) is longer than the run ({total} steps)"
        )
    if faults:
        raise ConfigError(faults)
    peak = config.optim.lr
    if isinstance(given, CosineSchedule):
        schedule = schedules.cosine(peak=peak, total=total, warmup=warmup, floor=given.min_lr)
    elif isinstance(given, PolySchedule):
        schedule = schedules.poly(
            peak=peak, total=total, warmup=warmup, floor=given.min_lr, power=given.power
        )
    else:
        milestones = tuple(steps(milestone) for milestone in given.milestones)
        schedule = schedules.multistep(
            peak=peak, total=total, warmup=warmup, milestones=milestones, gamma=given.gamma
        )
    settings = Settings(
        seed=config.seed,
        total_steps=total,
        log_every=steps(config.log.every),
        eval_every=steps(config.eval.every),
        checkpoint_every=steps(config.checkpoint.every),
        eval_batch_size=config.eval.batch_size or micro,
        precision=config.precision,
        clip_grad=config.optim.clip_grad,
        max_bad=config.data.max_bad,
        guard=GuardSettings(
            max_skips=config.guard.max_skips,
            spike=config.guard.spike,
            window=steps(config.guard.window),
            backoff=config.guard.backoff,
            max_rollbacks=config.guard.max_rollbacks,
            dump=config.guard.dump,
        ),
    )
    return settings, schedule


def _optimizer(model: nn.Module, config: Config) -> torch.optim.Optimizer:
    given = config.optim
    groups = parameter_groups(
        model.named_parameters(),
        weight_decay=given.weight_decay,
        exempt=structure.no_weight_decay(model),
        layer_decay=given.layer_decay,
        layer_ids=_layer_ids(model) if given.layer_decay is not None else None,
    )
    return adamw(groups, betas=given.betas, eps=given.eps, implementation=given.implementation)


def _gate_monitor(model: nn.Module, config: Config) -> GateMonitor:
    """Raises ConfigError where there are no gating products to watch."""
    try:
        return structure.gate_monitor(model)
    except ValueError as error:
        raise ConfigError([f"log.gates=true cannot watch {config.model.name}: {error}"]) from error


def _layer_ids(model: nn.Module) -> dict[str, int]:
    """Raises ConfigError where the model has no order of layers."""
    try:
        return structure.layer_ids(model)
    except ValueError as error:
        raise ConfigError([f"optim.layer_decay: {error}; set it to null"]) from error
