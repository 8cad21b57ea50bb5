"""What a task's kit takes and gives: data sets, weights, evaluations, tables, pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from hornet_train.data.order import Shapes
from hornet_train.data.sources.files import FileTree
from hornet_train.data.sources.source import Shards, Source
from hornet_train.data.worker import BadSample, Samples
from hornet_train.engine.task import Task

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class Datasets:
    """The training and the held-out samples as they are stored.

    Attributes:
        train, val: None where there are none, or none are needed.
        classes: names of the classes, in the order of the outputs of a model.
        shuffle_block: samples that each worker of a stream holds and shuffles.
        dealt: by which numbers shards are dealt out, on which the order of a stream's samples depends.
        facts: what the start panel says of the data beside their numbers.
        notes: one sentence for each thing that a user should know of.
        absent: how many classes have no held-out sample, as far as is known without reading these.
        files: `train`, `val` -> the tree of files that it is stored in, where it is.
        shapes: of the training samples, where those of a step are to have like ones.
    """

    train: Source | Shards | None
    val: Source | Shards | None
    classes: tuple[str, ...]
    shuffle_block: int = 1
    dealt: Mapping[str, int] = field(default_factory=dict)
    facts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    absent: int = 0
    files: Mapping[str, FileTree] = field(default_factory=dict)
    shapes: Shapes | None = None

    def identity(self) -> dict[str, Any]:
        """What makes these samples these samples, as JSON: a run is one of the same samples throughout."""
        parts = {"train": self.train, "val": self.val}
        return {
            "classes": list(self.classes),
            **{
                name: {"samples": samples_of(source), "sha256": source.fingerprint}
                for name, source in parts.items()
                if source is not None
            },
            **({"dealt": dict(self.dealt)} if self.dealt else {}),
        }


def samples_of(source: Source | Shards) -> int:
    """How many samples there are."""
    return sum(source.lengths) if isinstance(source, Shards) else len(source)


class ExportedModel(nn.Module):
    """Images (B, C, H, W), float32, to an output; see `Graph`.

    Attributes:
        size: (height, width) in pixels that images must have; None: any.
    """

    size: tuple[int, int] | None


@dataclass(frozen=True)
class Weights:
    """Weights from a checkpoint.

    Attributes:
        tensors: a state dict.
        place: the step folder or file they are from.
        name: `model` or `ema`.
        step: of the run; None where it is not known.
        classes: their names in the order of the outputs; empty where they are not known.
        notes: one sentence for each thing a user should know of.
        exported: in place of the tensors, a model that is a function of images.
    """

    tensors: dict[str, Tensor]
    place: Path
    name: str
    step: int | None
    classes: tuple[str, ...]
    notes: list[str]
    exported: ExportedModel | None = None


@dataclass(frozen=True)
class ModelCheck:
    """What was found when a built model was looked at before a training.

    Attributes:
        description: what the start panel says of it.
        notes: sentences that a user should read.
    """

    description: str
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class EvaluationSet:
    """One set of samples as a model is measured on it.

    Attributes:
        name: of the set; classification has several, ImageNet and its relatives.
        task: measures on this set.
        parts: name -> the stored samples; "" for the only part.
        samples: what makes samples of these.
        left_out: samples that are not to be counted.
    """

    name: str
    task: Task
    parts: Mapping[str, Source | Shards]
    samples: Samples
    left_out: int = 0


@dataclass(frozen=True)
class Evaluation:
    """A model with its weights, and what it is measured on.

    Attributes:
        sets: at least one, in the order asked for.
        several: whether eval.json lists sets by name, even if it is one.
        not_found: names of sets that were looked for and are not there.
        notes: one sentence for each thing a user should know of.
        image_size: pixels (side of a square, or height and width) that the model will see most, for which it
            may be fused; None where they vary.
        facts: what eval.json says beside the results.
    """

    model: nn.Module
    sets: Sequence[EvaluationSet]
    several: bool = False
    not_found: Sequence[str] = ()
    notes: Sequence[str] = ()
    image_size: int | tuple[int, int] | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """A table for the console."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[Sequence[Any]]


@dataclass(frozen=True)
class ModelParts:
    """What a model is made of and what it costs.

    Attributes:
        image_size: pixels, that the costs are for.
        parameters: their number.
        macs: multiply-accumulates of the convolutions and linear layers, of one image.
        table: its parts.
        notes: sentences that explain the figures.
    """

    image_size: int | tuple[int, int]
    parameters: int
    macs: int
    table: Table
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Drawn:
    """A training batch as pictures.

    Attributes:
        images: uint8 (B, 3, H, W).
        captions: one an image.
        bad: samples that could not be read, for which others stand in.
        title: of the whole sheet.
    """

    images: Tensor
    captions: list[str]
    bad: list[BadSample]
    title: str
