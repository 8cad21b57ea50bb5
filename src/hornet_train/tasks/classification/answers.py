"""What a classifier says of pictures: their most probable classes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from PIL import Image
from torch import Tensor, nn

from hornet_train.data.batch import Batch
from hornet_train.errors import ConfigError
from hornet_train.images.layout import Pixels, pixels_of
from hornet_train.tasks.classification.heat_maps import check_package, heat_maps
from hornet_train.tasks.classification.task import Classification
from hornet_train.tasks.predictor_types import SHARE, Answer, json_object

TOP = 5  # classes of an answer, unless another number is asked for


@dataclass(frozen=True)
class ClassAnswers:
    """See `Answers`.

    Attributes:
        task: asks the model.
        classes: names, in the order of the probabilities.
        top: how many classes an answer has, at most.
        threshold: probability, 0..1, below which a class is left out.
        flip: whether mirror images are asked about, too.
        features: see `with_features`.
        heat: see `with_heat`; None: no.
        whole: whether the model is more than a function of images, so that there are features.
    """

    task: Classification
    classes: tuple[str, ...]
    top: int = TOP
    threshold: float = 0.0
    flip: bool = False
    features: bool = False
    heat: str | None = None
    whole: bool = True
    columns: ClassVar[tuple[str, ...]] = ("rank", "class", "probability")
    objects: ClassVar[bool] = False
    draws: ClassVar[bool] = False
    masks: ClassVar[bool] = False
    schema: ClassVar[dict[str, Any]] = json_object(
        classes={"type": "array", "items": {"type": "string"}},
        probabilities={"type": "array", "items": SHARE},
    )

    def __call__(self, model: nn.Module, batch: Batch) -> list[Answer]:
        """A picture's `classes`, names, the most probable first, and their `probabilities`."""
        vectors: Tensor | None = None
        if self.features:
            probabilities, vectors = self.task.with_features(model, batch, flip=self.flip)
            vectors = vectors.cpu()
        else:
            probabilities = self.task.probabilities(model, batch, flip=self.flip)
        best = probabilities.topk(min(self.top, len(self.classes)), dim=1)
        answers: list[Answer] = []
        for rows, values in zip(best.indices.tolist(), best.values.tolist(), strict=True):
            kept = sum(value >= self.threshold for value in values)
            names = [self.classes[row] for row in rows[:kept]]
            answers.append({"classes": names, "probabilities": values[:kept]})
        if vectors is not None:
            for answer, vector in zip(answers, vectors, strict=True):
                answer["features"] = vector
        if self.heat is not None:
            seen = heat_maps(self.task, model, batch, best.indices[:, 0].tolist(), self.heat)
            for answer, shown in zip(answers, seen, strict=True):
                answer["heat"] = shown
        return answers

    def record(self, answer: Answer) -> dict[str, Any]:
        """See `Answers`."""
        rounded = [round(value, 6) for value in answer["probabilities"]]
        return {"classes": answer["classes"], "probabilities": rounded}

    def rows(self, answer: Answer) -> list[tuple[Any, ...]]:
        """See `Answers`."""
        pairs = zip(answer["classes"], answer["probabilities"], strict=True)
        return [(rank, name, f"{value:.6f}") for rank, (name, value) in enumerate(pairs, start=1)]

    def line(self, answer: Answer) -> str:
        """See `Answers`."""
        pairs = zip(answer["classes"], answer["probabilities"], strict=True)
        return ", ".join(f"{name} {value:.1%}" for name, value in pairs) or f"none above {self.threshold:.1%}"

    def drawn(self, picture_CHW: Tensor, answer: Answer) -> Pixels:
        """See `Answers`: the picture as it is."""
        del answer
        return pixels_of(picture_CHW)

    def with_features(self) -> ClassAnswers:
        """See `Answers`."""
        if not self.whole:
            raise ConfigError(["--features: an exported model gives probabilities alone"])
        return replace(self, features=True)

    def with_heat(self, method: str) -> ClassAnswers:
        """See `Answers`; of the most probable class."""
        if not self.whole:
            raise ConfigError(["--heatmaps: an exported model gives probabilities alone"])
        check_package()
        return replace(self, heat=method)

    def mask(self, answer: Answer) -> Image.Image:
        """See `Answers`."""
        raise ValueError(f"classes are no mask: {answer['classes']}")
