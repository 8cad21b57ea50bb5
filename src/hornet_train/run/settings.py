"""The durations and options of a config as numbers of steps: the loop's settings and the schedule."""

from __future__ import annotations

from hornet_train.config.duration import Duration
from hornet_train.config.schema import Config, CosineSchedule, PolySchedule
from hornet_train.data.order import Plan
from hornet_train.engine.guard import GuardSettings
from hornet_train.engine.loop_settings import Settings
from hornet_train.errors import ConfigError
from hornet_train.optim import schedules


def resolve_settings(config: Config, plan: Plan, micro_batch_size: int) -> Settings:
    """The loop's settings, now that the length of an epoch is known.

    Raises:
        ConfigError: a duration is less than a step, or the warmup longer than the run.
    """
    steps = _StepCounter(config, plan)
    faults = [f"{key}={length} is less than a step" for key, length in steps.lengths if steps(length) < 1]
    warmup = config.schedule.warmup
    if steps(warmup) > steps.total:
        faults.append(
            f"schedule.warmup={warmup} ({steps(warmup)} steps) is longer than the run ({steps.total} steps); "
            "schedule.warmup=5% is shorter than any"
        )
    if faults:
        raise ConfigError(faults)
    return Settings(
        seed=config.seed,
        total_steps=steps.total,
        log_every=steps(config.log.every),
        eval_every=steps(config.eval.every),
        checkpoint_every=steps(config.checkpoint.every),
        eval_batch_size=config.eval.batch_size or micro_batch_size,
        precision=config.precision,
        clip_grad=config.optim.clip_grad,
        max_bad=config.data.max_bad,
        in_steps=config.epochs.unit == "it",
        guard=GuardSettings(
            max_skips=config.guard.max_skips,
            spike=config.guard.spike,
            window=steps(config.guard.window),
            backoff=config.guard.backoff,
            max_rollbacks=config.guard.max_rollbacks,
            dump=config.guard.dump,
        ),
    )


def resolve_schedule(config: Config, plan: Plan) -> schedules.Schedule:
    """The learning rate as a function of the step, of a config that `resolve_settings` took."""
    steps, given, peak = _StepCounter(config, plan), config.schedule, config.optim.lr
    total, warmup = steps.total, steps(given.warmup)
    if isinstance(given, CosineSchedule):
        return schedules.cosine(peak=peak, total=total, warmup=warmup, floor=given.min_lr)
    if isinstance(given, PolySchedule):
        return schedules.poly(peak=peak, total=total, warmup=warmup, floor=given.min_lr, power=given.power)
    milestones = tuple(steps(milestone) for milestone in given.milestones)
    return schedules.multistep(
        peak=peak, total=total, warmup=warmup, milestones=milestones, gamma=given.gamma
    )


class _StepCounter:
    """Turns the durations of a config into steps."""

    def __init__(self, config: Config, plan: Plan) -> None:
        self._per_epoch = plan.steps_per_epoch
        self.total = config.epochs.steps(steps_per_epoch=self._per_epoch)
        self.lengths = (  # those that have to be a step at least
            ("epochs", config.epochs),
            ("log.every", config.log.every),
            ("eval.every", config.eval.every),
            ("checkpoint.every", config.checkpoint.every),
            ("guard.window", config.guard.window),
        )

    def __call__(self, length: Duration) -> int:
        return length.steps(steps_per_epoch=self._per_epoch, total_steps=self.total)
