"""The kit of detection: its config joined to its components."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from hornet_train.data.batch import Batch
from hornet_train.data.order import Plan
from hornet_train.dense.rcnn.detector import Detector
from hornet_train.errors import ConfigError
from hornet_train.tasks.asked import Asked
from hornet_train.tasks.detection.build.components import (
    build_task,
    eval_transform,
    preparation_notes,
    preprocessing_of_backbone,
    train_samples,
)
from hornet_train.tasks.detection.build.describe import describe_model
from hornet_train.tasks.detection.build.draw import draw_batch
from hornet_train.tasks.detection.build.evaluation import open_evaluation
from hornet_train.tasks.detection.build.largest import largest_batch
from hornet_train.tasks.detection.build.open_data import ObjectDatasets, check_outlines, open_objects
from hornet_train.tasks.detection.build.predict import open_prediction
from hornet_train.tasks.detection.figures import draw_precision, draw_worst
from hornet_train.tasks.detection.gallery import Gallery
from hornet_train.tasks.detection.layout.check_objects import check_pictures
from hornet_train.tasks.detection.layout.data_files import ObjectFiles
from hornet_train.tasks.detection.metrics import METRICS
from hornet_train.tasks.detection.results import per_class, result_tables
from hornet_train.tasks.detection.rules import SCHEMA
from hornet_train.tasks.detection.samples import EvalSamples, TrainSamples
from hornet_train.tasks.detection.schema import Data, DetectionConfig, DetectionEval, DetectionInfo
from hornet_train.tasks.detection.starting_weights import start_detector
from hornet_train.tasks.detection.task import Detection
from hornet_train.tasks.kit import Kit
from hornet_train.tasks.kit_types import (
    Datasets,
    Drawn,
    Evaluation,
    EvaluationSet,
    ModelCheck,
    ModelParts,
    Table,
    Weights,
)
from hornet_train.tasks.predictor_types import Predictor
from hornet_train.tasks.stored_files import FilesFound


class DetectionKit(ObjectFiles, Kit[DetectionConfig, DetectionEval]):
    """Boxes of objects, and their masks; see `Kit` for what each method is asked for."""

    schema = SCHEMA
    metrics = METRICS

    def open_data(
        self,
        data: Data,
        *,
        training: bool = True,
        classes: Sequence[str] | None = None,
        kept: Mapping[str, Path] | None = None,
    ) -> Datasets:
        del kept  # none is asked for: lists of files are not kept
        return open_objects(data, training=training, classes=classes)

    def model_defaults(self, config: DetectionConfig | DetectionEval) -> dict[str, Any]:
        return preprocessing_of_backbone(config)

    def build_task(self, config: DetectionConfig | DetectionEval, datasets: Datasets) -> Detection:
        truth, present = (
            (datasets.val, datasets.present) if isinstance(datasets, ObjectDatasets) else (None, ())
        )
        return build_task(config, len(datasets.classes), truth=truth, present=present)

    def train_samples(
        self, config: DetectionConfig, *, datasets: Datasets, steps_per_epoch: int, total_steps: int
    ) -> TrainSamples:
        del steps_per_epoch, total_steps  # nothing depends on how long the run is
        assert isinstance(datasets, ObjectDatasets)
        assert datasets.train is not None
        return train_samples(config, datasets.train)

    def eval_samples(self, data: Data) -> EvalSamples:
        return EvalSamples(eval_transform(data))

    def check_model(
        self,
        model: nn.Module,
        config: DetectionConfig,
        datasets: Datasets,
        plan: Plan,
        *,
        total_steps: int,
        processes: int,
    ) -> ModelCheck:
        del plan, total_steps, processes
        assert isinstance(datasets, ObjectDatasets)
        assert datasets.train is not None
        notes = check_outlines(config.model, datasets.train)
        if datasets.val is not None:
            notes += check_outlines(config.model, datasets.val)
        notes += preparation_notes(config)
        count = sum(parameter.numel() for parameter in model.parameters())
        return ModelCheck(f"{config.model.name}: {count:,} parameters", notes)

    def largest_batch(self, config: DetectionConfig, datasets: Datasets, plan: Plan) -> Batch | None:
        assert isinstance(datasets, ObjectDatasets)
        if not config.task.try_largest:
            return None
        return largest_batch(config, datasets, plan.micro_batch_size)

    def start_from(
        self, model: nn.Module, weights: Weights, config: DetectionConfig, classes: Sequence[str]
    ) -> list[str]:
        del config
        assert isinstance(model, Detector)
        return start_detector(model, weights, classes)

    def open_evaluation(self, config: DetectionEval, weights: Weights, device: torch.device) -> Evaluation:
        del device
        return open_evaluation(config, weights)

    def summary(self, one: EvaluationSet, parts: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
        gallery = _gallery(one)
        return {
            **super().summary(one, parts),
            "per_class": per_class(gallery.precision, _objects(gallery), gallery.classes),
        }

    def result_tables(self, result: Mapping[str, Any]) -> list[Table]:
        return result_tables(result)

    def draw_evaluation(self, evaluation: Evaluation) -> list[str]:
        (one,) = evaluation.sets
        gallery, title = _gallery(one), f"{one.name}: "
        drawn = ["overlays"] if "overlays" in gallery.save else []
        if "json" in gallery.save:
            drawn += [f"{kind}_results.json" for kind in gallery.precision]
        try:
            if gallery.most and gallery.precision:
                place = gallery.folder / "precision.png"
                counts = _objects(gallery)
                draw_precision(gallery.precision, counts, gallery.classes, place, title + "precision")
                drawn.append(place.name)
            if gallery.worst:
                place = gallery.folder / "worst.png"
                draw_worst(gallery.worst, place, title + "the pictures with most mistakes")
                drawn.append(place.name)
        except OSError as error:
            raise ConfigError([f"{place} cannot be written ({error.strerror}): save_dir=<folder>"]) from error
        return [f"pictures in {gallery.folder}: {', '.join(drawn)}"] if drawn else []

    def check_data(self, data: Data, *, open_files: bool = True) -> FilesFound:
        return check_pictures(data, open_files=open_files)

    def describe_model(self, config: DetectionInfo, given: Collection[str]) -> ModelParts:
        return describe_model(config, given)

    def draw(self, config: DetectionConfig, *, images: int, epoch: int) -> Drawn:
        return draw_batch(config, images=images, epoch=epoch)

    def open_prediction(self, config: DetectionEval, weights: Weights, asked: Asked) -> Predictor:
        return open_prediction(config, weights, asked)


def _gallery(one: EvaluationSet) -> Gallery:
    assert isinstance(one.task, Detection)
    assert isinstance(one.task.keeper, Gallery)
    return one.task.keeper


def _objects(gallery: Gallery) -> list[int]:
    """How many objects of each class there are in the pictures, crowds left out."""
    table = gallery.source.objects
    labels = table.labels[~table.crowd]
    counts: list[int] = np.bincount(labels, minlength=len(gallery.categories)).tolist()
    return counts


KIT = DetectionKit()
