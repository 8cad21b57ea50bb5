"""The state of a run at its beginning: model, optimizer, averaged weights."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import nn

from hornet_train.config.schema import Config
from hornet_train.data.order import Plan
from hornet_train.data.stream_plan import StreamPlan
from hornet_train.engine.calendar import Calendar
from hornet_train.engine.distributed import World
from hornet_train.engine.precision import loss_scaler
from hornet_train.engine.state import TrainState
from hornet_train.errors import ConfigError
from hornet_train.models.structure import layer_ids, no_weight_decay, stage_ids
from hornet_train.optim.ema import AveragedModel
from hornet_train.optim.groups import parameter_groups
from hornet_train.optim.optimizers import adamw
from hornet_train.run.sharded_models import spread_over_ranks

_DEPTH = 12  # of layer decay by stages, as published for all but the smallest model


def initial_state(model: nn.Module, config: Config, plan: Plan, world: World) -> TrainState:
    """What a run of this config starts from; with dist=fsdp the model is sharded here.

    Raises:
        ConfigError: the optimizer cannot have what it is asked for.
    """
    twin = deepcopy(model) if config.ema.enabled else None
    if config.dist.strategy == "fsdp":
        for sharded in filter(None, (model, twin)):
            spread_over_ranks(sharded, config.model.name, config.precision)
    average = None
    if twin is not None:
        average = AveragedModel(model, decay=config.ema.decay, warmup=config.ema.warmup, twin=twin)
    return TrainState(
        model=model,
        optimizer=_optimizer(model, config),
        scaler=loss_scaler(config.precision, world.device),
        average=average,
        calendar=Calendar(
            plan.samples,
            config.batch_size,
            plan.steps_per_epoch,
            whole=isinstance(plan, StreamPlan),
            fits=lambda place, seen: plan.micro_batch_size == 1 or plan.smallest_micro_batch(place, seen) > 1,
        ),
    )


def _optimizer(model: nn.Module, config: Config) -> torch.optim.Optimizer:
    given = config.optim
    try:
        ids, full = None, None
        if given.layer_decay is not None and given.layer_decay_by == "stages":
            ids = stage_ids(model, given.layer_decay_depth or _DEPTH)
        elif given.layer_decay is not None:
            ids = layer_ids(model, given.layer_decay_depth)
            full = given.layer_decay_depth and given.layer_decay_depth + 1
    except ValueError as error:
        raise ConfigError([f"optim.layer_decay: {error}; set it to null"]) from error
    groups = parameter_groups(
        model.named_parameters(),
        weight_decay=given.weight_decay,
        exempt=no_weight_decay(model),
        layer_decay=given.layer_decay,
        layer_ids=ids,
        full=full,
    )
    return adamw(groups, betas=given.betas, eps=given.eps, implementation=given.implementation)
