"""What the studies share: trainings of several contenders and seeds, one a core, and a row for each."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import yaml


@dataclass(frozen=True)
class Contender:
    """A training to be run with several seeds.

    Attributes:
        keys: of `hornet-train`.
        script: a file that trains in its place, with `peer` and the keys; None for ours.
    """

    keys: Sequence[str]
    script: str | None = None


def parser(about: str, studies: Sequence[str]) -> argparse.ArgumentParser:
    """Of a study's command line."""
    found = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("study", choices=tuple(studies))
    found.add_argument("root", help="the folder of the pictures")
    found.add_argument("keys", nargs="*", help="of all trainings")
    found.add_argument("--out", type=Path, required=True, help="folder of the runs")
    found.add_argument("--seeds", type=int, default=3)
    found.add_argument("--at-once", type=int, default=os.cpu_count())
    found.add_argument("--only", action="append", metavar="NAME", help="this contender alone, or more")
    return found


def compare(
    contenders: Mapping[str, Contender],
    common: Sequence[str],
    given: argparse.Namespace,
    measures: Mapping[str, str],
    weights: str = "ema",
) -> None:
    """Train all contenders, or what is left of their trainings, and print a table of means, least and most.

    Args:
        contenders: by their names.
        common: keys of all trainings.
        given: what `parser` read.
        measures: heading -> key of an evaluation.
        weights: of the last evaluation: `model`, or `ema` for their average.
    """
    given.out.mkdir(parents=True, exist_ok=True)
    if unknown := set(given.only or ()) - set(contenders):
        raise SystemExit(f"--only={unknown.pop()!r}: is none of {', '.join(map(repr, contenders))}")
    chosen = {name: one for name, one in contenders.items() if not given.only or name in given.only}
    folders = {
        (name, seed): given.out / f"{name.replace(', ', '_').replace(' ', '_')}_{seed}"
        for seed in range(given.seeds)
        for name in chosen
    }
    with ThreadPoolExecutor(given.at_once) as pool:
        waiting = [
            pool.submit(_train, chosen[name], common, [*given.keys, f"seed={seed}"], folder)
            for (name, seed), folder in folders.items()
        ]
        for one in waiting:
            one.result()
    lines = [f"| model | {' | '.join(measures)} | minutes |", f"|---|{'---|' * len(measures)}---|"]
    for name in chosen:
        of_name = [folder for (of, _), folder in folders.items() if of == name]
        lines += [_row(name, of_name, measures, weights)]
    sys.stdout.write("\n".join(lines) + "\n")


def _train(one: Contender, common: Sequence[str], more: Sequence[str], folder: Path) -> None:
    program = ["-m", "hornet_train"] if one.script is None else [one.script, "peer"]
    log = folder.with_suffix(".log")
    began = time.monotonic()
    with log.open("a", encoding="utf-8") as file:
        done = subprocess.run(
            [sys.executable, *program, *common, *one.keys, *more, f"run_dir={folder}"],
            stdout=file,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if done.returncode:
        raise SystemExit(f"{folder} stopped with code {done.returncode}: see {log}")
    sys.stderr.write(f"{folder.name}: {(time.monotonic() - began) / 60:.0f} minutes\n")


def _row(name: str, folders: Sequence[Path], measures: Mapping[str, str], weights: str) -> str:
    found = [_last_evaluation(folder, weights) for folder in folders]
    cells = [name]
    for key in measures.values():
        values = [one[key] for one in found]
        spread = f" ({min(values):.1f} to {max(values):.1f})" if len(values) > 1 else ""
        cells.append(f"{mean(values):.1f}{spread}")
    cells.append(f"{mean(_minutes(folder) for folder in folders):.0f}")
    return f"| {' | '.join(cells)} |"


def _last_evaluation(folder: Path, weights: str) -> dict[str, Any]:
    evaluations = [event for event in _events(folder) if event["event"] == "eval"]
    return [event for event in evaluations if event["weights"] == weights][-1]


def _minutes(folder: Path) -> float:
    """Of the training steps, by the images a second that were logged."""
    batch_size = yaml.safe_load((folder / "config.yaml").read_text("utf-8"))["batch_size"]
    before, seconds = 0, 0.0
    for event in _events(folder):
        if event["event"] == "train":
            seconds += (event["step"] - before) * batch_size / event["images_per_second"]
            before = event["step"]
    return seconds / 60


def _events(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]
