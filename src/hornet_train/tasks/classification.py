"""Image classification: one label an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hornet_train.data.collate import Batch
from hornet_train.data.mixing import Mixer, Normalize, erase
from hornet_train.engine.task import Goal
from hornet_train.errors import ConfigError, did_you_mean
from hornet_train.models import HorNet  # and registers every variant with timm
from hornet_train.models.layers import lay_out, use_kernels
from hornet_train.track.metrics import topk_correct

# arguments of timm's factory that would go round what the config says, and what to give instead
RESERVED = {
    "num_classes": "give model.num_classes",
    "drop_path_rate": "give model.drop_path",
    "in_chans": "the images have 3 channels",
    "checkpoint_path": "give init_from=<file> (hornet-train) or checkpoint=<file> (hornet-eval)",
    "pretrained_cfg": "give init_from=<file>",
    "pretrained_cfg_overlay": "give init_from=<file>",
    "features_only": "a classifier has a head",
    "output_norms": "a classifier has one norm, before its head",
    "device": "give dist.device",
    "dtype": "give precision",
}
# what timm's models raise for arguments or images that they do not take, each in its own way
MODEL_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)


def in_words(error: Exception) -> str:
    """The message of a model's error; its type where it has none, as a bare `assert`."""
    return str(error) or f"it raises {type(error).__name__}"


@dataclass(frozen=True)
class ModelSpec:
    """What `timm.create_model` needs, HorNet being one of timm's models.

    Attributes:
        name: as timm knows it.
        num_classes: width of the head.
        drop_path: of the last block.
        grad_checkpointing: recompute activations in the backward pass; of a HorNet also in some stages.
        channels_last: memory format of kernels (and images).
        kernels: "plain" keeps a HorNet to torch's operators.
        args: more keyword arguments of the model.
    """

    name: str
    num_classes: int
    drop_path: float = 0.0
    grad_checkpointing: bool | Sequence[int] = False
    channels_last: bool = True
    kernels: Literal["auto", "plain"] = "auto"
    args: Mapping[str, Any] = field(default_factory=dict)

    def build(self) -> nn.Module:
        """Build the model with its initial weights.

        Raises:
            ConfigError: timm has no such model, or the model takes no such argument.
        """
        if not timm.is_model(self.name):
            hint = did_you_mean(self.name, timm.list_models())
            raise ConfigError([f"model.name={self.name}: timm has no such model; {hint}"])
        reserved = [f"model.args.{key}: {RESERVED[key]}" for key in self.args if key in RESERVED]
        if self.args.get("global_pool") == "":
            reserved.append("model.args.global_pool='': without pooling there is no classification")
        if reserved:
            raise ConfigError(reserved)
        arguments = dict(self.args)
        if self.drop_path:
            arguments["drop_path_rate"] = self.drop_path
        try:
            model: Any = timm.create_model(self.name, num_classes=self.num_classes, **arguments)
        except MODEL_ERRORS as error:
            keys = ", ".join(
                ("model.drop_path",) * bool(self.drop_path) + tuple(f"model.args.{a}" for a in self.args)
            )
            raise ConfigError(
                [f"model.name={self.name} with {keys or 'no arguments'}: {in_words(error)}"]
            ) from error
        except OSError as error:  # timm's own pretrained=true, away from its hub
            hint = "download the weights and give init_from=<file>"
            raise ConfigError([f"model.name={self.name}: its weights cannot be fetched: {hint}"]) from error
        use_kernels(model, self.kernels)
        if self.grad_checkpointing is not False:
            self._recompute(model)
        return lay_out(model, torch.channels_last) if self.channels_last else model

    def _recompute(self, model: Any) -> None:
        """Let the model recompute its activations.

        Raises:
            ConfigError: it cannot, or has no such stage.
        """
        stages, key = self.grad_checkpointing, f"model.grad_checkpointing={self.grad_checkpointing}"
        if not isinstance(stages, bool) and not isinstance(model, HorNet):
            raise ConfigError([f"{key}: only a HorNet recomputes some stages, {self.name} all or none"])
        try:
            model.set_grad_checkpointing(stages)
        except (AttributeError, AssertionError) as error:
            raise ConfigError([f"{key}: {self.name} cannot recompute activations"]) from error
        except ValueError as error:
            raise ConfigError([f"{key}: {error}"]) from error


@dataclass(frozen=True)
class Classification:
    """Cross-entropy against smoothed and mixed targets; top-1, top-5 and the plain loss in evaluation.

    A training batch has `image` uint8 (B, 3, S, S), `label` int64 (B,) and `erase` int64 (B, 4); an
    evaluation batch the first two. There `label` may be int64 (B, K), padded with -1: any of them is right.

    Attributes:
        rows: int64 (classes,): which output of the model each label of an evaluation means. Prediction and
            loss are then among these outputs alone, as if the model had no others. None: all, in their order.
    """

    model: ModelSpec
    normalize: Normalize
    mixer: Mixer
    erasing: bool
    rows: Tensor | None = None
    goal: Goal = field(default=Goal("top1"), init=False)

    def build_model(self) -> nn.Module:
        return self.model.build()

    def loss(self, model: nn.Module, batch: Batch, rng: np.random.Generator) -> Tensor:
        images, targets = self.prepared(batch, rng)
        return F.cross_entropy(model(images).float(), targets)

    def prepared(self, batch: Batch, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """What the model sees of a training batch, normalised, erased and mixed, and what it should answer.

        Returns:
            Images, float (B, 3, S, S); target probabilities, float32 (B, classes).
        """
        images = self._images(batch)
        if self.erasing:
            images = erase(images, batch["erase"])
        return self.mixer(images, batch["label"], rng)

    def evaluate(self, model: nn.Module, batch: Batch) -> dict[str, Tensor | int]:
        """Sums over a batch: `count`, `loss`, and how many have a right label first or among the first five.

        The loss of an image is -log of the probability of its label, or of its labels together.
        """
        logits, labels = model(self._images(batch)).float(), batch["label"]
        if self.rows is not None:
            logits = logits.index_select(1, self.rows.to(logits.device))
        if labels.ndim == 1:
            loss = F.cross_entropy(logits, labels, reduction="sum")
        else:
            logs = logits.log_softmax(dim=1).gather(1, labels.clamp(min=0))
            loss = -logs.masked_fill(labels < 0, -torch.inf).logsumexp(dim=1).sum()
        return {"count": len(labels), "loss": loss, **topk_correct(logits, labels, (1, 5))}

    def metrics(self, sums: Mapping[str, float]) -> dict[str, float]:
        """`loss` (mean), `top1` and `top5` (per cent)."""
        return {
            "loss": sums["loss"] / sums["count"],
            "top1": 100.0 * sums["top1"] / sums["count"],
            "top5": 100.0 * sums["top5"] / sums["count"],
        }

    def _images(self, batch: Batch) -> Tensor:
        images = self.normalize(batch["image"])
        wanted = torch.channels_last if self.model.channels_last else torch.contiguous_format
        return images.contiguous(memory_format=wanted)  # they come channels-last
