"""`hornet-eval`: the accuracy of a checkpoint."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, NoReturn

from hornet_train.cli.command import joined, run_command
from hornet_train.cli.help import answer_eval_questions
from hornet_train.config.compose import compose_eval
from hornet_train.errors import ConfigError


def main(arguments: list[str] | None = None) -> NoReturn:
    """The console script."""
    run_command(_evaluate, answer_eval_questions, arguments)


def _evaluate(overrides: list[str]) -> None:
    from hornet_train.builders.evaluation import build_evaluation
    from hornet_train.engine.evaluate import evaluate

    composed = compose_eval(overrides, _known_of)
    config = composed.config
    out = Path(config.out) if config.out else _beside(Path(config.checkpoint or ""))
    if out.is_dir() or not os.access(next(p for p in out.absolute().parents if p.exists()), os.W_OK):
        raise ConfigError([f"out={out} cannot be written: give the path of a file"])
    if out.exists() and out.suffix != ".json":
        raise ConfigError([f"out={out} is there and no .json: it would be overwritten"])
    with joined(config.dist) as world:
        job = world.together(lambda: build_evaluation(config, world=world))
        begin = time.perf_counter()
        batches = job.data.batches(world.rank, world.size, config.batch_size)
        results = evaluate(job.task, {"it": job.model}, batches, world=world, precision=config.precision)
        metrics = results["it"]
        seconds = time.perf_counter() - begin
        if world.is_main:
            result = {
                **{name: metrics[name] for name in ("top1", "top5", "loss")},
                "count": metrics["count"],
                "bad": metrics.get("bad", 0),
                "images_per_second": metrics["count"] / seconds,
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
            _tell(result, job.notes, out)


def _known_of(checkpoint: str) -> dict[str, Any] | None:
    """What is known of how a checkpoint was trained: from its own config, or from its weights alone."""
    from hornet_train.config.stored import trained_with
    from hornet_train.engine.checkpoint import locate

    path = Path(checkpoint)
    kept = trained_with(locate(path, groups=())[0].folder if path.is_dir() else path)
    if kept is not None:
        return kept
    from hornet_train.models.reading import read_weights
    from hornet_train.models.variants import VARIANTS
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


def _tell(result: dict[str, Any], notes: list[str], out: Path) -> None:
    from hornet_train.track.console import ConsoleSink
    from hornet_train.track.events import strict
    from hornet_train.track.files import write_json

    console = ConsoleSink(1, 1)
    for note in notes:
        console.warn(note) if note.startswith("passed over") else console.say(note)
    columns = ("model", "weights", "top-1", "top-5", "loss", "count", "images/s")
    row = (
        result["model"],
        result["weights"],
        f"{result['top1']:.3f}",
        f"{result['top5']:.3f}",
        f"{result['loss']:.4f}",
        f"{result['count']:,}" + (f" ({result['bad']:,} could not be read)" if result["bad"] else ""),
        f"{result['images_per_second']:.1f}",
    )
    console.table(str(result["checkpoint"]), columns, [row])
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_json(out, strict(result))
    except OSError as error:
        raise ConfigError([f"out={out} cannot be written ({error.strerror})"]) from error
    console.say(f"written to {out}")


if __name__ == "__main__":
    main()
