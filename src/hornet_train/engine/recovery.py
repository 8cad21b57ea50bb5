"""Going back to a checkpoint after steps that went wrong, and describing those steps for events."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from hornet_train.data.batch import stacked
from hornet_train.engine.checkpoint import CheckpointStore, read_checkpoint
from hornet_train.engine.distributed import World
from hornet_train.engine.dump import StepNumbers, micro_batches_to_dump, write_dump
from hornet_train.engine.guard import BadStep, Guard, norm_by_stage
from hornet_train.engine.precision import PrecisionName, loss_scaler
from hornet_train.engine.sharding import full_tensor
from hornet_train.engine.state import Best, TrainState
from hornet_train.errors import CheckpointError, DivergenceError

_log = logging.getLogger("hornet_train")

InitialWeights = Callable[[], dict[str, Tensor]]


@dataclass
class Recovery:
    """Takes a run that went wrong back to its last good checkpoint.

    Attributes:
        initial_weights: makes the model's initial weights again, for a run that fails before its first
            checkpoint.
    """

    state: TrainState
    guard: Guard
    store: CheckpointStore
    world: World
    seed: int
    precision: PrecisionName
    initial_weights: InitialWeights

    def describe(self, bad: BadStep) -> dict[str, Any]:
        """The values of a `skipped_step` event; with guard.dump the micro-batches are written to a file, too.
        Every rank calls this.

        Returns:
            `reason`, `loss` (mean over the step's images), `grad_norm` and `norms` of it by stage, `ranks`
            whose loss was not finite, and `samples`: the data-set indices of the micro-batches with such a
            loss, or of the whole step if all losses were finite; None if batches have no indices.
        """
        result = bad.finished.result
        not_finite = (~result.micro_losses.isfinite()).tolist()
        indices = [
            stacked(batch, "index").tolist() if "index" in batch else None for batch in bad.finished.batches
        ]
        of_all_ranks = self.world.gather((not_finite, indices))
        ranks = [rank for rank, (flags, _) in enumerate(of_all_ranks) if any(flags)]
        if self.guard.settings.dump and bad.kind in ("loss", "gradient"):
            self._dump(bad, micro_batches_to_dump(not_finite, anywhere=bool(ranks)), indices)
        chosen = [
            found
            for flags, batches in of_all_ranks
            for flag, found in zip(flags, batches, strict=True)
            if flag or not ranks
        ]
        norms = dict(zip(result.names, result.norms.tolist(), strict=True))
        return {
            "reason": self._reason(bad),
            "loss": bad.loss,
            "grad_norm": bad.norm,
            "norms": norm_by_stage(norms),
            "ranks": ranks,
            "samples": None if None in chosen else [index for found in chosen for index in found or ()],
        }

    def _dump(self, bad: BadStep, micros: list[int], indices: list[list[int] | None]) -> None:
        finished, world = bad.finished, self.world
        model = {name: full_tensor(value) for name, value in self.state.model.state_dict().items()}
        if not micros:
            return
        numbers = StepNumbers(
            step=finished.step,
            step_size=finished.images,
            rank=world.rank,
            world_size=world.size,
            seed=self.seed,
            precision=self.precision,
            micros=micros,
            sizes=[finished.sizes[micro] for micro in micros],
            samples=[indices[micro] for micro in micros],
        )
        batches = [finished.batches[micro] for micro in micros]
        folder = self.store.folder.parent / "dumps"
        texts = {**self.store.metadata, **self.store.texts}
        if path := write_dump(folder, numbers, model, batches, texts):
            _log.warning("step %s is dumped to %s", f"{finished.step + 1:,}", path)

    def _reason(self, bad: BadStep) -> str:
        if bad.kind == "overflow":
            return f"the gradient overflows fp16, loss scale now {self.state.scaler.get_scale():g}"
        if bad.kind == "spike":
            mean = self.state.fault_history.mean
            return f"the loss is over {self.guard.settings.spike:g} times its mean, {mean:.4g}"
        return f"the {bad.kind} is not finite"

    def go_back(self, bad: BadStep, described: dict[str, Any]) -> dict[str, Any]:
        """Restore the last good checkpoint, and leave out the steps that led to the failure.

        Args:
            described: what `describe` gave of the bad step.

        Returns:
            The values of the `rollback` event. Its steps are counted from 1, as in all events.

        Raises:
            DivergenceError: the run went back too often already.
            CheckpointError: the checkpoint that was chosen is gone.
        """
        settings, history, world = self.guard.settings, self.state.fault_history, self.world
        last = bad.finished.step
        first = history.since if bad.skipped else last
        if history.rollbacks >= settings.max_rollbacks:
            raise DivergenceError(self._diagnosis(first + 1, last + 1, described))
        world.watchdog.report(self.state.step, "looking for a checkpoint to go back to")
        target = world.on_main(lambda: self.store.rollback_target(first, avoid=history.targets))
        step, folder = target or (0, None)
        bad_samples = self.state.bad_samples
        world.watchdog.report(self.state.step, "going back")
        world.on_all_ranks(lambda: self._restore(folder))
        self.state.bad_samples |= bad_samples  # found damaged since that checkpoint
        world.on_main(lambda: self.store.remove_after(-1 if target is None else step))
        lost = fall_back_to_saved_best(self.state, self.store, world)
        left_out = (max(step, last + 1 - settings.window), last + 1)
        rate = history.rate * (settings.backoff or 1.0)
        self.state.fault_history = replace(
            self.state.fault_history,
            streak=0,
            overflows=0,
            rollbacks=history.rollbacks + 1,
            targets=[*history.targets, step],
            left_out=sorted({*history.left_out, left_out}),
            rate=rate,
        )
        self.guard.reset(self.state.fault_history)
        return {
            "failed_at": last + 1,
            "reason": described["reason"],
            "norms": described["norms"],
            "left_out": [left_out[0] + 1, left_out[1]],
            "learning_rate_factor": rate,
            "count": history.rollbacks + 1,
            **lost,
        }

    def _restore(self, folder: Path | None) -> None:
        """Restore a checkpoint; for None the start of the run."""
        self.state.scaler = loss_scaler(self.precision, self.world.device)  # a checkpoint may have none
        if folder is None:
            self.state.restart(self.initial_weights())
            return
        saved = read_checkpoint(folder)
        self.state.restore(saved.tensors, saved.numbers)

    def _diagnosis(self, first: int, last: int, described: dict[str, Any]) -> str:
        settings, history = self.guard.settings, self.state.fault_history
        steps = f"step {last:,}" if first == last else f"steps {first:,} to {last:,}"
        norms = ", ".join(f"{stage} {norm:.3g}" for stage, norm in described["norms"].items())
        targets = ", ".join(f"{step:,}" for step in history.targets)
        samples = described["samples"]
        which = (
            ""
            if not samples
            else f"\n  samples: {', '.join(map(str, samples[:12]))}"
            + (f" and {len(samples) - 12:,} more" if len(samples) > 12 else "")
        )
        return (
            f"the training diverges: {described['reason']} in {steps}"
            + (f", after going back to step {targets}" if targets else "")
            + f" (guard.max_rollbacks={settings.max_rollbacks})\n"
            f"  gradient norm by stage in step {last:,}: {norms}{which}\n"
            f"  mean loss before: {history.mean:.4g}; learning rate factor: {history.rate:g}\n"
            "  try a lower optim.lr, guard.backoff=0.5, optim.clip_grad=1, precision=bf16 or fp32, and "
            "guard.dump=true to look at such a step with hornet-train replay=<file>"
        )


def fall_back_to_saved_best(state: TrainState, store: CheckpointStore, world: World) -> dict[str, int]:
    """If the checkpoint of the best evaluation does not exist, fall back to the best one whose does; with
    none the next evaluation becomes the best. Every rank calls this.

    It does not exist if the disk refused it, or if a later best replaced it before the run went back. The
    checkpoint of the present step counts as existing: it does, or is about to be written.

    Returns:
        For the event that reports it: `lost_best`, the step of the best that has no checkpoint, and `best`,
        that of the best now, if any; nothing where the best stays.
    """
    best = state.best
    if best is None or best.step == state.step:
        return {}

    def saved_best() -> Best | None:
        try:
            candidates = [best, *reversed(state.previous_bests)]
            return next((one for one in candidates if store.has(one.step)), None)
        except CheckpointError:  # the folder cannot be listed at the moment: the next save tries again
            return best

    state.best = world.on_main(saved_best)
    if state.best == best:
        return {}
    return {"lost_best": best.step, **({"best": state.best.step} if state.best else {})}
