"""Whether the learning rate jumps where a run goes on for longer: at the end of a run it is at its floor."""

from __future__ import annotations

from pathlib import Path

from hornet_train.config.schema import Config
from hornet_train.config.stored import config_in_folder
from hornet_train.engine.checkpoint import Checkpoint
from hornet_train.engine.state import TrainState
from hornet_train.optim.schedules import Schedule
from hornet_train.track.events import number
from hornet_train.track.sinks import read_events

_JUMP = 1.5  # times the rate of the newest `train` event


def rate_notes(
    saved: Checkpoint, run_folder: Path, config: Config, schedule: Schedule, state: TrainState
) -> list[str]:
    """A sentence where a run of another length now goes on with a much greater learning rate than before.

    Args:
        saved: the checkpoint from which it goes on, to which `state` was restored.
        schedule: of the run as it is now.
    """
    metrics = run_folder / "metrics.jsonl"
    if "config.yaml" not in saved.texts or not metrics.exists():
        return []
    before = config_in_folder(saved.texts["config.yaml"], saved.folder).get("epochs")
    if before == str(config.epochs):
        return []
    rates = [
        rate
        for event in read_events(metrics)
        if event.get("event") == "train"
        and event.get("step", 0) <= state.step
        and (rate := number(event.get("lr"))) is not None
    ]
    place = state.step if config.epochs.unit == "it" else state.calendar.place(state.step)
    now = schedule(place) * state.fault_history.rate
    if not rates or rates[-1] == max(rates) or now <= _JUMP * rates[-1]:  # the greatest: in the warmup
        return []
    lower = f"go on at the lower rate with optim.lr={rates[-1]:.3g}, or " if rates[-1] else ""
    return [
        f"the learning rate jumps from {rates[-1]:.3g} to {now:.3g}, where a run of epochs={config.epochs} "
        f"has it at this step (before: epochs={before}); to avoid it, "
        f"{lower}begin another run, with its own warmup, from these weights: "
        f"init_from={run_folder} run_dir=<new>"
    ]
