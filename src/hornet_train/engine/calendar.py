"""Where a run's steps lie in its epochs, also after a change of the batch size.

What is trained on is a function of the place in an epoch, and so is the learning rate; steps are counted
through. As long as nothing changes both are one number. When a run goes on with another batch size, its
position is what it has seen: step k then has the place that it would have if all steps had been of the new
size, and where that is between two steps, the first step has only the samples that are left of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from hornet_train.engine.unlogged import is_count

_STORED = ("samples", "batch_size", "steps_per_epoch", "shift", "begin", "seen")


@dataclass(frozen=True)
class Calendar:
    """The steps of a run in epochs of a length.

    Attributes:
        samples: of the data set, at least 1.
        batch_size: samples of a step.
        steps_per_epoch: at least 1.
        shift: a step minus its place.
        begin: the place of the first step after a change.
        seen: samples of that step which were trained on before.
        whole: whether a run goes on at the beginning of a step, of which some samples are then seen again: a
            stream cannot begin between two.
        fits: (place, seen) -> whether what is left of a step can be trained on; else all of it is made again.
    """

    samples: int
    batch_size: int
    steps_per_epoch: int
    shift: int = 0
    begin: int = 0
    seen: int = 0
    whole: bool = False
    fits: Callable[[int, int], bool] = field(default=lambda _place, _seen: True, compare=False)

    def place(self, step: int) -> int:
        """The number of steps of this size up to a step, counted in epochs of this length."""
        return step - self.shift

    def at(self, step: int) -> tuple[int, int]:
        """(place of a step, samples of it that were trained on before)."""
        place = self.place(step)
        return place, self.seen_at(place)

    def to_json(self) -> dict[str, int]:
        """What `calendar_of` reads."""
        return {name: getattr(self, name) for name in _STORED}

    def seen_at(self, place: int) -> int:
        """How many samples of the step at a place were trained on before."""
        return self.seen if place == self.begin else 0

    def epoch(self, step: int) -> float:
        """The epochs up to a step."""
        place = self.place(step)
        return (place + self.seen_at(place) / self.batch_size) / self.steps_per_epoch

    def position(self, step: int) -> tuple[int, int]:
        """(epoch from 0, samples of it that were seen) up to a step."""
        place = self.place(step)
        epoch, position = divmod(place, self.steps_per_epoch)
        return epoch, min(position * self.batch_size + self.seen_at(place), self.samples)

    def going_on(self, other: Calendar, step: int) -> Calendar:
        """This calendar for a run that went by another one up to a step: it goes on after the last sample.

        Where the data set has another size, it goes on at the same share of the epoch.
        """
        mine = (self.samples, self.batch_size, self.steps_per_epoch)
        if mine == (other.samples, other.batch_size, other.steps_per_epoch):
            return replace(self, shift=other.shift, begin=other.begin, seen=other.seen)
        epoch, done = other.position(step)
        position, seen = divmod(done * self.samples // other.samples, self.batch_size)
        if position >= self.steps_per_epoch:  # among those that drop_last leaves out
            epoch, position, seen = epoch + 1, 0, 0
        place = epoch * self.steps_per_epoch + position
        if self.whole or not self.fits(place, seen):
            seen = 0
        return replace(self, shift=step - place, begin=place, seen=seen)


def is_calendar(value: object) -> bool:
    """Whether a value read from an untrusted file is a `Calendar` as JSON."""
    if not isinstance(value, dict) or value.keys() != set(_STORED):
        return False
    sizes = [value[name] for name in ("samples", "batch_size", "steps_per_epoch")]
    return (
        all(is_count(size) and size > 0 for size in sizes)
        and type(value["shift"]) is int
        and abs(value["shift"]) < 2**53
        and is_count(value["begin"])
        and is_count(value["seen"])
        and value["seen"] < value["batch_size"]
    )


def calendar_of(numbers: Mapping[str, Any]) -> Calendar | None:
    """The calendar of a checkpoint's numbers; None in those of older versions."""
    return Calendar(**numbers["calendar"]) if numbers.get("calendar") else None
