"""A run of two ranks that is killed again and again: python killer.py FOLDER KILLS EPOCHS SEED.

First it runs undisturbed in FOLDER/whole, then with kills in FOLDER/killed. The ranks are forked from a
process that has imported everything, so that a start takes a second. Prints a line of JSON: how many kills
hit each kind of moment. The samples that each step saw are in seen/<rank>, below each of the two folders.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from helpers import TINY

import hornet_train.engine.trainer as trainer
from hornet_train.cli.train import main

RANKS, STEPS_AN_EPOCH = 2, 5
RUN = [
    *(argument for argument in TINY if not argument.startswith(("data.train_count", "epochs"))),
    "data.train_count=72",  # a last step of 8
    "augment=paper",
    "model.drop_path=0.2",
    "checkpoint.every=2it",
    "eval.every=1ep",
    "dist.threads=1",
]


def warm_up(folder: Path) -> None:
    """Import and compile in this process everything that a training needs."""
    try:
        main([*RUN, "epochs=1", f"run_dir={folder / 'warm'}"])
    except SystemExit as ended:
        if ended.code:
            raise


def record_samples(seen: Path) -> None:
    """Make each step record its samples in a file of `seen`."""
    step_ = trainer.train_step

    def train_step(state: Any, network: Any, task: Any, batches: Any, *args: Any, **how: Any) -> Any:
        step, rank, indices = state.step, how["world"].rank, []

        def recorded() -> Iterator[Any]:
            for batch in batches:
                indices.append(batch["index"].tolist())
                yield batch

        result = step_(state, network, task, recorded(), *args, **how)
        with (seen / str(rank)).open("a") as file:
            file.write(json.dumps([step, indices]) + "\n")
        return result

    trainer.train_step = train_step  # type: ignore[assignment]


def start(folder: Path, epochs: int) -> list[int]:
    """Fork a process for each rank; returns their ids."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = []
    for rank in range(RANKS):
        if pid := os.fork():
            started.append(pid)
            continue
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(RANKS)}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        log = os.open(folder / f"log.{rank}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        code = 1
        try:
            main([*RUN, f"epochs={epochs}", f"run_dir={folder / 'run'}"])
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 1
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    return started


def running(pids: list[int]) -> bool:
    """Whether all of them are running; those that ended are left for os.waitpid."""
    return all(os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None for pid in pids)


def ended(pids: list[int]) -> bool:
    """Whether all of them have ended."""
    return not any(running([pid]) for pid in pids)


def wait_for_moment(kind: str, run: Path, pids: list[int], pause: float) -> None:
    """Wait for the moment to kill: `pause` seconds into a start, a training, a write or an evaluation."""
    end = time.monotonic() + 60
    metrics = run / "metrics.jsonl"
    at_start = time.time_ns()

    def due() -> bool:
        if kind == "write":
            return any((run / "checkpoints").glob(".step_*.writing"))
        if kind != "start" and metrics.exists() and metrics.stat().st_mtime_ns > at_start:
            *_, last = metrics.read_bytes().splitlines() or [b""]
            found = re.match(rb'\{"event": "train", "step": (\d+),', last)
            return found is not None and (kind == "training" or int(found[1]) % STEPS_AN_EPOCH == 0)
        return kind == "start"

    while not due() and running(pids) and time.monotonic() < end:
        time.sleep(0.0005)
    time.sleep(pause)


def run_with_kills(folder: Path, epochs: int, kills: int, seed: int) -> list[str]:
    """Run to the end, with `kills` kills on the way; returns the kind of moment that each one hit."""
    draw, hits = random.Random(seed), []
    kinds = ["start", "training", "write", "write", "evaluation"] * (kills // 5)
    draw.shuffle(kinds)
    while True:
        pids = start(folder, epochs)
        if len(hits) < len(kinds):
            kind = kinds[len(hits)]
            pause = draw.uniform(0, 1.5 if kind == "start" else 0.02 if kind == "write" else 0.1)
            wait_for_moment(kind, folder / "run", pids, pause)
            if not running(pids):
                raise SystemExit(f"ended by itself after {len(hits)} kills: more epochs are needed")
            for pid in pids if draw.random() < 0.7 else [draw.choice(pids)]:
                os.kill(pid, signal.SIGKILL)
            hits.append(kind)
            end = time.monotonic() + 3
            while not ended(pids) and time.monotonic() < end:
                time.sleep(0.01)
            for pid in pids:  # as a launcher does: a rank that is left may wait for the other forever
                os.kill(pid, signal.SIGKILL)
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
        if codes == [0] * RANKS:
            return hits
        if not any(code == -signal.SIGKILL for code in codes):
            raise SystemExit(f"the ranks ended with {codes}, see {folder}/log.*")


if __name__ == "__main__":
    place = Path(sys.argv[1])
    count, length, number = map(int, sys.argv[2:])
    torch.set_num_threads(1)
    warm_up(place)
    for name, times in (("whole", 0), ("killed", count)):
        (place / name / "seen").mkdir(parents=True)
        record_samples(place / name / "seen")
        hit = run_with_kills(place / name, length, times, number)
    sys.stdout.write(json.dumps({kind: hit.count(kind) for kind in sorted(set(hit))}) + "\n")
