"""What a task's model says of pictures, and how it is asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor, nn

from hornet_train.data.batch import Batch
from hornet_train.data.worker import Samples
from hornet_train.images.layout import Pixels

if TYPE_CHECKING:
    from PIL import Image


Answer = dict[str, Any]
"""What a model says of one picture: plain numbers and names, and for masks a tensor; the task's own keys."""


class Answers(Protocol):
    """What a task's model says of pictures, and the forms in which people and programs read it.

    Attributes:
        columns: of a table with `rows`.
        objects: whether a record has `height`, `width` and `objects`, each with its `class`, `score`, `box`
            (left, top, right, bottom), `area` in pixels, and perhaps `mask`, COCO's run-length code.
        draws: whether there is anything to draw on a picture.
        masks: whether an answer can be a picture of numbers.
        schema: what a record is, as JSON Schema.
    """

    @property
    def columns(self) -> tuple[str, ...]: ...
    @property
    def objects(self) -> bool: ...
    @property
    def draws(self) -> bool: ...
    @property
    def masks(self) -> bool: ...
    @property
    def schema(self) -> dict[str, Any]: ...

    def __call__(self, model: nn.Module, batch: Batch) -> list[Answer]:
        """The answer for each picture of a batch. Called in inference mode, on the device."""

    def record(self, answer: Answer) -> dict[str, Any]:
        """An answer as JSON has it."""

    def rows(self, answer: Answer) -> list[tuple[Any, ...]]:
        """An answer in a table: one row or several, of `columns`; none where nothing was found."""

    def line(self, answer: Answer) -> str:
        """An answer in a few words."""

    def drawn(self, picture_CHW: Tensor, answer: Answer) -> Pixels:
        """A picture, uint8 (3, H, W), with the answer on it, uint8 (H, W, 3)."""

    def with_features(self) -> Answers:
        """These, and in each answer `features` besides: the vector, float32 (C,) on the CPU, from which the
        model concludes. Record, rows and line are without it.

        Raises:
            ConfigError: this task has none.
        """

    def with_heat(self, method: str) -> Answers:
        """These, and in each answer `heat` besides: where in the picture the model looks, uint8 (H, W, 3), on
        what it sees of it. The model is not to be fused.

        `method`: `layercam` or `eigencam`.

        Raises:
            ConfigError: this task has none, or a package is missing.
        """

    def mask(self, answer: Answer) -> Image.Image:
        """An answer as a picture of numbers, of the size of the one that was asked about.

        Raises:
            ValueError: this task has none.
        """


def json_object(**properties: dict[str, Any]) -> dict[str, Any]:
    """The JSON Schema of an object that has all of these, and no others."""
    return {
        "type": "object",
        "required": list(properties),
        "properties": properties,
        "additionalProperties": False,
    }


SHARE: dict[str, Any] = {"type": "number", "minimum": 0, "maximum": 1}
PIXELS: dict[str, Any] = {"type": "integer", "minimum": 1}


@dataclass(frozen=True)
class Graph:
    """A model as a function of images, float32 (B, C, H, W), that exports can hold.

    Attributes:
        inputs: images of that size, as the model takes them, of a batch of `Predictor.samples`.
        size: of the images, in pixels.
        output: what its output is called; a class is one of dimension 1.
        dense: whether the output has the height and width of the images.
    """

    inputs: Callable[[Batch], Tensor]
    size: int | tuple[int, int]
    output: str = "logits"
    dense: bool = False


@dataclass(frozen=True)
class ObjectGraph:
    """A detector as a function of one image, that ONNX can hold.

    Attributes:
        plain: of the model: a module of an image (1, C, H, W) and of the height and width of the picture in
            it, float32 (2,), that gives `outputs`.
        inputs: the image and the picture's (height, width) of each of a batch of `Predictor.samples`.
        size: (height, width) that all images have; None: any multiples of 32.
        outputs: their names, each with the objects in its first dimension.
    """

    plain: Callable[[nn.Module], nn.Module]
    inputs: Callable[[Batch], list[tuple[Tensor, tuple[int, int]]]]
    size: tuple[int, int] | None
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Predictor:
    """A model with its weights, and how it answers for pictures.

    Attributes:
        samples: makes a sample of the one field `image`: a file's content, or pixels, uint8 (3, H, W). What
            it decodes is the picture itself, uint8 (3, H, W).
        answers: what the model says of each picture.
        classes: names of the classes, in the order of the outputs.
        notes: one sentence for each thing that a user should know of.
        image_size: see `Evaluation`.
        graph: the model as a function of tensors, for other programs; None where it cannot be one.
        step: of the training that the weights are from; None where it is not known.
    """

    model: nn.Module
    samples: Samples
    answers: Answers
    classes: tuple[str, ...]
    notes: Sequence[str] = ()
    image_size: int | tuple[int, int] | None = None
    graph: Graph | ObjectGraph | None = None
    step: int | None = None
