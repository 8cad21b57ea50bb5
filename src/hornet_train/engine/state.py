"""The state of a run, as named tensors and plain numbers, so that a checkpoint is data and no code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer

from hornet_train.engine.calendar import Calendar, calendar_of, is_calendar
from hornet_train.engine.fault_history import FaultHistory, is_fault_history
from hornet_train.engine.sharding import full_tensor, is_sharded, shard_like
from hornet_train.engine.unlogged import Unlogged, is_count, is_number, is_unlogged
from hornet_train.errors import CheckpointError
from hornet_train.optim.ema import AveragedModel

TensorGroups = dict[str, dict[str, Tensor]]


@dataclass(frozen=True)
class Best:
    """The best evaluation so far.

    Attributes:
        weights: "model" or "ema".
        metric, value: of the task's headline metric.
    """

    step: int
    weights: str
    metric: str
    value: float


@dataclass
class TrainState:
    """Everything that a run must remember. There is no state of a random generator and no position of a data
    loader: both are functions of the step. Tensors of a sharded model are sharded here, and complete in a
    checkpoint.

    Attributes:
        average: the averaged weights; None without averaging.
        evaluated: the step of the newest evaluation.
        best: the best evaluation so far whose checkpoint is on the disk or is about to be written.
        previous_bests: the best evaluations before it, oldest first, since this process started; not saved.
        scheduled: the step of the newest scheduled checkpoint. A checkpoint of a later step was written only
            because the run was asked to stop; a run never goes back to such a one (see `CheckpointStore`).
        bad_samples: indices of the training samples that were found damaged and are in an event.
        calendar: where the steps lie in the epochs.
        fault_history: which steps went wrong; "record" in a checkpoint.
        unlogged: sums for the next `train` event over the steps so far; brought up to date by a save.
    """

    model: nn.Module
    optimizer: Optimizer
    scaler: GradScaler
    average: AveragedModel | None
    calendar: Calendar
    step: int = 0
    evaluated: int = 0
    best: Best | None = None
    previous_bests: list[Best] = field(default_factory=list)
    scheduled: int = 0
    bad_samples: set[int] = field(default_factory=set)
    fault_history: FaultHistory = field(default_factory=FaultHistory)
    unlogged: Unlogged = field(default_factory=Unlogged)

    def tensors(self) -> TensorGroups:
        """Groups `model`, `ema` (with averaging) and `optimizer`; the latter's tensors are named
        `<parameter>/<slot>`.

        They are in the same order on every rank, since sharded ones are gathered one after the other. A
        safetensors file that is read gives its tensors in another order in each process, hence slots are
        sorted.
        """
        groups: TensorGroups = {"model": dict(self.model.state_dict())}
        if self.average is not None:
            groups["ema"] = dict(self.average.module.state_dict())
        groups["optimizer"] = {
            f"{name}/{slot}": value
            for name, parameter in self.model.named_parameters()
            for slot, value in sorted(self.optimizer.state.get(parameter, {}).items())
        }
        return groups

    def join_gather(self) -> None:
        """Take part, on the other ranks, in the collectives by which rank 0 copies sharded tensors."""
        if is_sharded(self.model):
            for named in self.tensors().values():
                for tensor in named.values():
                    full_tensor(tensor)

    def numbers(self) -> dict[str, Any]:
        """The content of `state.json`: everything but tensors."""
        return {
            "step": self.step,
            "evaluated": self.evaluated,
            "best": asdict(self.best) if self.best else None,
            "scheduled": self.scheduled,
            "loss_scaler": self.scaler.state_dict(),
            "bad_samples": sorted(self.bad_samples),
            "record": asdict(self.fault_history),
            "unlogged": asdict(self.unlogged),
            "calendar": self.calendar.to_json(),
        }

    def restore(self, tensors: TensorGroups, numbers: Mapping[str, Any]) -> None:
        """Continue from a checkpoint.

        Raises:
            CheckpointError: it was written for another model or another kind of run.
        """
        if missing := [name for name in ("evaluated", "best", "loss_scaler") if name not in numbers]:
            raise CheckpointError(
                f"the checkpoint lacks {', '.join(missing)}: it was not written by a training run"
            )
        load_strictly(self.model, tensors["model"], what="model")
        if self.average is not None:
            if "ema" not in tensors:
                raise CheckpointError("the checkpoint has no averaged weights: continue with ema=none")
            load_strictly(self.average.module, tensors["ema"], what="ema")
        self._restore_optimizer(tensors["optimizer"])
        if numbers["loss_scaler"]:
            try:
                self.scaler.load_state_dict(numbers["loss_scaler"])
            except (KeyError, RuntimeError, TypeError) as error:
                raise CheckpointError(f"the checkpoint's loss_scaler is not valid ({error})") from error
        self.step = int(numbers["step"])
        if (before := calendar_of(numbers)) is not None:
            self.calendar = self.calendar.going_on(before, self.step)
        self.evaluated = int(numbers["evaluated"])
        self.best = Best(**numbers["best"]) if numbers["best"] else None
        self.previous_bests = []
        # checkpoints of older versions lack the following
        self.scheduled = self.step if is_scheduled(numbers) else int(numbers["scheduled"])
        self.bad_samples = set(numbers.get("bad_samples", ()))
        self.fault_history = FaultHistory.from_json(numbers.get("record") or {})
        self.unlogged = Unlogged.from_json(numbers.get("unlogged", {}))

    def restart(self, tensors: Mapping[str, Tensor]) -> None:
        """Go back to the start of the run, with its initial weights."""
        load_strictly(self.model, tensors, what="model")
        if self.average is not None:
            load_strictly(self.average.module, tensors, what="ema")
        self.optimizer.state.clear()
        self.step = self.evaluated = self.scheduled = 0
        self.calendar = replace(self.calendar, shift=0, begin=0, seen=0)
        self.best, self.previous_bests = None, []
        self.fault_history, self.unlogged = FaultHistory(), Unlogged()

    def _restore_optimizer(self, saved: Mapping[str, Tensor]) -> None:
        parameters = dict(self.model.named_parameters())
        slots: dict[str, set[str]] = {}
        for key in saved:
            name, _, slot = key.rpartition("/")
            slots.setdefault(name, set()).add(slot)
        every = set().union(*slots.values())
        if partial := [name for name, has in slots.items() if has != every]:
            raise CheckpointError(f"the checkpoint's optimizer state of {partial[0]!r} is incomplete")
        self.optimizer.state.clear()
        for key, value in saved.items():
            name, _, slot = key.rpartition("/")
            if name not in parameters:
                raise CheckpointError(
                    f"the checkpoint has optimizer state of {name!r}, which the model lacks"
                )
            parameter = parameters[name]
            if value.shape != (torch.Size() if slot == "step" else parameter.shape):
                raise CheckpointError(
                    f"the checkpoint's optimizer state {key!r} is {tuple(value.shape)}, its parameter "
                    f"{tuple(parameter.shape)}"
                )
            if slot != "step":  # a moment: with the memory format of its parameter
                value = torch.empty_like(parameter, dtype=value.dtype).copy_(shard_like(value, parameter))
            elif self.optimizer.param_groups[0].get("fused"):  # a fused optimizer counts on the device
                value = value.to(parameter.device)
            self.optimizer.state[parameter][slot] = value


def is_scheduled(numbers: Mapping[str, Any]) -> bool:
    """Whether a checkpoint was scheduled, rather than written only because the run was asked to stop.
    Checkpoints of older versions do not say and count as scheduled."""
    return bool(numbers.get("scheduled", numbers["step"]) == numbers["step"])


_SCALER = {"scale", "growth_factor", "backoff_factor", "growth_interval", "_growth_tracker"}


def check_numbers(numbers: object) -> dict[str, Any]:
    """Check the content of a `state.json`, which is untrusted, and return it.

    Raises:
        ValueError: a value is missing or is not what `TrainState.numbers` gives.
    """

    if not isinstance(numbers, dict):
        raise ValueError("it holds no mapping")
    best, scaler = numbers.get("best"), numbers.get("loss_scaler")
    # checkpoints of older versions lack these
    bad, record = numbers.get("bad_samples", []), numbers.get("record")
    step, scheduled = numbers.get("step"), numbers.get("scheduled", 0)
    valid = {
        "step": is_count(step),
        "evaluated": is_count(numbers.get("evaluated")),
        "best": ("best" in numbers and best is None)
        or (
            isinstance(best, dict)
            and best.keys() == {"step", "weights", "metric", "value"}
            and is_count(best["step"])
            and is_number(best["value"])
            and isinstance(best["weights"], str)
            and isinstance(best["metric"], str)
        ),
        "loss_scaler": isinstance(scaler, dict)
        and (not scaler or scaler.keys() == _SCALER)
        and all(map(is_number, scaler.values())),
        "bad_samples": isinstance(bad, list) and all(map(is_count, bad)),
        "record": record is None or is_fault_history(record),
        "scheduled": is_count(scheduled) and is_count(step) and scheduled <= step,
        "calendar": "calendar" not in numbers or is_calendar(numbers["calendar"]),
        "unlogged": "unlogged" not in numbers or is_unlogged(numbers["unlogged"]),
    }
    if wrong := [name for name, is_valid in valid.items() if not is_valid]:
        raise ValueError(f"{', '.join(wrong)}: missing, or not a value that a run stores there")
    return numbers


def load_strictly(model: nn.Module, saved: Mapping[str, Tensor], *, what: str) -> None:
    """Copy tensors into a model that must have exactly these names and shapes.

    Raises:
        CheckpointError: names the first keys that differ.
    """
    expected = model.state_dict()
    differences = [
        *(f"{name} is missing" for name in expected if name not in saved),
        *(f"{name} is not in the model" for name in saved if name not in expected),
        *(
            f"{name} is {tuple(saved[name].shape)}, in the model {tuple(value.shape)}"
            for name, value in expected.items()
            if name in saved and saved[name].shape != value.shape
        ),
    ]
    if differences:
        more = len(differences) - 4
        shown = "; ".join(differences[:4]) + (f"; and {more} more" if more > 0 else "")
        raise CheckpointError(f"the checkpoint's {what} weights are for another model: {shown}")
    with torch.no_grad():
        for name, value in expected.items():
            value.copy_(shard_like(saved[name], value))
