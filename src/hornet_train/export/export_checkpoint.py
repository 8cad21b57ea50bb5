"""An export from its config to its file, whatever the task."""

from __future__ import annotations

import copy
import math
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hornet_train.config.schema import EvalConfig
from hornet_train.data.batch import Batch
from hornet_train.data.loader import EvalLoader, LoaderSettings
from hornet_train.data.sources.source import Source
from hornet_train.errors import ConfigError, DataError, ExportError
from hornet_train.export.comparison import Comparison, Run, compare
from hornet_train.export.export_wanted import GRAPHS, NO_SIZES, Export
from hornet_train.export.exported_weights import open_huggingface, write_huggingface, write_official
from hornet_train.export.graph_files import write_graph
from hornet_train.export.object_comparison import compare_objects
from hornet_train.export.object_file import write_detector
from hornet_train.export.plain_graph import plain_graph
from hornet_train.export.provenance import Provenance, provenance_of
from hornet_train.images.size import Size, as_value, height_width
from hornet_train.models.global_filter import has_filters
from hornet_train.models.spec import MODEL_ERRORS, first_line
from hornet_train.models.structure import fuse
from hornet_train.run.onnx_detector import OnnxDetector
from hornet_train.run.open_predictor import open_predictor
from hornet_train.tasks.asked import Asked
from hornet_train.tasks.kit import Kit
from hornet_train.tasks.model_check import filter_notes
from hornet_train.tasks.predictor_types import Graph, ObjectGraph, Predictor

COMPARED = 64  # pictures, at most, on which an export and the model are compared
CALIBRATED = 512  # pictures, at most, of which 8-bit integers take their ranges
_BATCH = 8
_NOISE = 8  # images, where there are no pictures
_OTHER = 32  # pixels by which images of another size are larger
# the largest difference, as a share of the largest output, with which an export is still the model
_EXACT, _HALF = 1e-4, 2e-2
_FOUND = 1e-3  # of scores, masks and boxes
_SAME_OBJECTS = 0.9  # share of objects: of two that overlap, with equal scores, either may be left
_DRAWN = (256, 320)  # pixels of noise for detectors that take any size


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
    known = provenance_of(
        kit.schema,
        config,
        predictor.classes,
        model.state_dict(),
        step=predictor.step,
        licence=wanted.licence,
    )
    job = _Job(kit, config, wanted, predictor, model, known)
    if isinstance(graph, ObjectGraph):
        wanted.check_detector(fixed=graph.size is not None)
        size: Size | None = graph.size
        compared = _detector_export(job, graph, pictures)
    else:
        if wanted.any_size and has_filters(model):
            raise ConfigError([NO_SIZES])
        size = None if wanted.any_size else graph.size
        compared = _graph_export(job, graph, pictures, calibration)
    with _folder_beside(wanted.out) as folder:
        try:
            found = compared(folder / wanted.out.name)
        except MODEL_ERRORS as error:
            raise ExportError(f"{wanted.out} would not run ({first_line(error)}); it was removed") from error
        _judge(found, wanted)
        megabytes = sum(one.stat().st_size for one in folder.rglob("*") if one.is_file()) / 1e6
        _put(folder, wanted.out)
    # of what is slow here, which the graph is not: its filters are for these images
    slow = filter_notes(model, size) if size is not None and wanted.form in GRAPHS else []
    told = [note for note in predictor.notes if note not in slow]
    shown = size if wanted.form in GRAPHS else None
    return Exported(wanted.out, shown, megabytes, found, pictures is not None, tuple(told))


@dataclass(frozen=True)
class _Job:
    """An export in the making."""

    kit: Kit[Any, Any]
    config: EvalConfig
    wanted: Export
    predictor: Predictor
    model: nn.Module
    known: Provenance

    def again(self, path: Path) -> nn.Module:
        """The model of an official file that was written."""
        config = replace(self.config, checkpoint=str(path), weights=None)
        return open_predictor(self.kit, config, torch.device("cpu"), Asked()).model


_Compared = Callable[[Path], Comparison]
"""Writes an export to a path, runs it, and compares."""


def _graph_export(job: _Job, graph: Graph, pictures: Source | None, calibration: Source | None) -> _Compared:
    wanted, noise = job.wanted, _noise(job.known, graph.size)
    loaded = [] if pictures is None else _loaded(job.predictor, pictures, COMPARED)
    batches = [graph.inputs(batch) for batch in loaded] or [noise]
    seen = [] if calibration is None else _loaded(job.predictor, calibration, CALIBRATED)
    ranges = [graph.inputs(batch) for batch in seen]
    reference = _fused(job.model, graph, batches[0]) if wanted.form in GRAPHS else job.model

    def compared(path: Path) -> Comparison:
        run = _written(job, graph, reference, batches[0], ranges, path)
        more = []
        if wanted.any_size:
            height, width = height_width(graph.size)
            more = [_noise(job.known, (height + _OTHER, width + 2 * _OTHER))]
        return compare(reference, run, [*batches, *more])

    return compared


def _detector_export(job: _Job, graph: ObjectGraph, pictures: Source | None) -> _Compared:
    size = graph.size or _DRAWN
    if not all(size):
        raise ConfigError(["global filters (GF) are for images of one size: give data.scale=[SHORT,LONG]"])
    loaded = [] if pictures is None else _loaded(job.predictor, pictures, COMPARED)
    cases = [case for batch in loaded for case in graph.inputs(batch)]
    if not cases:
        cases = [(image[None], size) for image in _noise(job.known, size)]

    def compared(path: Path) -> Comparison:
        if job.wanted.form == "official":
            write_official(job.model, path, job.known)
            return compare_objects(job.model, job.again(path), cases)
        plain = plain_graph(graph.plain(job.model), cases[0][0], any_size=graph.size is None)
        write_detector(plain, graph, cases[0][0], path, opset=job.wanted.opset, texts=job.known.texts())
        other = (
            [] if graph.size else [(_noise(job.known, (size[1], size[0] + _OTHER))[:1], (size[1], size[0]))]
        )
        return compare_objects(job.model, OnnxDetector(path), [*cases, *other])

    return compared


def _loaded(predictor: Predictor, pictures: Source, most: int) -> list[Batch]:
    """The first pictures that can be read, in batches.

    Raises:
        DataError: none can.
    """
    found: list[Batch] = []
    loader = EvalLoader(pictures, predictor.samples, LoaderSettings(torch.device("cpu"), 0, 1), on_bad="skip")
    for number, loaded in enumerate(loader.batches(0, 1, _BATCH)):
        if number * _BATCH >= most:
            break
        if loaded.batch:
            found.append(loaded.batch)
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
    job: _Job, graph: Graph, model: nn.Module, images: Tensor, ranges: Sequence[Tensor], path: Path
) -> Run:
    """Write the export, and open it again, ready to run."""
    if job.wanted.form == "huggingface":
        write_huggingface(copy.deepcopy(model), path, job.known)
        return open_huggingface(path)
    if job.wanted.form == "official":
        write_official(model, path, job.known)
        return job.again(path)
    return write_graph(job.wanted, graph, model, images, ranges, job.known.texts(), path)


def _judge(found: Comparison, wanted: Export) -> None:
    """Raises ExportError where an export is not the model; 8-bit integers are near it, and a user judges."""
    most = _HALF if wanted.half else _EXACT if found.objects is None else _FOUND
    if not found.difference <= (math.inf if wanted.int8 else most):  # of NaN, too
        raise ExportError(
            f"{wanted.out} would differ from the model by {found.difference:.1e} of its largest output, more "
            f"than {most:.0e}; it was removed"
        )
    if found.objects is not None and found.same_class < _SAME_OBJECTS:
        raise ExportError(
            f"{wanted.out} would find other objects than the model, {found.same_class:.1%} the same; it was "
            "removed"
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
