"""Dumps of steps that went wrong: the micro-batches and weights in a file from which a step can be replayed.

A safetensors file for each rank, with tensors `model.<name>` (the weights) and `batch.<micro-batch>.<name>`
(the data as loaded). The header's metadata has the numbers of the step and the run's config.
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
from hornet_train.track.durable_files import write_through
from hornet_train.untrusted import check_header, open_regular, parse_json

MAX_FILES_PER_RANK = 3  # each is as large as the weights and a batch together
STEP_KEY = "step"  # of the numbers in the metadata
_log = logging.getLogger("hornet_train")


@dataclass(frozen=True)
class StepNumbers:
    """What a step depends on beside weights, batches and config. The attributes are the keys in the file.

    Attributes:
        step: counted from 0.
        step_size: images of the step over all ranks.
        micros: indices of the rank's micro-batches in the dump.
        sizes: images that each of these micro-batches counts for.
        samples: data-set indices of each one's images; None if they are not known.
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
    """A step to replay.

    Attributes:
        model: the weights, as a state dict.
        batches: one for each of `numbers.micros`.
        texts: the run's config and classes; see `CheckpointStore.texts` and `metadata`.
    """

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
    """Write `step_NNNNNNNN_rankR.safetensors` and return its path; None if the rank has
    `MAX_FILES_PER_RANK` files already, or the disk is full."""
    if len(list(folder.glob(f"step_*_rank{numbers.rank}.safetensors"))) >= MAX_FILES_PER_RANK:
        return None
    tensors = {f"model.{name}": value for name, value in model.items()}
    for micro, batch in zip(numbers.micros, batches, strict=True):
        tensors |= {f"batch.{micro}.{name}": value for name, value in named_tensors(batch).items()}
    stored = {name: value.detach().to("cpu").contiguous().clone() for name, value in tensors.items()}
    path = folder / f"step_{numbers.step + 1:08d}_rank{numbers.rank}.safetensors"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)  # from an earlier process that was killed
        data = safetensors.torch.save(stored, metadata={**texts, STEP_KEY: json.dumps(asdict(numbers))})
        write_through(path, data)
    except OSError as error:
        path.unlink(missing_ok=True)
        _log.warning("%s cannot be written (%s)", path, error.strerror)
        return None
    return path


def read_dump(path: Path) -> Dump:
    """Read what `write_dump` wrote.

    Raises:
        CheckpointError: it is not such a file, or it is damaged.
    """
    try:
        with open_regular(path) as start:
            check_header(start.read(8))
        with safe_open(str(path), framework="pt") as file:
            texts = dict(file.metadata() or {})
            numbers = StepNumbers(**parse_json(texts.pop(STEP_KEY)))
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
            f"{path} is not a dump of a step by guard.dump=true ({type(error).__name__}: {error})"
        ) from None
    return Dump(numbers, model, batches, texts)


def micro_batches_to_dump(not_finite: list[bool], *, anywhere: bool) -> list[int]:
    """The micro-batches of a rank whose loss is not finite; if that is so nowhere on any rank, all."""
    return [micro for micro, flag in enumerate(not_finite) if flag or not anywhere]
