"""What a task brings, for training, evaluation, prediction, replay and pictures.

A task is a folder below `tasks/`, or a user's own module, with one `Kit`. Everything above `tasks` sees the
kit alone; everything below knows no task.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import nn

from hornet_train.config.schema import Config, EvalConfig
from hornet_train.config.task_schema import TaskSchema
from hornet_train.data.batch import Batch
from hornet_train.data.order import Plan
from hornet_train.data.worker import Samples
from hornet_train.engine.task import Task
from hornet_train.errors import CheckpointError, ConfigError
from hornet_train.models.weights import load_into
from hornet_train.tasks.asked import Asked
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
from hornet_train.tasks.stored_files import FilesFound, FilesToPack
from hornet_train.track.events import strict_json
from hornet_train.track.metric_table import MetricTable

C = TypeVar("C", bound=Config)
E = TypeVar("E", bound=EvalConfig)


class Kit(ABC, Generic[C, E]):
    """All that a task brings. `C` and `E` are its training and its evaluation config.

    Attributes:
        schema: its part of the config.
        metrics: what its evaluations find; the first chooses the best checkpoint.
    """

    schema: ClassVar[TaskSchema]
    metrics: ClassVar[MetricTable]

    @abstractmethod
    def open_data(
        self,
        data: Any,
        *,
        training: bool = True,
        classes: Sequence[str] | None = None,
        kept: Mapping[str, Path] | None = None,
    ) -> Datasets:
        """The samples that a data group names.

        Args:
            data: the group, of the schema's type.
            training: False leaves the training samples alone.
            classes: those of a checkpoint, where there is one: labels are to be places in them. Samples to
                train on keep their own where these are others, which is found out elsewhere.
            kept: `train`, `val` -> a list of its files as they were when the run began that goes on, for
                `FileTree`. Given only where an earlier start gave `Datasets.files`.

        Raises:
            DataError: they are not there, or not as they should be.
        """

    def model_defaults(self, config: C | E) -> dict[str, Any]:
        """Key -> value of settings that the model asks for, such as its preprocessing; by default none.

        They hold where neither the command line nor a checkpoint says otherwise.
        """
        del config
        return {}

    @abstractmethod
    def build_task(self, config: C | E, datasets: Datasets) -> Task:
        """The task for a training, or for an evaluation alone.

        Args:
            config: of either.
            datasets: what `open_data` gave; to go through the step of a dump, nothing but the classes.

        Raises:
            ConfigError: the config does not suit these classes.
        """

    @abstractmethod
    def train_samples(
        self, config: C, *, datasets: Datasets, steps_per_epoch: int, total_steps: int
    ) -> Samples:
        """What makes training samples of what is stored.

        `datasets`: what `open_data` gave, for a sample that is made of several.

        Raises:
            ConfigError: an augmentation that does not exist.
        """

    @abstractmethod
    def eval_samples(self, data: Any) -> Samples:
        """What makes evaluation samples of what is stored."""

    def repeats(self, config: C) -> int:
        """How often each training sample stands in a step (repeated augmentation): by default once."""
        del config
        return 1

    def check_model(
        self,
        model: nn.Module,
        config: C,
        datasets: Datasets,
        plan: Plan,
        *,
        total_steps: int,
        processes: int,
    ) -> ModelCheck:
        """Look at a built model before anything is trained: by default its parameters are counted.

        Raises:
            ConfigError: it cannot be trained on what it would be given.
        """
        del datasets, plan, total_steps, processes
        count = sum(parameter.numel() for parameter in model.parameters())
        return ModelCheck(f"{config.model.name}: {count:,} parameters")

    def largest_batch(self, config: C, datasets: Datasets, plan: Plan) -> Batch | None:
        """A micro-batch as large as any of the training, to find out whether it fits; by default none: they
        are all of one size."""
        del config, datasets, plan
        return None

    def start_from(self, model: nn.Module, weights: Weights, config: C, classes: Sequence[str]) -> list[str]:
        """Take over weights to train on from (`init_from`): by default all of them, strictly.

        Args:
            classes: of the training, in the order of the model's outputs.

        Returns:
            One sentence for each thing done beyond copying.

        Raises:
            CheckpointError: they are for another model.
        """
        if config.init_map is not None:
            raise ConfigError([f"init_map={config.init_map}: task={self.schema.name} takes no class map"])
        del classes
        return load_strictly(model, weights, adapt_stem=True)

    def open_evaluation(self, config: E, weights: Weights, device: torch.device) -> Evaluation:
        """The model with its weights, and the held-out samples of the data group.

        Args:
            config: of the evaluation.
            weights: of the checkpoint.
            device: of the evaluation; the model is moved there by the caller.

        Raises:
            UserError: the checkpoint is for another model or other classes, or the data are not there.
        """
        del device
        if config.init_map is not None:
            raise ConfigError([f"init_map={config.init_map}: task={self.schema.name} takes no class map"])
        datasets = self.open_data(config.data, training=False, classes=weights.classes or None)
        assert datasets.val is not None
        classes = tuple(weights.classes or datasets.classes)
        task = self.build_task(config, replace(datasets, classes=classes))
        model = task.build_model()
        notes = load_strictly(model, weights)
        samples = self.eval_samples(config.data)
        one = EvaluationSet(config.data.source, task, {"": datasets.val}, samples)
        return Evaluation(model, [one], notes=notes)

    def summary(self, one: EvaluationSet, parts: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
        """What eval.json says of a set: by default the metrics of its only part.

        Args:
            one: the set.
            parts: name -> its metrics, with `count`, and `bad` where samples could not be read.
        """
        del one
        (metrics,) = parts.values()
        return strict_json(self.metrics.headline_first({**metrics, "bad": metrics.get("bad", 0)}))

    def result_tables(self, result: Mapping[str, Any]) -> list[Table]:
        """Tables of what eval.json holds: by default one row with every metric of the task."""
        known = [row for row in self.metrics.rows if row.key in result]
        columns = ("model", "weights", *(row.label for row in known), "count", "images/s")
        values = ["nan" if result[row.key] is None else f"{result[row.key]:.3f}" for row in known]
        count = f"{result['count']:,}" + (f" ({result['bad']:,} could not be read)" if result["bad"] else "")
        speed = f"{result['images_per_second']:.1f}"
        return [
            Table(
                str(result["checkpoint"]),
                columns,
                [(result["model"], result["weights"], *values, count, speed)],
            )
        ]

    def draw_evaluation(self, evaluation: Evaluation) -> list[str]:
        """Write pictures for people about an evaluation that is done; by default none.

        On the main process alone, after `summary` of each set.

        Returns:
            A sentence for each thing that a user should know of.

        Raises:
            ConfigError: they cannot be written.
        """
        del evaluation
        return []

    def draw(self, config: C, *, images: int, epoch: int) -> Drawn:
        """A training batch as the model would see it.

        Args:
            images: how many, at most.
            epoch: of which the first batch is drawn.

        Raises:
            ConfigError: the task draws none, or these data cannot be drawn.
        """
        del config, images, epoch
        raise ConfigError([f"task={self.schema.name} does not draw its samples"])

    def open_prediction(self, config: E, weights: Weights, asked: Asked) -> Predictor:
        """The model with its weights, ready to answer for pictures. No data set is needed.

        Args:
            config: of an evaluation.
            weights: of the checkpoint.
            asked: what the answers are to say.

        Raises:
            CheckpointError: the checkpoint is for another model.
            ConfigError: the task does not answer for pictures, or not as asked.
        """
        del config, weights, asked
        raise ConfigError([f"task={self.schema.name} does not predict"])

    def describe_model(self, config: Any, given: Collection[str]) -> ModelParts | None:
        """The parts of a model and their cost, for hornet-info; by default None: it is a model of timm's.

        Args:
            config: of the schema's `info`.
            given: the keys that the command line sets.

        Raises:
            ConfigError: there is no such model, or it does not take images of that size.
        """
        del config, given
        return None

    def check_data(self, data: Any, *, open_files: bool = True) -> FilesFound:
        """Look at every sample of a data group, for `hornet-data check data=...`; see `DataFiles`.

        Raises:
            DataError: there is nothing to check.
            ConfigError: the task does not check data groups.
        """
        del data, open_files
        raise ConfigError([f"task={self.schema.name}: hornet-data check takes a folder: its class folders"])

    def check_files(self, root: Path, splits: tuple[str, ...], *, open_files: bool) -> FilesFound:
        """See `DataFiles`; by default a task has no data sets of files."""
        del root, splits, open_files
        raise ConfigError([f"task={self.schema.name} does not check data sets"])

    def list_files(self, folder: Path, name: str, labels: Path | None) -> FilesToPack:
        """See `DataFiles`; by default a task has no data sets of files."""
        del folder, name, labels
        raise ConfigError([f"task={self.schema.name} does not pack data sets"])


def load_strictly(model: nn.Module, weights: Weights, *, adapt_stem: bool = False) -> list[str]:
    """Copy a checkpoint's weights into a model that must have exactly these; what was done beyond copying.

    `adapt_stem`: but for the channels of its images; see `load_into`.

    Raises:
        CheckpointError: they are for another model.
    """
    try:
        return load_into(model, weights.tensors, adapt_stem=adapt_stem)
    except CheckpointError as error:
        raise CheckpointError(f"{weights.place}: {error}") from error
