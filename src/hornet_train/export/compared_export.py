"""An export in the making: what is compared on what, for graphs, weights and detectors."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hornet_train.config.schema import EvalConfig
from hornet_train.data.batch import Batch
from hornet_train.data.loader import EvalLoader, LoaderSettings
from hornet_train.data.sources.source import Source
from hornet_train.errors import ConfigError, DataError
from hornet_train.export.comparison import Comparison, Run, compare
from hornet_train.export.export_wanted import GRAPHS, Export
from hornet_train.export.exported_weights import open_huggingface, write_huggingface, write_official
from hornet_train.export.graph_files import write_graph
from hornet_train.export.object_comparison import compare_objects
from hornet_train.export.object_file import write_detector
from hornet_train.export.plain_graph import plain_graph
from hornet_train.export.provenance import Provenance
from hornet_train.images.size import Size, as_value, height_width
from hornet_train.models.structure import fuse
from hornet_train.run.onnx_detector import OnnxDetector
from hornet_train.run.open_predictor import open_predictor
from hornet_train.tasks.asked import Asked
from hornet_train.tasks.kit import Kit
from hornet_train.tasks.predictor_types import Graph, ObjectGraph, Predictor

COMPARED = 64  # pictures, at most, on which an export and the model are compared
CALIBRATED = 512  # pictures, at most, of which 8-bit integers take their ranges
_BATCH = 8
_NOISE = 8  # images, where there are no pictures
_OTHER = 32  # pixels by which images of another size are larger
_DRAWN = (256, 320)  # pixels of noise for detectors that take any size


@dataclass(frozen=True)
class Job:
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


Compared = Callable[[Path], Comparison]
"""Writes an export to a path, runs it, and compares."""


def graph_export(job: Job, graph: Graph, pictures: Source | None, calibration: Source | None) -> Compared:
    """Of a classifier or a segmentation model: its computation, or its weights alone.

    Args:
        pictures: to compare on; None: noise.
        calibration: for integers of 8 bits.

    Raises:
        DataError: no picture can be read.
        ConfigError: the model does not take images of the size.
    """
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


def detector_export(job: Job, graph: ObjectGraph, pictures: Source | None) -> Compared:
    """Of a detector: its computation in ONNX, or its weights.

    Args:
        pictures: to compare on; None: noise.

    Raises:
        DataError: no picture can be read.
        ConfigError: it has global filters, and the size of its images is not known.
    """
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
        other = size[1], size[0] + _OTHER
        more = [] if graph.size is not None else [(_noise(job.known, other)[:1], (size[1], size[0]))]
        return compare_objects(job.model, OnnxDetector(path), [*cases, *more])

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
    job: Job, graph: Graph, model: nn.Module, images: Tensor, ranges: Sequence[Tensor], path: Path
) -> Run:
    """Write the export, and open it again, ready to run."""
    if job.wanted.form == "huggingface":
        write_huggingface(copy.deepcopy(model), path, job.known)
        return open_huggingface(path)
    if job.wanted.form == "official":
        write_official(model, path, job.known)
        return job.again(path)
    return write_graph(job.wanted, graph, model, images, ranges, job.known.texts(), path)
