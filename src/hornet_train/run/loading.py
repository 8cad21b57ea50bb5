"""From sources to what a run and an evaluation read: transforms, plans, loaders."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from hornet_train.data.loader import EvalData, EvalLoader, LoaderSettings, TrainData, TrainLoader
from hornet_train.data.order import EpochPlan, Plan
from hornet_train.data.streaming import StreamEvalLoader, StreamPlan, StreamTrainLoader
from hornet_train.engine.distributed import World
from hornet_train.errors import ConfigError
from hornet_train.images.policies import ColorJitter, Policy, RandomBlur, RandomGreyscale, parse_policy
from hornet_train.tasks.classification.samples import EvalSamples, TrainSamples
from hornet_train.tasks.classification.schema import Augment, ClassificationConfig, Data, HubData
from hornet_train.tasks.classification.sources import LabelledImages, LabelledShards
from hornet_train.tasks.classification.transforms import EvalTransform, Growth, TrainTransform

Opening = Callable[[TrainTransform], TrainData]


def train_transform(data: Data, augment: Augment, grow_epochs: float = 0.0) -> TrainTransform:
    """Raises ConfigError for a policy that is not in the grammar.

    `grow_epochs`: the epochs of `augment.grow_until`.
    """
    growth = None
    if augment.start_size is not None and grow_epochs:
        growth = Growth(augment.start_size, data.image_size, grow_epochs, augment.size_step)
    return TrainTransform(
        image_size=data.image_size,
        scale=augment.scale,
        ratio=augment.ratio,
        hflip=augment.hflip,
        interpolation=data.interpolation,
        policies=tuple(_policies(data, augment)),
        erase_prob=augment.erase,
        growth=growth,
    )


def _policies(data: Data, augment: Augment) -> Iterator[Policy]:
    """Those that are on, in timm's order: the policy, then colour jitter, greyscale and blur."""
    if augment.policy is not None:
        red, green, blue = (round(255 * value) for value in data.mean)
        try:
            yield parse_policy(augment.policy, (red, green, blue), data.interpolation)
        except ValueError as error:
            raise ConfigError([f"augment.policy={augment.policy}: {error}"]) from error
    if augment.color_jitter is not None:
        yield ColorJitter(*augment.color_jitter, prob=augment.color_jitter_prob)
    if augment.grayscale:
        yield RandomGreyscale(augment.grayscale)
    if augment.blur:
        yield RandomBlur(augment.blur)


def eval_data(source: LabelledImages | LabelledShards, data: Data, settings: LoaderSettings) -> EvalData:
    """What an evaluation reads."""
    samples = EvalSamples(EvalTransform(data.image_size, data.crop_pct, data.interpolation))
    if isinstance(source, LabelledShards):
        return StreamEvalLoader(source, samples, settings, on_bad=data.on_bad)
    return EvalLoader(source, samples, settings, on_bad=data.on_bad)


def train_data(
    source: LabelledImages | LabelledShards, config: ClassificationConfig, world: World, micro: int
) -> tuple[Plan, Opening]:
    """How a run's images make steps, and what gives their batches once the transform is known.

    Args:
        micro: images that a rank forwards at once.

    Raises:
        DataError: shards that cannot be dealt out evenly to the ranks and their workers.
    """
    settings = LoaderSettings(world.device, config.data.workers, config.data.prefetch)

    def samples(transform: TrainTransform) -> TrainSamples:
        if settings.workers:
            transform.warm_up()
        return TrainSamples(transform, config.seed)

    if isinstance(source, LabelledShards):
        assert isinstance(config.data, HubData)
        block = config.data.shuffle_buffer
        stream = StreamPlan(
            lengths=source.lengths,
            batch_size=config.batch_size,
            micro_batch_size=micro,
            rank=world.rank,
            world_size=world.size,
            workers=max(1, config.data.workers),
            seed=config.seed,
        )
        return stream, lambda transform: StreamTrainLoader(
            source, samples(transform), stream, settings, block=block
        )
    plan = EpochPlan(
        samples=len(source),
        batch_size=config.batch_size,
        micro_batch_size=micro,
        rank=world.rank,
        world_size=world.size,
        seed=config.seed,
        drop_last=config.data.drop_last,
        repeats=config.augment.repeats,
    )
    return plan, lambda transform: TrainLoader(source, samples(transform), plan, settings)
