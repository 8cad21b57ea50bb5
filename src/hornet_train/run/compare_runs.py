"""What differs between a run and the one that it repeats (`from=`): versions, code, data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hornet_train.config.from_run import Repeated
from hornet_train.engine.distributed import World
from hornet_train.engine.find_checkpoint import find_checkpoint
from hornet_train.errors import CheckpointError, DataError
from hornet_train.run.open_weights import identity_of
from hornet_train.run.resume import identity_changes
from hornet_train.track.durable_files import read_json
from hornet_train.track.environment import environment

MOST_PACKAGES = 8  # that are named
ON_CPU = ("cpu", "math", "threads")  # of environment.json, that a training on GPUs does not depend on
ON_GPU = ("gpus", "driver", "cuda", "cudnn", "nccl")
EVERYWHERE = ("python", "device", "world_size", "variables")
COMPUTING = ("hornet-train", "torch", "torchvision", "triton", "timm", "numpy", "numba", "llvmlite")
DECODING = ("simplejpeg", "pillow", "scikit-learn", "datasets", "pyarrow")


def compared(run: Repeated, images: Mapping[str, Any], *, world: World) -> list[str]:
    """A sentence for each thing by which a repetition may come out otherwise.

    Args:
        run: what is repeated.
        images: the identity of those to train on.
        world: of the repetition.

    Raises:
        DataError: they are others than that run's, and the command line does not ask for them.
    """
    now = environment(world.size, world.device.type)
    return [*run.notes, *_images(run, images), *_surroundings(run.folder, now)]


def _images(run: Repeated, now: Mapping[str, Any]) -> Iterator[str]:
    try:
        saved, _ = find_checkpoint(run.file.parent, groups=())
    except CheckpointError as error:
        yield f"whether these are the images of the run that is repeated is not known: {error}"
        return
    changed = identity_changes(identity_of(saved), now)
    dealt = changed.pop("dealt", None)
    if dealt is not None:
        yield f"shards are dealt out otherwise than in {run.folder} ({dealt}): images come in another order"
    differences = "; ".join(f"{name}: {change}" for name, change in changed.items())
    if differences and not run.own_images:
        raise DataError(
            f"{run.folder} was trained on other images than its data group names now ({differences}), so "
            "this would be no repetition: bring them back, or say that other images are meant, with data= or "
            "data.root="
        )
    if differences:
        yield f"other images than in {run.folder} ({differences})"


def _surroundings(folder: Path, now: Mapping[str, Any]) -> Iterator[str]:
    """A sentence for each difference of environment.json, with each start of the run."""
    record = folder / "environment.json"
    try:
        then = read_json(record)
    except (OSError, ValueError) as error:
        yield f"versions, code and machine cannot be compared: {error}"
        return
    if not isinstance(then, dict) or not isinstance(then.get("earlier", []), list):
        yield f"versions, code and machine cannot be compared: {record} is not ours"
        return
    starts = [start for start in (*then.get("earlier", []), then) if isinstance(start, dict)]
    lines = dict.fromkeys(line for start in starts for line in differences(start, now))
    yield from (f"since {folder}: {line}; results may differ" for line in lines)


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """`what before -> after` of two contents of environment.json, for what the older one contains."""
    on_gpu = "cuda" in (then.get("device"), now.get("device"))
    for key in (*EVERYWHERE, *(ON_GPU if on_gpu else ON_CPU)):
        before, after = then.get(key), now.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
            yield from (f"{name} {_brief(before.get(name))} -> {_brief(after.get(name))}" for name in names)
        elif key in then and before != after:
            yield f"{key} {_brief(before)} -> {_brief(after)}"
    yield from _packages(_mapping(then, "packages"), _mapping(now, "packages"))
    if "git" in then:
        yield from _code(_mapping(then, "git"), _mapping(now, "git"))


def _packages(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Those that compute first, then those that read images, then all others, each by name."""
    changed = [name for name in then if then[name] != now.get(name)]
    first = [*COMPUTING, *DECODING]
    changed.sort(key=lambda name: (first.index(name) if name in first else len(first), name))
    for name in changed[:MOST_PACKAGES]:
        yield f"{name} {then[name]} -> {now.get(name, 'not installed')}"
    if len(changed) > MOST_PACKAGES:
        yield f"{len(changed) - MOST_PACKAGES} more packages of other versions (environment.json has all)"


def _code(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """The commit, and what was not committed."""
    before, after = (one.get("commit", "not known") for one in (then, now))
    if before != after:
        yield f"commit {before} -> {after}"
    if then.get("dirty") and "diff" not in then:
        yield "uncommitted changes then, of which nothing was kept"
        return
    before, after = (_mapping(one, "diff").get("sha256", "none") for one in (then, now))
    if before != after:
        kept = _mapping(then, "diff").get("file")
        yield f"uncommitted changes {before[:12]}{f' ({kept})' if kept else ''} -> {after[:12]}"


def _mapping(tree: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    part = tree.get(key)
    return part if isinstance(part, dict) else {}


def _brief(value: Any) -> str:
    """A value of environment.json in a few words."""
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)
