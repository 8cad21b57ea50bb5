"""Everything a run must remember: as named tensors and plain numbers, so that a checkpoint is data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer

from hornet_train.engine.sharding import full, is_sharded, spread_like
from hornet_train.engine.unlogged import Unlogged, is_count, is_number, is_unlogged
from hornet_train.errors import CheckpointError
from hornet_train.optim.ema import AveragedModel

TensorGroups = dict[str, dict[str, Tensor]]


@dataclass(frozen=True)
class Best:
    """The best evaluation so far: of which weights, at which step, the goal's value."""

    step: int
    weights: str
    metric: str
    value: float


@dataclass
class Record:
    """What is remembered of steps that went wrong.

    Attributes:
        streak: skipped steps since the last good one; overflows: those for which fp16 was too small, which
            the streak does not count; since: the first of all of them.
        mean: of the loss over the latest good steps; seen: how many there were.
        rollbacks: how often the run went back.
        targets: the steps it went back to.
        left_out: steps [first, last) that are not made, in rising order.
        rate: what the schedule's learning rate is multiplied by.
    """

    streak: int = 0
    overflows: int = 0
    since: int = 0
    mean: float = 0.0
    seen: int = 0
    rollbacks: int = 0
    targets: list[int] = field(default_factory=list)
    left_out: list[tuple[int, int]] = field(default_factory=list)
    rate: float = 1.0

    @classmethod
    def of(cls, saved: Mapping[str, Any]) -> Record:
        """From what `asdict` gave, by way of JSON; an older one lacks what was not kept then."""
        told = {**saved, "left_out": [(first, last) for first, last in saved.get("left_out", ())]}
        if "since" not in saved:  # where its streak began
            told["streak"] = 0
        return cls(**told)


@dataclass
class TrainState:
    """Everything that a run must remember. There is no generator state and no position of a loader: both are
    functions of the step. Tensors of a sharded model are sharded, and whole in a checkpoint that was read.

    Attributes:
        average: the averaged weights; None without averaging.
        evaluated: the step of the newest evaluation.
        best: the best evaluation so far whose checkpoint is on the disk or is going to be.
        beaten: those that were the best before it since this process took the state over; not saved.
        scheduled: the step of the newest checkpoint that was due by itself. One of a later step was written
            only because the run was asked to stop; a run never goes back to such a one (`CheckpointStore`).
        bad_samples: which training samples were found to be damaged, and told.
        record: which steps went wrong.
        unlogged: what the next `train` event tells of the steps up to here; brought up to date by a save.
    """

    model: nn.Module
    optimizer: Optimizer
    scaler: GradScaler
    average: AveragedModel | None
    step: int = 0
    evaluated: int = 0
    best: Best | None = None
    beaten: list[Best] = field(default_factory=list)
    scheduled: int = 0
    bad_samples: set[int] = field(default_factory=set)
    record: Record = field(default_factory=Record)
    unlogged: Unlogged = field(default_factory=Unlogged)

    def tensors(self) -> TensorGroups:
        """`model`, `ema` (with averaging) and `optimizer`, whose tensors are called `<parameter>/<slot>`.

        In the same order on every rank, since sharded ones are gathered one after the other. A safetensors
        file that is read gives its tensors in another order in each process, hence slots are sorted.
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

    def gather(self) -> None:
        """What the other ranks do while rank 0 copies the tensors: nothing, where they are not sharded."""
        if is_sharded(self.model):
            for named in self.tensors().values():
                for tensor in named.values():
                    full(tensor)

    def numbers(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "evaluated": self.evaluated,
            "best": asdict(self.best) if self.best else None,
            "scheduled": self.scheduled,
            "loss_scaler": self.scaler.state_dict(),
            "bad_samples": sorted(self.bad_samples),
            "record": asdict(self.record),
            "unlogged": asdict(self.unlogged),
        }

    def restore(self, tensors: TensorGroups, numbers: Mapping[str, Any]) -> None:
        """Take over a checkpoint.

        Raises:
            CheckpointError: it was written for another model or another kind of run.
        """
        if missing := [name for name in ("evaluated", "best", "loss_scaler") if name not in numbers]:
            raise CheckpointError(f"the checkpoint does not tell {', '.join(missing)}: it is of no run")
        load_strictly(self.model, tensors["model"], what="model")
        if self.average is not None:
            if "ema" not in tensors:
                raise CheckpointError("the checkpoint has no averaged weights: go on with ema=none")
            load_strictly(self.average.module, tensors["ema"], what="ema")
        self._restore_optimizer(tensors["optimizer"])
        if numbers["loss_scaler"]:
            try:
                self.scaler.load_state_dict(numbers["loss_scaler"])
            except (KeyError, RuntimeError, TypeError) as error:
                raise CheckpointError(f"the checkpoint's loss_scaler is none ({error})") from error
        self.step = int(numbers["step"])
        self.evaluated = int(numbers["evaluated"])
        self.best = Best(**numbers["best"]) if numbers["best"] else None
        self.beaten = []
        # what follows is absent from older checkpoints
        self.scheduled = self.step if is_scheduled(numbers) else int(numbers["scheduled"])
        self.bad_samples = set(numbers.get("bad_samples", ()))
        self.record = Record.of(numbers.get("record") or {})
        self.unlogged = Unlogged.of(numbers.get("unlogged", {}))

    def begin(self, tensors: Mapping[str, Tensor]) -> None:
        """Go back to the start of a run, with its initial weights."""
        load_strictly(self.model, tensors, what="model")
        if self.average is not None:
            load_strictly(self.average.module, tensors, what="ema")
        self.optimizer.state.clear()
        self.step = self.evaluated = self.scheduled = 0
        self.best, self.beaten, self.record, self.unlogged = None, [], Record(), Unlogged()

    def _restore_optimizer(self, saved: Mapping[str, Tensor]) -> None:
        parameters = dict(self.model.named_parameters())
        slots: dict[str, set[str]] = {}
        for key in saved:
            name, _, slot = key.rpartition("/")
            slots.setdefault(name, set()).add(slot)
        every = set().union(*slots.values())
        if partial := [name for name, has in slots.items() if has != every]:
            raise CheckpointError(f"the checkpoint's optimizer state of {partial[0]!r} is not complete")
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
            if slot != "step":  # a moment: laid out as its parameter
                value = torch.empty_like(parameter, dtype=value.dtype).copy_(spread_like(value, parameter))
            elif self.optimizer.param_groups[0].get("fused"):  # counts on the device
                value = value.to(parameter.device)
            self.optimizer.state[parameter][slot] = value


def is_scheduled(numbers: Mapping[str, Any]) -> bool:
    """Whether a checkpoint was due by itself, by the numbers in it, rather than written because the run was
    asked to stop. Older ones do not tell and count as scheduled."""
    return bool(numbers.get("scheduled", numbers["step"]) == numbers["step"])


_SCALER = {"scale", "growth_factor", "backoff_factor", "growth_interval", "_growth_tracker"}


def check_numbers(numbers: object) -> dict[str, Any]:
    """What `TrainState.numbers` gave, read back from a file that may be anyone's, or a part of it.

    Raises:
        ValueError: it has no step, or something else than a run keeps under its names.
    """

    if not isinstance(numbers, dict):
        raise ValueError("it holds no mapping")
    best, scaler = numbers.get("best"), numbers.get("loss_scaler")
    bad, record = numbers.get("bad_samples", []), numbers.get("record")  # which older checkpoints lack
    step, scheduled = numbers.get("step"), numbers.get("scheduled", 0)  # likewise
    fits = {
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
        "record": record is None or _is_record(record),
        "scheduled": is_count(scheduled) and is_count(step) and scheduled <= step,
        "unlogged": "unlogged" not in numbers or is_unlogged(numbers["unlogged"]),
    }
    if wrong := [name for name, fit in fits.items() if not fit]:
        raise ValueError(f"{', '.join(wrong)}: not what a run keeps there")
    return numbers


def _is_record(value: object) -> bool:
    if not isinstance(value, dict) or not value.keys() <= {field.name for field in fields(Record)}:
        return False
    value = {**asdict(Record()), **value}
    targets, windows = value["targets"], value["left_out"]
    return (
        all(is_count(value[name]) for name in ("streak", "overflows", "since", "seen", "rollbacks"))
        and all(is_number(value[name]) for name in ("mean", "rate"))
        and isinstance(targets, list)
        and all(map(is_count, targets))
        and isinstance(windows, list)
        and all(isinstance(one, list) and len(one) == 2 and all(map(is_count, one)) for one in windows)
    )


def load_strictly(model: nn.Module, saved: Mapping[str, Tensor], *, what: str) -> None:
    """Copy tensors into a model that must have exactly these.

    Raises:
        CheckpointError: names the first keys that differ.
    """
    ours = model.state_dict()
    faults = [
        *(f"{name} is missing" for name in ours if name not in saved),
        *(f"{name} is not in the model" for name in saved if name not in ours),
        *(
            f"{name} is {tuple(saved[name].shape)}, in the model {tuple(value.shape)}"
            for name, value in ours.items()
            if name in saved and saved[name].shape != value.shape
        ),
    ]
    if faults:
        shown = "; ".join(faults[:4]) + (f"; and {len(faults) - 4} more" if len(faults) > 4 else "")
        raise CheckpointError(f"the checkpoint's {what} weights are for another model: {shown}")
    with torch.no_grad():
        for name, value in ours.items():
            value.copy_(spread_like(saved[name], value))
