"""What a detector says of pictures: the objects in them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from PIL import Image
from torch import Tensor, nn

from hornet_train.data.batch import Batch, stacked
from hornet_train.errors import ConfigError
from hornet_train.images.layout import Pixels, pixels_of
from hornet_train.tasks.detection.drawing import Marks, marked
from hornet_train.tasks.detection.objects import Rle
from hornet_train.tasks.detection.rle import area_of, window_of
from hornet_train.tasks.detection.samples import SIZE
from hornet_train.tasks.detection.task import Detection
from hornet_train.tasks.predictor_types import PIXELS, SHARE, Answer, Answers, json_object

SHOWN = 0.3  # score, unless another is asked for
_FEW = 20  # objects of a picture whose names are written
_IN_A_LINE = 5  # classes


@dataclass(frozen=True)
class ObjectAnswers:
    """See `Answers`.

    Attributes:
        task: asks the model.
        classes: names, in the order of the labels.
        threshold: score, 0..1, below which an object is left out.
        shown: score below which one is neither drawn nor counted in a line for people.
    """

    task: Detection
    classes: tuple[str, ...]
    threshold: float = 0.0
    shown: float = SHOWN
    columns: ClassVar[tuple[str, ...]] = ("class", "score", "left", "top", "right", "bottom")
    objects: ClassVar[bool] = True
    draws: ClassVar[bool] = True

    @property
    def masks(self) -> bool:
        """See `Answers`."""
        return self.task.masks

    @property
    def schema(self) -> dict[str, Any]:
        """See `Answers`."""
        code = json_object(size={"type": "array", "items": PIXELS}, counts={"type": "string"})
        one = json_object(
            **{"class": {"type": "string"}},
            score=SHARE,
            box={"type": "array", "items": {"type": "number"}, "minItems": 4, "maxItems": 4},
            area={"type": "number", "minimum": 0},
            **({"mask": code} if self.masks else {}),
        )
        return json_object(height=PIXELS, width=PIXELS, objects={"type": "array", "items": one})

    def __call__(self, model: nn.Module, batch: Batch) -> list[Answer]:
        """A picture's `height` and `width`, and its `objects`, the highest score first: each with `class`,
        `score`, `box` (left, top, right, bottom in pixels of the stored picture), and with masks `mask`,
        COCO's run-length code."""
        answers: list[Answer] = []
        sizes = stacked(batch, SIZE).tolist()
        for (height, width), found in zip(sizes, self.task.answer(model, batch), strict=True):
            objects = [
                {
                    "class": self.classes[int(label)],
                    "score": float(score),
                    "box": [float(side) for side in box],
                    **({} if mask is None else {"mask": _as_json(mask)}),
                }
                for box, score, label, mask in zip(
                    *(found.boxes, found.scores, found.labels),
                    found.masks or [None] * len(found.labels),
                    strict=True,
                )
                if score >= self.threshold
            ]
            answers.append({"height": height, "width": width, "objects": objects})
        return answers

    def record(self, answer: Answer) -> dict[str, Any]:
        """See `Answers`."""
        objects = [
            {
                **one,
                "score": round(one["score"], 4),
                "box": [round(side, 2) for side in one["box"]],
                "area": _area(one),
            }
            for one in answer["objects"]
        ]
        return {**answer, "objects": objects}

    def rows(self, answer: Answer) -> list[tuple[Any, ...]]:
        """See `Answers`."""
        return [
            (one["class"], f"{one['score']:.4f}", *(f"{side:.2f}" for side in one["box"]))
            for one in answer["objects"]
        ]

    def line(self, answer: Answer) -> str:
        """See `Answers`."""
        counts = Counter(one["class"] for one in self._shown(answer))
        if not counts:
            return f"nothing above {self.shown:g}"
        named = [f"{number} {name}" for name, number in counts.most_common()]
        more = len(named) - _IN_A_LINE
        return ", ".join([*named[:_IN_A_LINE], *([f"{more} more"] if more > 0 else [])])

    def drawn(self, picture_CHW: Tensor, answer: Answer) -> Pixels:
        """See `Answers`."""
        objects = self._shown(answer)
        labels = [self.classes.index(one["class"]) for one in objects]
        named = len(objects) <= _FEW
        texts = [
            (f"{one['class']} " if len(self.classes) > 1 else "") + f"{one['score']:.2f}" if named else ""
            for one in objects
        ]
        masks = [window_of(_rle(one["mask"])) for one in objects if "mask" in one]
        boxes = np.array([one["box"] for one in objects], dtype=np.float64).reshape(-1, 4)
        marks = Marks(boxes, labels, texts, [False] * len(objects), masks)
        return marked(pixels_of(picture_CHW), marks, len(self.classes))

    def with_features(self) -> Answers:
        """See `Answers`."""
        raise ConfigError(["--features: a classifier describes a picture by one vector, this model does not"])

    def with_heat(self, method: str) -> Answers:
        """See `Answers`."""
        raise ConfigError(
            [f"--heatmaps ({method}) are for classifiers: this model says itself where it looks"]
        )

    def mask(self, answer: Answer) -> Image.Image:
        """See `Answers`: 16 bits, in each pixel the place, from 1 on, of the first object there; 0: none."""
        if not self.masks:
            raise ValueError("the model finds boxes alone")
        numbers = np.zeros((answer["height"], answer["width"]), dtype=np.uint16)
        for place, one in reversed(list(enumerate(self._shown(answer), start=1))):
            window = window_of(_rle(one["mask"]))
            tall, wide = window.pixels.shape
            part = numbers[window.top : window.top + tall, window.left : window.left + wide]
            part[window.pixels] = place
        return Image.fromarray(numbers)

    def _shown(self, answer: Answer) -> list[dict[str, Any]]:
        """The objects for people to see; as scores fall, the first of all."""
        return [one for one in answer["objects"] if one["score"] >= self.shown]


def _area(found: dict[str, Any]) -> float:
    """Pixels of an object's mask, or of its box."""
    if "mask" in found:
        return area_of(_rle(found["mask"]))
    left, top, right, bottom = map(float, found["box"])
    return round((right - left) * (bottom - top), 2)


def _as_json(code: Rle) -> dict[str, Any]:
    return {"size": list(code.size), "counts": code.counts.decode()}


def _rle(stored: dict[str, Any]) -> Rle:
    height, width = stored["size"]
    return Rle((height, width), stored["counts"].encode())
