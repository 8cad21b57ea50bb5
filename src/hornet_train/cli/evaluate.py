"""`hornet-eval`: the accuracy of a checkpoint."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from hornet_train.cli.command import joined, run_command
from hornet_train.cli.help import answer_eval_questions
from hornet_train.config.compose_eval import compose_eval
from hornet_train.errors import CheckpointError, ConfigError, DataError
from hornet_train.tasks.classification.schema import ClassificationEval
from hornet_train.tasks.table import NAMES, find

if TYPE_CHECKING:
    from hornet_train.track.console import Console


def main(arguments: list[str] | None = None) -> NoReturn:
    """The console script."""
    run_command(_evaluate, answer_eval_questions, arguments)


def _evaluate(overrides: list[str]) -> None:
    from hornet_train.report.evaluation import summary
    from hornet_train.run.evaluation import build_evaluation, run_evaluation
    from hornet_train.track.console import ConsoleSink, NullConsole

    config = compose_eval(overrides, _known_of, find=find, names=NAMES).config
    assert isinstance(config, ClassificationEval)
    out = Path(config.out) if config.out else _beside(Path(config.checkpoint or ""))
    if out.is_dir() or not os.access(next(p for p in out.absolute().parents if p.exists()), os.W_OK):
        raise ConfigError([f"out={out} cannot be written: give the path of a file"])
    if out.exists() and out.suffix != ".json":
        raise ConfigError([f"out={out} is there and no .json: it would be overwritten"])
    with joined(config.dist) as world:
        job = world.on_all_ranks(lambda: build_evaluation(config, world=world))
        if not world.same_on_all_ranks(
            job.identity()
        ):  # of sets that some lack, they would never come to an end
            raise DataError(
                "the processes see other sets, images or weights than each other: data.root and checkpoint "
                "must be the same for all"
            )
        console: Console = ConsoleSink(1, 1) if world.is_main else NullConsole()
        for note in job.notes:
            console.warn(note) if note.startswith("checkpoint skipped") else console.say(note)

        def done(name: str, metrics: dict[str, float]) -> None:
            if sum(len(one.data) for one in job.sets) > 1:  # the only one is told in the table
                console.say(f"{name}: top-1 {metrics['top1']:.3f} of {metrics['count']:,} images")

        begin = time.perf_counter()
        parts = run_evaluation(job, config, world=world, done=done)
        seconds = time.perf_counter() - begin
        told = {
            one.suite.name: summary(one.suite.name, metrics, one.suite.left_out)
            for one, metrics in zip(job.sets, parts, strict=True)
        }
        count = sum(part["count"] for metrics in parts for part in metrics.values())
        result = {
            **({"suites": told, "not_found": job.not_found} if config.suite else told[config.data.source]),
            "images_per_second": count / seconds,
            "checkpoint": str(job.weights.place),
            "weights": job.weights.name,
            "init_map": config.init_map,
            "step": job.weights.step,
            "model": config.model.name,
            "data": config.data.source,
            "image_size": config.data.image_size,
            "precision": config.precision,
            "processes": world.size,
        }
        if world.is_main:
            _tell(result, console, out)


def _known_of(checkpoint: str) -> dict[str, Any] | None:
    """What is known of how a checkpoint was trained: from its own config, or from its weights alone."""
    from hornet_train.config.stored import config_in_folder, config_in_weights
    from hornet_train.engine.find_checkpoint import find_checkpoint

    path = Path(checkpoint)
    if path.is_dir():
        saved = find_checkpoint(path, groups=())[0]
        if "config.yaml" not in saved.texts:
            raise CheckpointError(f"{saved.folder} has no config.yaml: give one of its .safetensors instead")
        return config_in_folder(saved.texts["config.yaml"], saved.folder)
    stored = config_in_weights(path)
    if stored is not None:
        return stored
    from hornet_train.models.variants import VARIANTS
    from hornet_train.models.weight_files import read_weights
    from hornet_train.models.weights import identify, nearest

    state = read_weights(path)[0]
    if name := identify(state):
        return {"model": {"name": name}, "data": {"image_size": VARIANTS[name].image_size}}
    if near := nearest(state):
        return {"model": {}, "unlike": f"it is nearest to {near[0]}, but for {near[1]}"}
    return None


def _beside(checkpoint: Path) -> Path:
    """eval.json in a folder, or next to a file."""
    return (checkpoint if checkpoint.is_dir() else checkpoint.parent) / "eval.json"


def _tell(result: Mapping[str, Any], console: Console, out: Path) -> None:
    from hornet_train.report.evaluation import show
    from hornet_train.track.files import write_json

    show(result, console)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_json(out, result)
    except OSError as error:
        raise ConfigError([f"out={out} cannot be written ({error.strerror})"]) from error
    console.say(f"written to {out}")


if __name__ == "__main__":
    main()
