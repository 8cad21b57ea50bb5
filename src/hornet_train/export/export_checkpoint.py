"""An export from its config to its file, whatever the task."""

from __future__ import annotations

import copy
import math
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hornet_train.config.schema import EvalConfig
from hornet_train.data.loader import EvalLoader, LoaderSettings
from hornet_train.data.sources.source import Source
from hornet_train.errors import ConfigError, DataError, ExportError
from hornet_train.export.comparison import Comparison, Run, compare
from hornet_train.export.export_wanted import GRAPHS, Export
from hornet_train.export.graph_files import write_graph
from hornet_train.export.provenance import Provenance, provenance_of
from hornet_train.export.real_filters import has_filters
from hornet_train.images.size import Size, as_value, height_width
from hornet_train.models.spec import MODEL_ERRORS, first_line
from hornet_train.models.structure import fuse
from hornet_train.run.open_predictor import open_predictor
from hornet_train.tasks.asked import Asked
from hornet_train.tasks.kit import Kit
from hornet_train.tasks.model_check import filter_notes
from hornet_train.tasks.predictor_types import Graph, Predictor

COMPARED = 64  # pictures, at most, on which an export and the model are compared
CALIBRATED = 512  # pictures, at most, of which 8-bit integers take their ranges
_BATCH = 8
_NOISE = 8  # images, where there are no pictures
_OTHER = 32  # pixels by which images of another size are larger
# the largest difference, as a share of the largest output, with which an export is still the model
_EXACT, _HALF = 1e-4, 2e-2


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        out: the file or folder.
        size: of the images that it takes, in pixels; None: any, or it holds weights alone.
        megabytes: of all files.
        comparison: with the model.
        on_pictures: whether they were compared on pictures, else on noise.
        notes: one sentence for each thing that a user should know of.
    """

    out: Path
    size: Size | None
    megabytes: float
    comparison: Comparison
    on_pictures: bool
    notes: tuple[str, ...]


def run_export(
    kit: Kit[Any, Any],
    config: EvalConfig,
    wanted: Export,
    pictures: Source | None,
    calibration: Source | None,
    notes: Sequence[str] = (),
) -> Exported:
    """Write the model of a checkpoint for other programs, run what was written, and compare.

    Args:
        pictures: to compare on; None: noise.
        calibration: for integers of 8 bits; other ones than those to compare on.
        notes: what is known of the config.

    Raises:
        UserError: the checkpoint is at fault, the model cannot be exported so, or what was written says
            something else than the model: then it is removed.
    """
    config = replace(config, fuse=False, precision="fp32")
    predictor = open_predictor(kit, config, torch.device("cpu"), Asked(), notes)
    graph, model = predictor.graph, predictor.model.float()
    if graph is None:
        raise ConfigError([f"task={kit.schema.name}: its models cannot be exported"])
    if wanted.any_size and has_filters(model):
        raise ConfigError(
            ["--any-size: global filters (GF) are stored for images of one size; 7x7 models take any"]
        )
    known = provenance_of(
        kit.schema,
        config,
        predictor.classes,
        model.state_dict(),
        step=predictor.step,
        licence=wanted.licence,
    )
    noise = _noise(known, graph.size)
    batches = [noise] if pictures is None else _batches(predictor, graph, pictures, COMPARED)
    ranges = [] if calibration is None else _batches(predictor, graph, calibration, CALIBRATED)
    reference = _fused(model, graph, batches[0]) if wanted.form in GRAPHS else model
    with _folder_beside(wanted.out) as folder:
        path = folder / wanted.out.name
        run = _written(kit, config, wanted, graph, reference, batches[0], ranges, known, path)
        if wanted.any_size:
            height, width = height_width(graph.size)
            batches.append(_noise(known, (height + _OTHER, width + 2 * _OTHER)))
        try:
            found = compare(reference, run, batches)
        except MODEL_ERRORS as error:
            raise ExportError(f"{wanted.out} would not run ({first_line(error)}); it was removed") from error
        _judge(found, wanted)
        megabytes = sum(one.stat().st_size for one in folder.rglob("*") if one.is_file()) / 1e6
        _put(folder, wanted.out)
    slow = filter_notes(model, graph.size)  # which the graph is not: its filters are for these images
    told = [note for note in predictor.notes if wanted.form not in GRAPHS or note not in slow]
    size = graph.size if wanted.form in GRAPHS and not wanted.any_size else None
    return Exported(wanted.out, size, megabytes, found, pictures is not None, tuple(told))


def _batches(predictor: Predictor, graph: Graph, pictures: Source, most: int) -> list[Tensor]:
    """Images as the model takes them, of the first pictures that can be read.

    Raises:
        DataError: none can.
    """
    found: list[Tensor] = []
    loader = EvalLoader(pictures, predictor.samples, LoaderSettings(torch.device("cpu"), 0, 1), on_bad="skip")
    for number, loaded in enumerate(loader.batches(0, 1, _BATCH)):
        if number * _BATCH >= most:
            break
        if loaded.batch:
            found.append(graph.inputs(loaded.batch))
    if not found:
        raise DataError(f"none of the first pictures, {pictures.locate(0)} and so on, can be read")
    return found


def _noise(known: Provenance, size: Size) -> Tensor:
    channels = int(known.config["model"].get("in_chans") or 3)
    drawn = torch.Generator().manual_seed(0)
    return torch.randn(_NOISE, channels, *height_width(size), generator=drawn)


def _fused(model: nn.Module, graph: Graph, images: Tensor) -> nn.Module:
    """The model for inference on images of the size, which it is made sure to take.

    Raises:
        ConfigError: it does not take them.
    """
    made = copy.deepcopy(model)
    try:
        fuse(made, graph.size)
        with torch.inference_mode():
            made(images[:1])
    except (ValueError, RuntimeError, AssertionError) as error:
        size = as_value(graph.size)
        raise ConfigError([f"data.image_size={size} does not suit the model: {error}"]) from error
    return made


def _written(
    kit: Kit[Any, Any],
    config: EvalConfig,
    wanted: Export,
    graph: Graph,
    model: nn.Module,
    images: Tensor,
    ranges: Sequence[Tensor],
    known: Provenance,
    path: Path,
) -> Run:
    """Write the export, and open it again, ready to run."""
    if wanted.form == "huggingface":
        from hornet_train.export.exported_weights import open_huggingface, write_huggingface

        write_huggingface(copy.deepcopy(model), path, known)
        return open_huggingface(path)
    if wanted.form == "official":
        from hornet_train.export.exported_weights import write_official

        write_official(model, path, known)
        again = replace(config, checkpoint=str(path), weights=None)
        return open_predictor(kit, again, torch.device("cpu"), Asked()).model
    return write_graph(wanted, graph, model, images, ranges, known.texts(), path)


def _judge(found: Comparison, wanted: Export) -> None:
    """Raises ExportError where an export is not the model; 8-bit integers are near it, and a user judges."""
    most = _HALF if wanted.half else _EXACT
    if found.difference <= (math.inf if wanted.int8 else most):  # false of NaN
        return
    raise ExportError(
        f"{wanted.out} would differ from the model by {found.difference:.1e} of its largest output, more "
        f"than {most:.0e}; it was removed"
    )


@contextmanager
def _folder_beside(out: Path) -> Iterator[Path]:
    """A folder on the same disk, which is removed with what is left in it.

    Raises:
        ConfigError: nothing can be written there.
    """
    folder = out.absolute().parent / f".{out.name}.{os.getpid()}.tmp"
    shutil.rmtree(folder, ignore_errors=True)  # of a killed process with this number
    try:
        folder.mkdir()
    except OSError as error:
        raise ConfigError([f"--out={out} cannot be written: {error.strerror}"]) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _put(folder: Path, out: Path) -> None:
    """Give the files their names; that of the export itself last."""
    if out.is_dir():
        shutil.rmtree(out)
    for path in sorted(folder.iterdir(), key=lambda path: path.name == out.name):
        os.replace(path, out.parent / path.name)
