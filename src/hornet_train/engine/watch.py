"""Hangs: who has stopped answering, told and ended within minutes.

Each rank says where it is; a thread of its own passes that on to the others through the store of the group,
whatever the rank itself waits for. When no rank has got on for so long, the ranks that still answer name
those that do not, or that stand elsewhere than the rest, and end; their launcher can start the group anew.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from hornet_train.untrusted import parse_json

BEAT = 2.0  # seconds between two messages of a rank
SILENT = 5 * BEAT  # after which a rank does not answer
DATA = "waiting for data"  # the one thing that a rank does by itself
HUNG = 1  # exit code: nothing of ours or of the user's


class Store(Protocol):
    """The part of torch's key-value stores that is used."""

    def set(self, key: str, value: str, /) -> None: ...
    def multi_get(self, keys: list[str], /) -> list[bytes]: ...


class Watch(Protocol):
    """Told where a rank is."""

    def at(self, step: int, doing: str) -> None:
        """`step` updates are done; `doing` says what comes next. Cheap enough for every micro-batch."""
        ...

    def close(self) -> None:
        """Watch no more."""
        ...


class NoWatch:
    """For a process of its own, which waits for nobody."""

    def at(self, step: int, doing: str) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


@dataclass
class Seen:
    """What is known of a rank.

    Attributes:
        since: when a message of it last came; moved: when it was last seen to get on. Seconds, monotonic.
    """

    where: str = "(not yet heard of)"
    step: int = -1
    doing: str = "starting"
    moves: int = -1
    beats: int = -1
    since: float = field(default_factory=time.monotonic)
    moved: float = field(default_factory=time.monotonic)

    def hear(self, message: bytes, now: float) -> None:
        """Take a message; one that was heard before changes nothing."""
        told = parse_json(message)
        if told["beats"] != self.beats:
            self.beats, self.since, self.where = told["beats"], now, told["where"]
        if told["moves"] != self.moves:
            self.moves, self.moved = told["moves"], now
            self.step, self.doing = told["step"], told["doing"]


class PeerWatch:
    """Watches the ranks of a group, from two threads: one talks to the store, the other looks at the clock.

    Args:
        store: a connection of its own.
        limit: seconds without any progress after which the group is given up; not in the first step, which
            may be compiled for longer.
        give_up: ends this process; it gets the sentence to say, None on ranks that leave that to another.
        also: a number that grows while this process gets on otherwise: reads and writes large files.
    """

    def __init__(
        self,
        store: Store,
        rank: int,
        size: int,
        limit: float,
        give_up: Callable[[str | None], None] | None = None,
        also: Callable[[], int] = lambda: 0,
    ) -> None:
        self._store, self._rank, self._limit = store, rank, limit
        self._give_up, self._also = give_up or _end, also
        self._where = f"process {os.getpid()} on {socket.gethostname()}"
        self._seen = [Seen() for _ in range(size)]
        self._mine = (0, 0, "starting")  # moves, step, doing: replaced whole, as threads read it
        self._past_the_first = False  # the step that it begins with
        self._trouble = ""
        self._ended = threading.Event()
        for work in (self._talk, self._look):
            threading.Thread(target=work, name="watch", daemon=True).start()

    def at(self, step: int, doing: str) -> None:
        """See `Watch`."""
        moves, before, _ = self._mine
        self._past_the_first |= moves > 0 and step > before
        self._mine = (moves + 1, step, doing)

    def close(self) -> None:
        """Watch no more."""
        self._ended.set()

    def _talk(self) -> None:
        keys = [f"watch/{rank}" for rank in range(len(self._seen))]
        beats = 0
        while not self._ended.wait(BEAT if beats else 0):
            beats += 1
            moves, step, doing = self._mine
            moves += self._also()
            mine = {"beats": beats, "moves": moves, "step": step, "doing": doing, "where": self._where}
            try:
                self._store.set(keys[self._rank], json.dumps(mine))
                messages = self._store.multi_get(keys)
            except RuntimeError as error:  # torch's stores raise nothing more exact
                self._trouble = str(error).splitlines()[0]
                continue
            self._trouble, now = "", time.monotonic()
            for seen, message in zip(self._seen, messages, strict=True):
                seen.hear(message, now)

    def _look(self) -> None:
        before, mine, moved = time.monotonic(), self._at(), time.monotonic()
        while not self._ended.wait(1.0):
            now = time.monotonic()
            if (stood := now - before) > BEAT + 1.0:  # this process was stopped, and so maybe was the group
                moved += stood
                for seen in self._seen:
                    seen.since, seen.moved = seen.since + stood, seen.moved + stood
            before = now
            if (at := self._at()) != mine:
                mine, moved = at, now
            newest = max([moved, *(seen.moved for seen in self._seen)])
            if self._past_the_first and now - newest > self._limit:
                finding = self._finding(now)
                # the launcher ends the others when the first has ended: that is to be the one who speaks
                if finding is None and self._ended.wait(SILENT):
                    return
                if max(seen.moved for seen in self._seen) > newest or self._at() != mine:
                    continue  # they got on after all
                self._give_up(finding)
                return

    def _at(self) -> tuple[object, int]:
        """Where this process is; another value when it has got on."""
        return self._mine, self._also()

    def _finding(self, now: float) -> str | None:
        """What is wrong, on the lowest rank that answers."""
        silent = [
            rank for rank, seen in enumerate(self._seen) if rank != self._rank and now - seen.since > SILENT
        ]
        answering = [rank for rank in range(len(self._seen)) if rank not in silent]
        if answering[0] != self._rank:
            return None
        head = f"no process has got on for {self._limit / 60:.3g} minutes (dist.timeout_minutes)"
        if self._trouble or len(silent) == len(self._seen) - 1:
            head += f"; what they talk through does not answer either ({self._trouble or 'no message'})"
        if silent:
            return f"{head}: {'; '.join(self._described(rank, now) for rank in silent)}"
        steps = [seen.step for seen in self._seen]
        late = [rank for rank, step in enumerate(steps) if step < max(steps)]
        if not late:  # those who wait for data, as nobody waits for another there; or do what few others do
            doing = [seen.doing for seen in self._seen]
            usual = max(sorted(set(doing) - {DATA}), key=doing.count, default=DATA)
            late = [rank for rank, what in enumerate(doing) if what != usual]
        if late:
            return f"{head}; all answer, but " + "; ".join(self._described(rank, None) for rank in late)
        return f"{head}; all answer, all after step {steps[0]:,}, {self._seen[0].doing}"

    def _described(self, rank: int, now: float | None) -> str:
        seen = self._seen[rank]
        silence = "is" if now is None else f"has not answered for {now - seen.since:.0f} s, and was"
        return f"rank {rank} ({seen.where}) {silence} after step {seen.step:,}, {seen.doing}"


def _end(finding: str | None) -> None:
    """Say it and end at once: the main thread waits for ever, in a call that nothing can interrupt."""
    if finding is not None:
        sys.stderr.write(f"hornet-train: {finding}\n")
        sys.stderr.flush()
    os._exit(HUNG)
