"""The micro-batches of a step that went wrong, in a file from which the step can be made again.

A safetensors file for each rank: `model.<name>` as the weights were, `batch.<micro-batch>.<name>` as the data
came, and in the header's metadata the numbers of the step and the run's config.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from hornet_train.data.batch import Batch, from_named_tensors, named_tensors
from hornet_train.errors import CheckpointError
from hornet_train.track.files import write_through
from hornet_train.untrusted import check_header, open_plain, parse_json

MOST = 3  # files of one rank; they are as large as the weights and a batch together
STEP = "step"  # keys of the metadata
_log = logging.getLogger("hornet_train")


@dataclass(frozen=True)
class StepNumbers:
    """On what a step depends beside weights, batches and config.

    Attributes:
        step: counted from 0; step_size: its images over all ranks.
        micros: which of the rank's micro-batches were kept; sizes: images that each of them counts for.
        samples: the indices of each one's images in the data set, where they are known.
    """

    step: int
    step_size: int
    rank: int
    world_size: int
    seed: int
    precision: str
    micros: list[int]
    sizes: list[int]
    samples: list[list[int] | None]


@dataclass(frozen=True)
class Dump:
    """A step to be made again."""

    numbers: StepNumbers
    model: dict[str, Tensor]
    batches: list[Batch]
    texts: dict[str, str]


def write_dump(
    folder: Path,
    numbers: StepNumbers,
    model: Mapping[str, Tensor],
    batches: list[Batch],
    texts: Mapping[str, str],
) -> Path | None:
    """Write `step_NNNNNNNN_rankR.safetensors`, unless there are `MOST` of the rank or the disk is full."""
    if len(list(folder.glob(f"step_*_rank{numbers.rank}.safetensors"))) >= MOST:
        return None
    tensors = {f"model.{name}": value for name, value in model.items()}
    for micro, batch in zip(numbers.micros, batches, strict=True):
        tensors |= {f"batch.{micro}.{name}": value for name, value in named_tensors(batch).items()}
    stored = {name: value.detach().to("cpu").contiguous().clone() for name, value in tensors.items()}
    path = folder / f"step_{numbers.step + 1:08d}_rank{numbers.rank}.safetensors"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)  # of a start that was killed
        data = safetensors.torch.save(stored, metadata={**texts, STEP: json.dumps(asdict(numbers))})
        write_through(path, data)
    except OSError as error:
        path.unlink(missing_ok=True)
        _log.warning("%s cannot be written (%s)", path, error.strerror)
        return None
    return path


def read_dump(path: Path) -> Dump:
    """Read what `write_dump` wrote.

    Raises:
        CheckpointError: it is no such file, or not whole.
    """
    try:
        with open_plain(path) as start:
            check_header(start.read(8))
        with safe_open(str(path), framework="pt") as file:
            texts = dict(file.metadata() or {})
            numbers = StepNumbers(**parse_json(texts.pop(STEP)))
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        model = {n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")}
        batches = [
            from_named_tensors(
                {n.removeprefix(f"batch.{m}."): t for n, t in tensors.items() if n.startswith(f"batch.{m}.")}
            )
            for m in numbers.micros
        ]
    except (SafetensorError, OSError, ValueError, TypeError, KeyError) as error:
        raise CheckpointError(
            f"{path} is no step that was kept by guard.dump=true ({type(error).__name__}: {error})"
        ) from None
    return Dump(numbers, model, batches, texts)


def kept_of(flags: list[bool], anywhere: bool) -> list[int]:
    """Which micro-batches of a rank to keep: those whose loss was no number, or all if all were numbers."""
    return [micro for micro, flag in enumerate(flags) if flag or not anywhere]
