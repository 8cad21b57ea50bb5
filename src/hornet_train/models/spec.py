"""Which model a config asks for, built by timm's factory: HorNets are models of timm, too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import timm
import torch
from torch import nn

from hornet_train.errors import ConfigError, did_you_mean
from hornet_train.models import structure  # and registers every variant with timm
from hornet_train.models.constructor_options import unknown_option
from hornet_train.models.kernels.dispatch import use_kernels
from hornet_train.models.layers import lay_out

# arguments of timm's factory that would go round what the config says, and what to give instead
RESERVED = {
    "num_classes": "give model.num_classes",
    "drop_path_rate": "give model.drop_path",
    "in_chans": "give model.in_chans",
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


def error_text(error: Exception) -> str:
    """The message of a model's error; its type where it has none, as a bare `assert` has."""
    return str(error) or f"it raises {type(error).__name__}"


def first_line(error: Exception) -> str:
    """The type of an error, and the first line of its message."""
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}".rstrip(": ")


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
        in_chans: channels of its images.
    """

    name: str
    num_classes: int
    drop_path: float = 0.0
    grad_checkpointing: bool | Sequence[int] = False
    channels_last: bool = True
    kernels: Literal["auto", "plain"] = "auto"
    args: Mapping[str, Any] = field(default_factory=dict)
    in_chans: int = 3

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
        if self.in_chans != 3:  # timm's default
            arguments["in_chans"] = self.in_chans
        try:
            model: Any = timm.create_model(self.name, num_classes=self.num_classes, **arguments)
        except MODEL_ERRORS as error:
            if unknown := unknown_option(self.name, error, RESERVED):
                raise ConfigError([unknown]) from error
            keys = ", ".join(
                ("model.drop_path",) * bool(self.drop_path)
                + ("model.in_chans",) * (self.in_chans != 3)
                + tuple(f"model.args.{a}" for a in self.args)
            )
            raise ConfigError(
                [f"model.name={self.name} with {keys or 'no arguments'}: {error_text(error)}"]
            ) from error
        except OSError as error:  # timm's own pretrained=true, away from its hub
            hint = "download the weights and give init_from=<file>"
            raise ConfigError([f"model.name={self.name}: its weights cannot be fetched: {hint}"]) from error
        use_kernels(model, self.kernels)
        if self.grad_checkpointing is not False:
            self._recompute(model)
        return lay_out(model, torch.channels_last) if self.channels_last else model

    def _recompute(self, model: nn.Module) -> None:
        """Let the model recompute its activations.

        Raises:
            ConfigError: it cannot, or has no such stage.
        """
        try:
            structure.set_grad_checkpointing(model, self.grad_checkpointing, self.name)
        except ValueError as error:
            raise ConfigError([f"model.grad_checkpointing={self.grad_checkpointing}: {error}"]) from error
