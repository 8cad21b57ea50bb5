"""Detects hangs: names the ranks that stopped responding, and ends the run within minutes.

Each rank reports what it does. A thread of each rank shares that with the others through the group's
key-value store, whatever the rank itself waits for. When no rank has made progress for a time limit, the
ranks that still respond name those that do not, or those that are behind the rest, and end. Their launcher
can then restart the group.
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

HEARTBEAT_SECONDS = 2.0  # between two messages of a rank
SILENCE_SECONDS = 5 * HEARTBEAT_SECONDS  # without a message, after which a rank counts as not responding
CLOSE_SECONDS = 2.0  # that an exchange of messages has to end in
WAITING_FOR_DATA = "waiting for data"  # the one activity in which a rank does not depend on others
EXIT_HUNG = 1  # exit code: neither a bug nor the user's mistake


class Store(Protocol):
    """The part of torch's key-value stores that is used."""

    def set(self, key: str, value: str, /) -> None: ...
    def multi_get(self, keys: list[str], /) -> list[bytes]: ...


class Watchdog(Protocol):
    """Receives reports of how far this rank is."""

    def report(self, step: int, activity: str) -> None:
        """`step` updates are done; `activity` comes next. Cheap enough for every micro-batch."""
        ...

    def close(self) -> None:
        """Stop watching."""
        ...


class NoWatchdog:
    """For a single process, which waits for no other."""

    def report(self, step: int, activity: str) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""


@dataclass
class RankStatus:
    """The latest message of a rank.

    Attributes:
        where: process and host.
        progress: a number that grows whenever the rank makes progress.
        beats: number of the message.
        heard_at: when a message last came; progress_at: when `progress` last grew. Seconds, monotonic.
    """

    where: str = "(not yet heard of)"
    step: int = -1
    activity: str = "starting"
    progress: int = -1
    beats: int = -1
    heard_at: float = field(default_factory=time.monotonic)
    progress_at: float = field(default_factory=time.monotonic)

    def update(self, message: bytes, now: float) -> None:
        """Take in a message; one that was read before changes nothing."""
        content = parse_json(message)
        if content["beats"] != self.beats:
            self.beats, self.heard_at, self.where = content["beats"], now, content["where"]
        if content["progress"] != self.progress:
            self.progress, self.progress_at = content["progress"], now
            self.step, self.activity = content["step"], content["activity"]


class PeerWatchdog:
    """Watches the ranks of a group, from two threads: one exchanges messages, the other checks the time.

    Args:
        store: a connection of its own.
        limit: seconds without any progress after which the group is given up. Not in the first step, where
            compiling may take longer.
        give_up: ends this process. It gets the message to print, None on ranks that leave that to another.
        other_progress: a number that grows while this process makes other progress: reads and writes large
            files.
    """

    def __init__(
        self,
        store: Store,
        rank: int,
        size: int,
        limit: float,
        give_up: Callable[[str | None], None] | None = None,
        other_progress: Callable[[], int] = lambda: 0,
    ) -> None:
        self._store, self._rank, self._limit = store, rank, limit
        self._give_up, self._other_progress = give_up or _end, other_progress
        self._where = f"process {os.getpid()} on {socket.gethostname()}"
        self._ranks = [RankStatus() for _ in range(size)]
        self._mine = (0, 0, "starting")  # reports, step, activity: replaced as one object, as threads read it
        self._past_first_step = False
        self._store_error = ""
        self._closed = threading.Event()
        self._exchange = threading.Thread(target=self._exchange_messages, name="watchdog", daemon=True)
        self._exchange.start()
        threading.Thread(target=self._check_time, name="watchdog", daemon=True).start()

    def report(self, step: int, activity: str) -> None:
        """See `Watchdog`."""
        reports, before, _ = self._mine
        self._past_first_step |= reports > 0 and step > before
        self._mine = (reports + 1, step, activity)

    def close(self) -> None:
        """Stop watching; returns when the last exchange of messages is over, or does not end."""
        self._closed.set()
        # a thread that is inside of torch's store when Python ends would abort the process
        self._exchange.join(CLOSE_SECONDS)

    def _exchange_messages(self) -> None:
        keys = [f"watch/{rank}" for rank in range(len(self._ranks))]
        beats = 0
        while not self._closed.wait(HEARTBEAT_SECONDS if beats else 0):
            beats += 1
            reports, step, activity = self._mine
            message = {
                "beats": beats,
                "progress": reports + self._other_progress(),
                "step": step,
                "activity": activity,
                "where": self._where,
            }
            try:
                self._store.set(keys[self._rank], json.dumps(message))
                messages = self._store.multi_get(keys)
            except RuntimeError as error:  # torch's stores raise nothing more specific
                self._store_error = str(error).splitlines()[0]
                continue
            self._store_error, now = "", time.monotonic()
            for status, content in zip(self._ranks, messages, strict=True):
                status.update(content, now)

    def _check_time(self) -> None:
        before, mine, moved = time.monotonic(), self._own_progress(), time.monotonic()
        while not self._closed.wait(1.0):
            now = time.monotonic()
            if (suspended := now - before) > HEARTBEAT_SECONDS + 1.0:  # this process, and maybe the group
                moved += suspended
                for status in self._ranks:
                    status.heard_at += suspended
                    status.progress_at += suspended
            before = now
            if (own := self._own_progress()) != mine:
                mine, moved = own, now
            newest = max([moved, *(status.progress_at for status in self._ranks)])
            if self._past_first_step and now - newest > self._limit:
                finding = self._finding(now)
                # the launcher kills all others when one has ended: the one with the message must be first
                if finding is None and self._closed.wait(SILENCE_SECONDS):
                    return
                if max(status.progress_at for status in self._ranks) > newest or self._own_progress() != mine:
                    continue  # there is progress after all
                self._give_up(finding)
                return

    def _own_progress(self) -> tuple[object, int]:
        """Another value whenever this process has made progress."""
        return self._mine, self._other_progress()

    def _finding(self, now: float) -> str | None:
        """What is wrong; None on all but the lowest rank that responds."""
        silent = [
            rank
            for rank, status in enumerate(self._ranks)
            if rank != self._rank and now - status.heard_at > SILENCE_SECONDS
        ]
        responding = [rank for rank in range(len(self._ranks)) if rank not in silent]
        if responding[0] != self._rank:
            return None
        head = f"no process has made progress for {self._limit / 60:.3g} minutes (dist.timeout_minutes)"
        if self._store_error or len(silent) == len(self._ranks) - 1:
            head += f"; their key-value store does not answer either ({self._store_error or 'no message'})"
        if silent:
            return f"{head}: {'; '.join(self._described(rank, now) for rank in silent)}"
        steps = [status.step for status in self._ranks]
        late = [rank for rank, step in enumerate(steps) if step < max(steps)]
        if not late:  # then those waiting for data, which needs no other rank; or with an unusual activity
            activities = [status.activity for status in self._ranks]
            usual = max(
                sorted(set(activities) - {WAITING_FOR_DATA}), key=activities.count, default=WAITING_FOR_DATA
            )
            late = [rank for rank, activity in enumerate(activities) if activity != usual]
        if late:
            return f"{head}; all answer, but " + "; ".join(self._described(rank, None) for rank in late)
        return f"{head}; all answer, all after step {steps[0]:,}, {self._ranks[0].activity}"

    def _described(self, rank: int, now: float | None) -> str:
        status = self._ranks[rank]
        silence = "is" if now is None else f"has not answered for {now - status.heard_at:.0f} s, and was"
        return f"rank {rank} ({status.where}) {silence} after step {status.step:,}, {status.activity}"


def _end(finding: str | None) -> None:
    """Print the finding and end at once: the main thread hangs in a call that nothing can interrupt."""
    if finding is not None:
        sys.stderr.write(f"hornet-train: {finding}\n")
        sys.stderr.flush()
    os._exit(EXIT_HUNG)
