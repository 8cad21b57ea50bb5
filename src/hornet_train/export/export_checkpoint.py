"""An export from its config to its file, whatever the task."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from hornet_train.config.schema import EvalConfig
from hornet_train.data.sources.source import Source
from hornet_train.errors import ConfigError, ExportError
from hornet_train.export.compared_export import Job, detector_export, graph_export
from hornet_train.export.comparison import Comparison
from hornet_train.export.export_wanted import GRAPHS, NO_SIZES, Export
from hornet_train.export.provenance import provenance_of
from hornet_train.images.size import Size
from hornet_train.models.global_filter import has_filters
from hornet_train.models.spec import first_line
from hornet_train.run.open_predictor import open_predictor
from hornet_train.tasks.asked import Asked
from hornet_train.tasks.kit import Kit
from hornet_train.tasks.model_check import filter_notes
from hornet_train.tasks.predictor_types import ObjectGraph

# the largest difference, as a share of the largest output, with which an export is still the model
_EXACT, _HALF = 1e-4, 2e-2
_FOUND = 1e-3  # of scores, masks and boxes
_SAME_OBJECTS = 0.9  # share of objects: of two that overlap, with equal scores, either may be left


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
    job = Job(kit, config, wanted, predictor, model, known)
    if isinstance(graph, ObjectGraph):
        wanted.check_detector(fixed=graph.size is not None)
        size: Size | None = graph.size
        compared = detector_export(job, graph, pictures)
    else:
        if wanted.any_size and has_filters(model):
            raise ConfigError([NO_SIZES])
        size = None if wanted.any_size else graph.size
        compared = graph_export(job, graph, pictures, calibration)
    with _folder_beside(wanted.out) as folder:
        try:
            found = compared(folder / wanted.out.name)
        except RuntimeError as error:
            raise ExportError(f"{wanted.out} would not run ({first_line(error)}); it was removed") from error
        _judge(found, wanted)
        megabytes = sum(one.stat().st_size for one in folder.rglob("*") if one.is_file()) / 1e6
        _put(folder, wanted.out)
    # of what is slow here, which the graph is not: its filters are for these images
    slow = filter_notes(model, size) if size is not None and wanted.form in GRAPHS else []
    told = [note for note in predictor.notes if note not in slow]
    shown = size if wanted.form in GRAPHS else None
    return Exported(wanted.out, shown, megabytes, found, pictures is not None, tuple(told))


def _judge(found: Comparison, wanted: Export) -> None:
    """Raises ExportError where an export is not the model; 8-bit integers are near it, and a user judges."""
    most = _HALF if wanted.half else _EXACT if found.objects is None else _FOUND
    if not found.difference <= (math.inf if wanted.int8 else most):  # of NaN, too
        what = "of its largest output" if found.objects is None else "in scores, masks or boxes"
        raise ExportError(
            f"{wanted.out} would differ from the model by {found.difference:.1e} {what}, more than "
            f"{most:.0e}; it was removed"
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
