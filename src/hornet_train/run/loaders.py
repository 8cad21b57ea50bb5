"""The plans and loaders of a training and of an evaluation, from the stored samples."""

from __future__ import annotations

from typing import Any

import torch

from hornet_train.config.schema import Config, Data
from hornet_train.data.collate import OnBad
from hornet_train.data.loader import EvalData, EvalLoader, LoaderSettings, TrainData, TrainLoader
from hornet_train.data.order import EpochPlan, Plan
from hornet_train.data.sources.source import Shards, Source
from hornet_train.data.stream_plan import StreamPlan
from hornet_train.data.streaming import StreamEvalLoader, StreamTrainLoader
from hornet_train.data.worker import Samples
from hornet_train.engine.distributed import World
from hornet_train.errors import ConfigError
from hornet_train.run.follow_data import suitable_batch_size
from hornet_train.tasks.kit import Kit
from hornet_train.tasks.kit_types import Datasets, samples_of


def train_plan(
    kit: Kit[Any, Any], datasets: Datasets, config: Config, world: World, micro_batch_size: int
) -> Plan:
    """Which samples each step, rank and micro-batch of a run sees.

    Raises:
        ConfigError: a step takes more samples than there are.
        DataError: shards that cannot be dealt out evenly to the ranks and their workers.
    """
    source = datasets.train
    assert source is not None
    samples = samples_of(source)
    if config.batch_size > samples:
        raise ConfigError(
            [
                f"batch_size={config.batch_size} is larger than the data set of {samples} training images: "
                f"batch_size={suitable_batch_size(samples, config.batch_size, world.size)} suits it"
            ]
        )
    if isinstance(source, Shards):
        return StreamPlan(
            lengths=source.lengths,
            batch_size=config.batch_size,
            micro_batch_size=micro_batch_size,
            rank=world.rank,
            world_size=world.size,
            workers=max(1, config.data.workers),
            seed=config.seed,
        )
    return EpochPlan(
        samples=samples,
        batch_size=config.batch_size,
        micro_batch_size=micro_batch_size,
        rank=world.rank,
        world_size=world.size,
        seed=config.seed,
        drop_last=config.data.drop_last,
        repeats=kit.repeats(config),
        shapes=datasets.shapes,
    )


def train_loader(
    datasets: Datasets, samples: Samples, config: Config, plan: Plan, device: torch.device
) -> TrainData:
    """This rank's micro-batches of a run."""
    source, settings = datasets.train, loader_settings(config.data, device)
    assert source is not None
    if isinstance(source, Shards):
        assert isinstance(plan, StreamPlan)
        return StreamTrainLoader(source, samples, plan, settings, block=datasets.shuffle_block)
    assert isinstance(plan, EpochPlan)
    return TrainLoader(source, samples, plan, settings)


def eval_loader(
    source: Source | Shards, samples: Samples, data: Data, device: torch.device, *, on_bad: OnBad
) -> EvalData:
    """This rank's share of every held-out sample.

    `on_bad`: what is done with an unreadable one where the config leaves it open.
    """
    settings, on_bad = loader_settings(data, device), data.on_bad or on_bad
    if isinstance(source, Shards):
        return StreamEvalLoader(source, samples, settings, on_bad=on_bad)
    return EvalLoader(source, samples, settings, on_bad=on_bad)


def loader_settings(data: Data, device: torch.device) -> LoaderSettings:
    """How batches come about, by the data group."""
    return LoaderSettings(device, data.workers, data.prefetch)
