"""Going back: what a step that went wrong is told as, and the state that a run goes on from."""

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
from hornet_train.engine.dump import StepNumbers, kept_of, write_dump
from hornet_train.engine.guard import Fault, Guard, norm_by_stage
from hornet_train.engine.precision import PrecisionName, loss_scaler
from hornet_train.engine.sharding import full
from hornet_train.engine.state import Best, TrainState
from hornet_train.errors import CheckpointError, DivergenceError

_log = logging.getLogger("hornet_train")

Initial = Callable[[], dict[str, Tensor]]


@dataclass
class Recovery:
    """Puts a run that went wrong back to where it was good.

    Attributes:
        initial: makes the model's initial weights again, for a run that fails before its first checkpoint.
    """

    state: TrainState
    guard: Guard
    store: CheckpointStore
    world: World
    seed: int
    precision: PrecisionName
    initial: Initial

    def told(self, fault: Fault) -> dict[str, Any]:
        """What an event says of a fault; every rank asks.

        Returns:
            `reason`, `loss` (mean over the step's images), `grad_norm` and `norms` of it by stage, `ranks`
            whose loss was no number, and `samples`: the indices in the data set of the micro-batches with
            such a loss, or of the whole step where all losses were numbers; None where batches have none.
        """
        result = fault.passed.result
        bad = (~result.micro_losses.isfinite()).tolist()
        indices = [
            stacked(batch, "index").tolist() if "index" in batch else None for batch in fault.passed.batches
        ]
        everywhere = self.world.gather((bad, indices))
        ranks = [rank for rank, (flags, _) in enumerate(everywhere) if any(flags)]
        if self.guard.settings.dump and fault.kind in ("loss", "gradient"):
            self._dump(fault, kept_of(bad, bool(ranks)), indices)
        chosen = [
            found
            for flags, batches in everywhere
            for flag, found in zip(flags, batches, strict=True)
            if flag or not ranks
        ]
        norms = dict(zip(result.names, result.norms.tolist(), strict=True))
        return {
            "reason": self._reason(fault),
            "loss": fault.loss,
            "grad_norm": fault.norm,
            "norms": norm_by_stage(norms),
            "ranks": ranks,
            "samples": None if None in chosen else [index for found in chosen for index in found or ()],
        }

    def _dump(self, fault: Fault, micros: list[int], indices: list[list[int] | None]) -> None:
        passed, world = fault.passed, self.world
        model = {name: full(value) for name, value in self.state.model.state_dict().items()}
        if not micros:
            return
        numbers = StepNumbers(
            step=passed.step,
            step_size=passed.images,
            rank=world.rank,
            world_size=world.size,
            seed=self.seed,
            precision=self.precision,
            micros=micros,
            sizes=[passed.sizes[micro] for micro in micros],
            samples=[indices[micro] for micro in micros],
        )
        batches = [passed.batches[micro] for micro in micros]
        folder = self.store.folder.parent / "dumps"
        texts = {**self.store.metadata, **self.store.texts}
        if path := write_dump(folder, numbers, model, batches, texts):
            _log.warning("step %s is kept in %s", f"{passed.step + 1:,}", path)

    def _reason(self, fault: Fault) -> str:
        if fault.kind == "overflow":
            return f"the gradient overflows fp16, loss scale now {self.state.scaler.get_scale():g}"
        if fault.kind == "spike":
            return (
                f"the loss is over {self.guard.settings.spike:g} times its mean, {self.state.record.mean:.4g}"
            )
        return f"the {fault.kind} is not finite"

    def go_back(self, fault: Fault, told: dict[str, Any]) -> dict[str, Any]:
        """Take over the last good checkpoint, and leave out the steps that led to the fault.

        Returns:
            What the `rollback` event says; steps are counted as in events, the first being 1.

        Raises:
            DivergenceError: the run went back too often already.
            CheckpointError: the checkpoint that was chosen is gone.
        """
        settings, record, world = self.guard.settings, self.state.record, self.world
        last = fault.passed.step
        first = record.since if fault.skipped else last
        if record.rollbacks >= settings.max_rollbacks:
            raise DivergenceError(self._diagnosis(first + 1, last + 1, told))
        world.watch.at(self.state.step, "looking for a checkpoint to go back to")
        target = world.on_main(lambda: self.store.before(first, record.targets))
        step, folder = target or (0, None)
        damaged = self.state.bad_samples
        world.watch.at(self.state.step, "going back")
        world.together(lambda: self._take_over(folder))
        self.state.bad_samples |= damaged
        world.on_main(lambda: self.store.drop_after(-1 if target is None else step))
        forget_lost_best(self.state, self.store, world)
        out = (max(step, last + 1 - settings.window), last + 1)
        rate = record.rate * (settings.backoff or 1.0)
        self.state.record = replace(
            self.state.record,
            streak=0,
            overflows=0,
            rollbacks=record.rollbacks + 1,
            targets=[*record.targets, step],
            left_out=sorted({*record.left_out, out}),
            rate=rate,
        )
        self.guard.forget(self.state.record)
        return {
            "failed_at": last + 1,
            "reason": told["reason"],
            "norms": told["norms"],
            "left_out": [out[0] + 1, out[1]],
            "learning_rate_factor": rate,
            "count": record.rollbacks + 1,
        }

    def _take_over(self, folder: Path | None) -> None:
        self.state.scaler = loss_scaler(self.precision, self.world.device)  # a checkpoint may have none
        if folder is None:
            self.state.begin(self.initial())
            return
        saved = read_checkpoint(folder)
        self.state.restore(saved.tensors, saved.numbers)

    def _diagnosis(self, first: int, last: int, told: dict[str, Any]) -> str:
        settings, record = self.guard.settings, self.state.record
        steps = f"step {last:,}" if first == last else f"steps {first:,} to {last:,}"
        norms = ", ".join(f"{stage} {norm:.3g}" for stage, norm in told["norms"].items())
        back = ", ".join(f"{step:,}" for step in record.targets)
        samples = told["samples"]
        which = (
            ""
            if not samples
            else f"\n  samples: {', '.join(map(str, samples[:12]))}"
            + (f" and {len(samples) - 12:,} more" if len(samples) > 12 else "")
        )
        return (
            f"the training diverges: {told['reason']} in {steps}"
            + (f", after going back to step {back}" if back else "")
            + f" (guard.max_rollbacks={settings.max_rollbacks})\n"
            f"  gradient norm by stage in step {last:,}: {norms}{which}\n"
            f"  mean loss before: {record.mean:.4g}; learning rate factor: {record.rate:g}\n"
            "  try a lower optim.lr, guard.backoff=0.5, optim.clip_grad=1, precision=bf16 or fp32, and "
            "guard.dump=true to look at such a step with hornet-train replay=<file>"
        )


def forget_lost_best(state: TrainState, store: CheckpointStore, world: World) -> None:
    """Fall back to the best evaluation whose checkpoint is there, where that of the best is not: it was never
    written, or a later best took its place before the run went back. With none the next one is the best.

    Every rank asks. The checkpoint of the present step counts as there: it is, or is about to be written.
    """
    best = state.best
    if best is None or best.step == state.step:
        return

    def there() -> Best | None:
        try:
            return next((one for one in [best, *reversed(state.beaten)] if store.has(one.step)), None)
        except CheckpointError:  # the folder cannot be listed at the moment: asked again at the next save
            return best

    state.best = world.on_main(there)
