"""What a segmentation model says of pictures: the class of every pixel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from PIL import Image
from torch import Tensor, nn

from hornet_train.data.batch import Batch, ragged, size
from hornet_train.errors import ConfigError
from hornet_train.images.layout import Pixels, pixels_of
from hornet_train.images.palette import colours
from hornet_train.tasks.predictor_types import PIXELS, SHARE, Answer, Answers, json_object
from hornet_train.tasks.segmentation.palette import overlay, with_legend
from hornet_train.tasks.segmentation.task import Segmentation

_FEW = 5  # classes of a line


@dataclass(frozen=True)
class MaskAnswers:
    """See `Answers`.

    Attributes:
        task: asks the model.
        classes: names, in the order of the labels.
    """

    task: Segmentation
    classes: tuple[str, ...]
    columns: ClassVar[tuple[str, ...]] = ("class", "share")
    objects: ClassVar[bool] = False
    draws: ClassVar[bool] = True
    masks: ClassVar[bool] = True
    schema: ClassVar[dict[str, Any]] = json_object(
        height=PIXELS, width=PIXELS, shares={"type": "object", "additionalProperties": SHARE}
    )

    def __call__(self, model: nn.Module, batch: Batch) -> list[Answer]:
        """A picture's `mask`, uint8 (H, W) on the CPU, of the picture's own size, and `shares`: class -> its
        share of the pixels, of those that come, the largest first."""
        found: list[Answer] = []
        for place in range(size(batch)):
            height, width = ragged(batch, "mask")[place].shape
            images = self.task.scales(batch, place)
            logits = self.task.inference.answer(model, images, (height, width))
            mask = self.task.inference.predict(logits, (height, width)).cpu()
            counts = mask.flatten().bincount(minlength=len(self.classes))
            order = counts.argsort(descending=True, stable=True).tolist()
            shares = {
                self.classes[label]: int(counts[label]) / mask.numel() for label in order if counts[label]
            }
            found.append({"mask": mask, "shares": shares})
        return found

    def record(self, answer: Answer) -> dict[str, Any]:
        """See `Answers`; without the mask, which is a picture of its own."""
        height, width = answer["mask"].shape
        shares = {name: round(share, 6) for name, share in answer["shares"].items()}
        return {"height": height, "width": width, "shares": shares}

    def rows(self, answer: Answer) -> list[tuple[Any, ...]]:
        """See `Answers`."""
        return [(name, f"{share:.6f}") for name, share in answer["shares"].items()]

    def line(self, answer: Answer) -> str:
        """See `Answers`."""
        named = [f"{name} {share:.1%}" for name, share in answer["shares"].items()]
        more = len(named) - _FEW
        return ", ".join([*named[:_FEW], *([f"{more} more"] if more > 0 else [])])

    def drawn(self, picture_CHW: Tensor, answer: Answer) -> Pixels:
        """See `Answers`; with a legend below."""
        labels_HW = answer["mask"].numpy()
        shown = overlay(pixels_of(picture_CHW), labels_HW, len(self.classes))
        return with_legend(shown, [labels_HW], self.classes)

    def with_features(self) -> Answers:
        """See `Answers`."""
        raise ConfigError(["--features: a classifier describes a picture by one vector, this model does not"])

    def with_heat(self, method: str) -> Answers:
        """See `Answers`."""
        raise ConfigError(
            [f"--heatmaps ({method}) are for classifiers: this model says itself where it looks"]
        )

    def mask(self, answer: Answer) -> Image.Image:
        """See `Answers`: 8 bits with a palette, the number of its class in each pixel."""
        image = Image.fromarray(answer["mask"].numpy())
        image.putpalette([value for colour in colours(len(self.classes)) for value in colour])
        return image
