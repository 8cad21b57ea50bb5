"""The kit of segmentation: its config joined to its components."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from hornet_train.data.order import Plan
from hornet_train.dense.segmenter import Segmenter
from hornet_train.errors import ConfigError
from hornet_train.images.geometry import scaled_size
from hornet_train.images.size import as_value, height_width, times
from hornet_train.tasks.asked import Asked
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
from hornet_train.tasks.model_check import check_image_size, filter_notes
from hornet_train.tasks.predictor_types import Predictor
from hornet_train.tasks.segmentation.build.components import (
    build_task,
    eval_transform,
    preprocessing_of_backbone,
    train_transform,
)
from hornet_train.tasks.segmentation.build.describe import describe_model
from hornet_train.tasks.segmentation.build.draw import draw_batch
from hornet_train.tasks.segmentation.build.evaluation import open_evaluation
from hornet_train.tasks.segmentation.build.open_data import PictureDatasets, open_pictures
from hornet_train.tasks.segmentation.build.predict import open_prediction
from hornet_train.tasks.segmentation.figures import draw_classes, draw_worst
from hornet_train.tasks.segmentation.gallery import Gallery
from hornet_train.tasks.segmentation.layout.check_masks import check_pictures
from hornet_train.tasks.segmentation.layout.data_files import MaskFiles
from hornet_train.tasks.segmentation.metrics import METRICS
from hornet_train.tasks.segmentation.results import most_confused, per_class, result_tables
from hornet_train.tasks.segmentation.rules import SCHEMA
from hornet_train.tasks.segmentation.samples import EvalSamples, TrainSamples
from hornet_train.tasks.segmentation.schema import (
    Data,
    SegmentationConfig,
    SegmentationEval,
    SegmentationInfo,
)
from hornet_train.tasks.segmentation.sources.scan import MaskScan
from hornet_train.tasks.segmentation.starting_weights import start_segmenter
from hornet_train.tasks.segmentation.task import Segmentation
from hornet_train.tasks.stored_files import FilesFound


class SegmentationKit(MaskFiles, Kit[SegmentationConfig, SegmentationEval]):
    """A class for every pixel; see `Kit` for what each method is asked for."""

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
        return open_pictures(data, training=training, classes=classes)

    def model_defaults(self, config: SegmentationConfig | SegmentationEval) -> dict[str, Any]:
        return preprocessing_of_backbone(config)

    def build_task(self, config: SegmentationConfig | SegmentationEval, datasets: Datasets) -> Segmentation:
        training = config if isinstance(config, SegmentationConfig) else None
        weights = class_weights(training, datasets) if training else ()
        auxiliary = training.task.auxiliary if training else 1.0
        return build_task(config, len(datasets.classes), auxiliary=auxiliary, class_weights=weights)

    def train_samples(
        self, config: SegmentationConfig, *, datasets: Datasets, steps_per_epoch: int, total_steps: int
    ) -> TrainSamples:
        del datasets, steps_per_epoch, total_steps  # nothing depends on how long the run is
        return TrainSamples(train_transform(config.data, config.augment), config.seed)

    def eval_samples(self, data: Data) -> EvalSamples:
        return EvalSamples(eval_transform(data))

    def check_model(
        self,
        model: nn.Module,
        config: SegmentationConfig,
        datasets: Datasets,
        plan: Plan,
        *,
        total_steps: int,
        processes: int,
    ) -> ModelCheck:
        del plan, total_steps, processes  # single pictures are tried by whoever builds the run
        size = config.data.image_size
        check_crop(config, looked_at(config, datasets))
        cost = check_image_size(model, config.model.name, size)
        about = (
            f"{config.model.name}: {cost.parameters:,} parameters, {cost.macs / 1e9:.4g} GMACs a crop of "
            f"{times(size)}"
        )
        notes = filter_notes(model, size)
        if config.init_from is None and config.augment.fill == "mean":
            notes.append(
                "weights start at random, and the padding of small crops is 0 to the model: norms divide by "
                "the spread of such pixels, 0 then; augment.fill=black avoids gradients that are not finite"
            )
        return ModelCheck(about, notes)

    def start_from(
        self, model: nn.Module, weights: Weights, config: SegmentationConfig, classes: Sequence[str]
    ) -> list[str]:
        del config
        assert isinstance(model, Segmenter)
        return start_segmenter(model, weights, classes)

    def open_evaluation(self, config: SegmentationEval, weights: Weights, device: torch.device) -> Evaluation:
        del device
        return open_evaluation(config, weights)

    def summary(self, one: EvaluationSet, parts: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
        gallery = _gallery(one)
        assert gallery.counts is not None
        assert gallery.boundaries is not None
        classes = per_class(gallery.counts, gallery.boundaries, gallery.classes)
        counts = gallery.counts.tolist()
        return {**super().summary(one, parts), "per_class": classes, "confusion": counts}

    def result_tables(self, result: Mapping[str, Any]) -> list[Table]:
        return result_tables(result)

    def draw_evaluation(self, evaluation: Evaluation) -> list[str]:
        (one,) = evaluation.sets
        gallery, classes = _gallery(one), _gallery(one).classes
        assert gallery.counts is not None
        found, title = most_confused(gallery.counts, classes), f"{one.name}: "
        try:
            if gallery.worst:
                place = gallery.folder / "worst.png"
                draw_worst(gallery.worst, classes, place, title + "the pictures of the lowest mIoU")
                place = gallery.folder / "classes.png"
                draw_classes(gallery.counts, classes, place, title + "classes")
        except OSError as error:
            raise ConfigError([f"{place} cannot be written ({error.strerror}): save_dir=<folder>"]) from error
        drawn = [*gallery.save, *(["worst.png", "classes.png"] if gallery.worst else [])]
        return [*found, *([f"pictures in {gallery.folder}: {', '.join(drawn)}"] if drawn else [])]

    def describe_model(self, config: SegmentationInfo, given: Collection[str]) -> ModelParts:
        return describe_model(config, given)

    def check_data(self, data: Data, *, open_files: bool = True) -> FilesFound:
        return check_pictures(data, open_files=open_files)

    def draw(self, config: SegmentationConfig, *, images: int, epoch: int) -> Drawn:
        return draw_batch(config, images=images, epoch=epoch)

    def open_prediction(self, config: SegmentationEval, weights: Weights, asked: Asked) -> Predictor:
        return open_prediction(config, weights, asked)


def looked_at(config: SegmentationConfig, datasets: Datasets) -> MaskScan:
    """What some training masks hold; for classes alone, as a dump has them, the data are opened for it."""
    if isinstance(datasets, PictureDatasets):
        return datasets.looked_at
    return open_pictures(config.data, held_out=False, classes=datasets.classes).looked_at


def class_weights(config: SegmentationConfig, datasets: Datasets) -> tuple[float, ...]:
    """What `task.class_weights` asks for: `auto` is the median of the classes' shares over the share of each.

    Median frequency balancing (Eigen and Fergus, ICCV 2015), by the pixels of the masks that are looked at at
    every start. A class that is not among them counts as the rarest that is.

    Raises:
        ConfigError: they are not as many as the classes.
    """
    given, classes = config.task.class_weights, len(datasets.classes)
    if given is None:
        return ()
    if given == "auto":
        shares = looked_at(config, datasets).shares()
        present = shares[shares > 0]
        shares = np.where(shares > 0, shares, present.min())
        return tuple((np.median(present) / shares).tolist())
    if len(given) != classes:
        raise ConfigError(
            [f"task.class_weights has {len(given)} values, and the data {classes} classes: one for each"]
        )
    return given


def check_crop(config: SegmentationConfig, masks: MaskScan) -> None:
    """Refuse crops that are larger than any of the pictures that were looked at: most would be padding.

    Args:
        config: of the training.
        masks: what `looked_at` gave.

    Raises:
        ConfigError: they are.
    """
    data = config.data
    largest = [scaled_size(size, data.scale, config.augment.ratio[1]) for size in masks.sizes]
    wanted = height_width(data.image_size)
    if all(height < wanted[0] and width < wanted[1] for height, width in largest):
        height, width = max(largest)
        raise ConfigError(
            f"data.image_size={as_value(data.image_size)} is larger than any picture: of those looked at, "
            f"even enlarged by augment.ratio, the largest has {height}x{width} pixels; data.image_size="
            f"{min(height, width) // 32 * 32 or 32}, say"
        )


def _gallery(one: EvaluationSet) -> Gallery:
    assert isinstance(one.task, Segmentation)
    assert isinstance(one.task.keeper, Gallery)
    return one.task.keeper


KIT = SegmentationKit()
