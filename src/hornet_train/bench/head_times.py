"""The decode head of UperNet and its fusion of the levels: by gnConv, by a 3x3 convolution, and a peer's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from hornet_train.bench.timing import Mode, PartTime, part_times
from hornet_train.dense.horfpn import Fusing
from hornet_train.dense.upernet import UperNetHead
from hornet_train.errors import ConfigError
from hornet_train.models.layers import lay_out

Part = Literal["fusion", "head"]
FUSIONS: tuple[Fusing, ...] = ("conv", "7x7", "gf")
PEER = "transformers"


@dataclass(frozen=True)
class HeadCase:
    """What is measured.

    Attributes:
        widths: channels of the backbone's levels, the finest first.
        channels: of the maps in the head.
        classes: K.
        side: pixels of a crop; the finest level has a quarter of them.
        batch_size: crops.
        device: where.
    """

    widths: tuple[int, ...]
    channels: int
    classes: int
    side: int
    batch_size: int
    device: torch.device


def measure_heads(
    case: HeadCase, parts: tuple[Part, ...], modes: tuple[Mode, ...], rounds: int, *, peer: bool
) -> Iterator[PartTime]:
    """Fusions of the levels alone, then whole heads, in turns; ratios are to the 3x3 convolution's.

    Args:
        case: sizes.
        parts: of the head.
        modes: forward alone, or with the backward pass.
        rounds: timed calls of each.
        peer: whether to measure the head of Hugging Face's transformers, too.

    Raises:
        ConfigError: the peer is not installed.
    """
    heads: dict[str, nn.Module] = {
        fusion: UperNetHead(case.widths, case.channels, case.classes, fusion) for fusion in FUSIONS
    }
    levels = [
        torch.randn(case.batch_size, width, case.side >> 2 + level, case.side >> 2 + level)
        for level, width in enumerate(case.widths)
    ]
    together = torch.randn(case.batch_size, len(case.widths) * case.channels, case.side >> 2, case.side >> 2)
    fusions = {name: head.get_submodule("fpn_bottleneck") for name, head in heads.items()}
    if peer:
        heads[PEER] = _peer(case)
    of_part: dict[Part, tuple[dict[str, nn.Module], Tensor | list[Tensor]]] = {
        "fusion": (fusions, together),
        "head": (heads, levels),
    }
    for mode in modes:
        for part in parts:
            modules, inputs = of_part[part]
            calls = {name: _call(module, inputs, mode, case.device) for name, module in modules.items()}
            yield from part_times(part, mode, calls, "conv", rounds, case.device)


def _call(
    module: nn.Module, inputs: Tensor | list[Tensor], mode: Mode, device: torch.device
) -> Callable[[], object]:
    """One forward, or forward and backward, with gradients of inputs and parameters, as in a training."""
    lay_out(module.to(device), torch.channels_last)

    def laid_out(one: Tensor) -> Tensor:
        return one.to(device).contiguous(memory_format=torch.channels_last)

    given = [laid_out(one) for one in inputs] if isinstance(inputs, list) else laid_out(inputs)

    def inference() -> object:
        module.eval()
        with torch.inference_mode():
            return module(given)

    def train() -> object:
        module.train()
        if isinstance(given, list):
            loss = module([one.detach().requires_grad_() for one in given]).square().mean()
        else:
            loss = module(given.detach().requires_grad_()).square().mean()
        loss.backward()
        module.zero_grad(set_to_none=True)
        return loss

    return train if mode == "train" else inference


def _peer(case: HeadCase) -> nn.Module:
    """The head of UperNet in transformers, of the same sizes."""
    try:
        from transformers import UperNetConfig
        from transformers.models.upernet.modeling_upernet import UperNetHead as Theirs
    except ImportError as error:
        raise ConfigError(["peer=true compares with transformers: pip install transformers"]) from error
    config = UperNetConfig(
        num_labels=case.classes, hidden_size=case.channels, auxiliary_in_channels=case.widths[-2]
    )
    head: nn.Module = Theirs(config, in_channels=list(case.widths))
    return head
