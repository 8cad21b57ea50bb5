"""Everything a run must remember: as named tensors and plain numbers, so that a checkpoint is data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer

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
class TrainState:
    """Weights, optimizer moments, averaged weights, the step, the newest evaluation's step, the best result,
    and which training samples were found to be damaged.

    There is no generator state and no position of a loader: both are functions of the step.
    """

    model: nn.Module
    optimizer: Optimizer
    scaler: GradScaler
    average: AveragedModel | None
    step: int = 0
    evaluated: int = 0
    best: Best | None = None
    bad_samples: set[int] = field(default_factory=set)

    def tensors(self) -> TensorGroups:
        """`model`, `ema` (with averaging) and `optimizer`, whose tensors are called `<parameter>/<slot>`."""
        groups: TensorGroups = {"model": dict(self.model.state_dict())}
        if self.average is not None:
            groups["ema"] = dict(self.average.module.state_dict())
        groups["optimizer"] = {
            f"{name}/{slot}": value
            for name, parameter in self.model.named_parameters()
            for slot, value in self.optimizer.state.get(parameter, {}).items()
        }
        return groups

    def numbers(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "evaluated": self.evaluated,
            "best": asdict(self.best) if self.best else None,
            "loss_scaler": self.scaler.state_dict(),
            "bad_samples": sorted(self.bad_samples),
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
            self.scaler.load_state_dict(numbers["loss_scaler"])
        self.step = int(numbers["step"])
        self.evaluated = int(numbers["evaluated"])
        self.best = Best(**numbers["best"]) if numbers["best"] else None
        self.bad_samples = set(
            numbers.get("bad_samples", ())
        )  # absent from checkpoints of before there was any

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
                    f"the checkpoint's optimizer state {key!r} is {tuple(value.shape)}, which does not fit"
                )
            if slot != "step":  # a moment: laid out as its parameter
                value = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
            elif self.optimizer.param_groups[0].get("fused"):  # counts on the device
                value = value.to(parameter.device)
            self.optimizer.state[parameter][slot] = value


_SCALER = {"scale", "growth_factor", "backoff_factor", "growth_interval", "_growth_tracker"}
_MOST = 2**53  # steps and samples


def checked_numbers(numbers: object) -> dict[str, Any]:
    """What `TrainState.numbers` gave, read back from a file that may be anyone's, or a part of it.

    Raises:
        ValueError: it has no step, or something else than a run keeps under its names.
    """

    def is_count(value: object) -> bool:
        return type(value) is int and 0 <= value < _MOST

    def is_number(value: object) -> bool:
        return is_count(value) or type(value) is float

    if not isinstance(numbers, dict):
        raise ValueError("it holds no mapping")
    best, scaler = numbers.get("best"), numbers.get("loss_scaler", {})
    bad = numbers.get("bad_samples", [])
    fits = {
        "step": is_count(numbers.get("step")),
        "evaluated": is_count(numbers.get("evaluated", 0)),
        "best": best is None
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
    }
    if wrong := [name for name, fit in fits.items() if not fit]:
        raise ValueError(f"{', '.join(wrong)}: not what a run keeps there")
    return numbers


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
    model.load_state_dict(saved)
