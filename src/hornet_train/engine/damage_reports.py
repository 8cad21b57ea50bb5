"""Unreadable samples of a run: each is in one event, and too many of those to train on end the run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hornet_train.data.worker import BadSample, allowed_bad
from hornet_train.engine.evaluation_loop import name_left_out
from hornet_train.errors import DataError

Emit = Callable[..., Any]  # (event, **values)


@dataclass
class DamageReports:
    """What was found unreadable, and what has gone since the run was started.

    Attributes:
        gone: paths of samples that have gone, and may: they are read, in vain, so that all others keep their
            places, and are not reported.
        gone_indices: the training samples among them that were reported before.
        named: paths of the held-out samples that are in an event, since this process started.
    """

    gone: frozenset[str] = frozenset()
    gone_indices: frozenset[int] = frozenset()
    named: set[str] = field(default_factory=set)

    def of_training(
        self,
        found: Mapping[int, BadSample],
        known: set[int],
        emit: Emit,
        samples: int,
        max_bad: float,
    ) -> None:
        """Emit an event for each unreadable training sample that is not in `known`, and add it there.

        Args:
            found: by index, the same on every rank.
            samples: how many there are to train on.
            max_bad: the greatest share of them that may be unreadable.

        Raises:
            DataError: `known` has more of the `samples` than `allowed_bad` allows; gone ones do not count.
        """
        found = {index: one for index, one in found.items() if one.where not in self.gone}
        for index in sorted(found.keys() - known):
            known.add(index)
            emit("bad_sample", path=found[index].where, reason=found[index].reason, index=index)
        count = len(known.difference(self.gone_indices))
        if found and count > allowed_bad(samples, max_bad):
            last = found[max(found)]
            raise DataError(
                f"{count:,} of the {samples:,} training samples cannot be read, more than data.max_bad="
                f"{max_bad:g} allows; one is {last.where} ({last.reason}). Repair or remove them "
                "(hornet-data check lists them all) and start the same command again, or raise data.max_bad"
            )

    def of_evaluation(self, bad: Sequence[BadSample], emit: Emit) -> None:
        """Log the unreadable samples of an evaluation, and emit an event for each, once; on rank 0."""
        new = [one for one in bad if one.where not in self.named | self.gone]
        self.named.update(one.where for one in new)
        name_left_out(new)
        for one in new:
            emit("bad_eval_sample", path=one.where, reason=one.reason)
