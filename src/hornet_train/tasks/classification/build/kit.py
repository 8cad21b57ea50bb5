"""The kit of classification: its config joined to its components."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hornet_train.data.order import Plan
from hornet_train.images.size import times
from hornet_train.tasks.asked import Asked
from hornet_train.tasks.classification.build.channels import channel_notes
from hornet_train.tasks.classification.build.components import (
    build_task,
    eval_transform,
    growth_of,
    preprocessing_of_model,
    stretch_notes,
    train_transform,
)
from hornet_train.tasks.classification.build.draw import draw_batch
from hornet_train.tasks.classification.build.evaluation import open_evaluation
from hornet_train.tasks.classification.build.open_data import open_data
from hornet_train.tasks.classification.build.predict import open_prediction
from hornet_train.tasks.classification.head import read_class_map, start_classifier
from hornet_train.tasks.classification.layout.data_files import ClassFolders
from hornet_train.tasks.classification.metrics import METRICS
from hornet_train.tasks.classification.results import result_tables, summary
from hornet_train.tasks.classification.rules import SCHEMA
from hornet_train.tasks.classification.samples import EvalSamples, TrainSamples
from hornet_train.tasks.classification.schema import ClassificationConfig, ClassificationEval, Data
from hornet_train.tasks.classification.task import Classification
from hornet_train.tasks.kit import Kit
from hornet_train.tasks.kit_types import (
    Datasets,
    Drawn,
    Evaluation,
    EvaluationSet,
    ModelCheck,
    Table,
    Weights,
)
from hornet_train.tasks.model_check import (
    check_image_size,
    check_micro_batches,
    filter_notes,
)
from hornet_train.tasks.predictor_types import Predictor


class ClassificationKit(ClassFolders, Kit[ClassificationConfig, ClassificationEval]):
    """One label an image; see `Kit` for what each method is asked for."""

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
        return open_data(data, training=training, classes=classes, kept=kept)

    def model_defaults(self, config: ClassificationConfig | ClassificationEval) -> dict[str, Any]:
        return preprocessing_of_model(config)

    def build_task(
        self, config: ClassificationConfig | ClassificationEval, datasets: Datasets
    ) -> Classification:
        return build_task(config, len(datasets.classes))

    def train_samples(
        self, config: ClassificationConfig, *, datasets: Datasets, steps_per_epoch: int, total_steps: int
    ) -> TrainSamples:
        del datasets
        growth = growth_of(config, steps_per_epoch=steps_per_epoch, total_steps=total_steps)
        transform = train_transform(config, growth)
        if config.data.workers:
            transform.warm_up()
        return TrainSamples(transform, config.seed, exif=config.data.exif)

    def eval_samples(self, data: Data) -> EvalSamples:
        return EvalSamples(eval_transform(data), exif=data.exif)

    def repeats(self, config: ClassificationConfig) -> int:
        return config.augment.repeats

    def check_model(
        self,
        model: nn.Module,
        config: ClassificationConfig,
        datasets: Datasets,
        plan: Plan,
        *,
        total_steps: int,
        processes: int,
    ) -> ModelCheck:
        del datasets
        name, size, channels = config.model.name, config.data.image_size, config.model.in_chans
        cost = check_image_size(model, name, size, in_chans=channels)
        growth = growth_of(config, steps_per_epoch=plan.steps_per_epoch, total_steps=total_steps)
        smallest = size
        if growth is not None:
            smallest = growth(0)
            check_image_size(model, name, smallest, "augment.start_size", in_chans=channels)
        check_micro_batches(
            *(model, name, plan),
            image_size=smallest,
            total_steps=total_steps,
            processes=processes,
            in_chans=channels,
        )
        grey = ", grey" if channels == 1 else ""
        about = f"{name}: {cost.parameters:,} parameters, {cost.macs / 1e9:.3g} GMACs at {times(size)}{grey}"
        return ModelCheck(about, [*filter_notes(model, size), *channel_notes(config), *stretch_notes(config)])

    def start_from(
        self, model: nn.Module, weights: Weights, config: ClassificationConfig, classes: Sequence[str]
    ) -> list[str]:
        rows = read_class_map(Path(config.init_map)) if config.init_map is not None else None
        return start_classifier(model, weights, rows, classes)

    def open_evaluation(
        self, config: ClassificationEval, weights: Weights, device: torch.device
    ) -> Evaluation:
        return open_evaluation(config, weights, device)

    def summary(self, one: EvaluationSet, parts: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
        return summary(one.name, parts, one.left_out)

    def result_tables(self, result: Mapping[str, Any]) -> list[Table]:
        return result_tables(result)

    def draw(self, config: ClassificationConfig, *, images: int, epoch: int) -> Drawn:
        return draw_batch(config, images=images, epoch=epoch)

    def open_prediction(self, config: ClassificationEval, weights: Weights, asked: Asked) -> Predictor:
        return open_prediction(config, weights, asked)


KIT = ClassificationKit()
