"""What a trainer, an evaluation, a report or a benchmark asks of any model, HorNet or another.

The model may be a HorNet, another model of timm's, or a larger network that holds a HorNet somewhere inside:
a segmentation network with its `.backbone`, timm's wrapper for features. Nobody else needs to know which.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from timm.models import group_parameters
from torch import nn

from hornet_train.models.block import Block
from hornet_train.models.hornet import HorNet
from hornet_train.models.monitor import GateMonitor


def backbone_of(model: nn.Module) -> HorNet | None:
    """The HorNet that a model is or holds; None where there is none.

    Raises:
        ValueError: the model holds several.
    """
    return located(model)[1]


def located(model: nn.Module) -> tuple[str, HorNet | None]:
    """The prefix of the HorNet's names within the model ("", "backbone."), and the HorNet."""
    found = [(name, module) for name, module in model.named_modules() if isinstance(module, HorNet)]
    if len(found) > 1:
        raise ValueError(f"the model holds {len(found)} HorNets: {', '.join(name for name, _ in found)}")
    if not found:
        return "", None
    name, backbone = found[0]
    return f"{name}." if name else "", backbone


def blocks_of(model: nn.Module) -> list[nn.Module]:
    """The modules that a model repeats, in order: a HorNet's blocks; elsewhere what its lists hold.

    A list counts where it holds several modules of one class that can be called. A block that shares weights
    with another one is left out. FSDP shards each block on its own.
    """
    found: list[nn.Module] = []

    def look(module: nn.Module) -> None:
        if isinstance(module, HorNet):
            found.extend(block for stage in module.stages for block in stage.children())
            return
        children = list(module.children())
        alike = isinstance(module, (nn.Sequential, nn.ModuleList)) and len({type(c) for c in children}) == 1
        for child in children:
            is_block = alike and len(children) > 1 and next(child.parameters(), None) is not None
            if is_block and not isinstance(child, (HorNet, nn.ModuleList, nn.ModuleDict)):
                found.append(child)
            else:
                look(child)

    look(model)
    return _with_own_weights(model, found)


def smallest_blocks(model: nn.Module) -> list[nn.Module]:
    """`blocks_of`, but where these repeat blocks of their own, those: what is compiled each on its own."""
    found: list[nn.Module] = []
    for block in blocks_of(model):
        inner = [] if isinstance(block, Block) else blocks_of(block)
        found += inner or [block]
    return found


def _with_own_weights(model: nn.Module, parts: list[nn.Module]) -> list[nn.Module]:
    """Those of some disjoint modules that share no weight with another of them, or with the rest."""
    inside = {module for part in parts for module in part.modules()}
    outside = {
        parameter
        for module in model.modules()
        if module not in inside
        for parameter in module.parameters(recurse=False)
    }
    owners = Counter(parameter for part in parts for parameter in part.parameters())
    return [
        part
        for part in parts
        if all(owners[parameter] == 1 and parameter not in outside for parameter in part.parameters())
    ]


def layer_ids(model: nn.Module, depth: int | None = None) -> dict[str, int]:
    """The depth of each parameter, 0 at the input, for layer-wise learning rate decay.

    A HorNet's are the published ids, also within a larger model, where everything outside it has the last id,
    as the head has. Another model's are the groups that timm gives it.

    Args:
        model: any.
        depth: everything outside of the HorNet has `depth` + 1 in place of the last id. The published
            Mask R-CNNs have 6, so that later blocks' rates are above the heads'.

    Raises:
        ValueError: a model without a HorNet that has no groups or is given a depth, or one with several
            HorNets.
    """
    prefix, backbone = located(model)
    if backbone is not None:
        last = backbone.num_layer_ids - 1 if depth is None else depth + 1
        return {
            name: backbone.layer_id(name.removeprefix(prefix)) if name.startswith(prefix) else last
            for name, _ in model.named_parameters()
        }
    if depth is not None:
        raise ValueError(f"{type(model).__name__} holds no HorNet, of whose layers a depth is")
    of_timm: Any = model
    try:
        matcher = of_timm.group_matcher(coarse=False)
    except AttributeError:
        raise ValueError(f"{type(model).__name__} does not say what its layers are") from None
    ids: dict[str, int] = group_parameters(model, matcher, reverse=True)
    return ids


def stage_ids(model: nn.Module, depth: int) -> dict[str, int]:
    """The depth of each parameter by the stage it is in, as in the published trainings of segmentation.

    A HorNet's downsamplings have id 0 and its stages 1 to 4; everything else, its norms too, has `depth` + 1.

    Args:
        depth: at least 4; the published trainings have 6 for tiny and 12 for the others.

    Raises:
        ValueError: a model without a HorNet, or a depth below the number of stages.
    """
    prefix, backbone = located(model)
    if backbone is None:
        raise ValueError(f"{type(model).__name__} holds no HorNet, whose stages are meant")
    if depth < len(backbone.stages):
        raise ValueError(f"a depth of {depth} is below the {len(backbone.stages)} stages")

    def stage_id(name: str) -> int:
        kind, _, rest = name.removeprefix(prefix).partition(".")
        if name.startswith(prefix) and kind in ("downsample_layers", "stages"):
            return 0 if kind == "downsample_layers" else int(rest.partition(".")[0]) + 1
        return depth + 1

    return {name: stage_id(name) for name, _ in model.named_parameters()}


def no_weight_decay(model: nn.Module) -> set[str]:
    """Names of the parameters that the model, or the HorNet in it, asks to have no weight decay."""
    prefix, backbone = located(model)
    own: set[str] = getattr(model, "no_weight_decay", set)()  # optional in timm's contract
    inner = backbone.no_weight_decay() if backbone is not None else set()
    return {*own, *(f"{prefix}{name}" for name in inner)}


def gate_monitor(model: nn.Module) -> GateMonitor:
    """Watch the gating products of a HorNet, by stage.

    Raises:
        ValueError: there is no HorNet, or it has no gnConv.
    """
    backbone = backbone_of(model)
    if backbone is None:
        raise ValueError("it is no HorNet")
    return GateMonitor(backbone)


def fuse(model: nn.Module, image_size: int | tuple[int, int]) -> bool:
    """Fuse a HorNet, or the one in a larger model, for inference on images of a size; see `HorNet.fuse`.

    Returns:
        Whether there is a HorNet. All other parts of the model stay as they are.
    """
    backbone = backbone_of(model)
    if backbone is not None:
        backbone.fuse(image_size)
    return backbone is not None


def set_grad_checkpointing(model: nn.Module, stages: bool | Sequence[int], name: str) -> None:
    """Recompute activations in the backward pass instead of keeping them.

    Args:
        stages: all or none; of a HorNet also these stages alone, counted from 0.
        name: of the model, for messages.

    Raises:
        ValueError: the model cannot, or has no such stage.
    """
    backbone = backbone_of(model)
    if backbone is not None:
        backbone.set_grad_checkpointing(stages)
        return
    if not isinstance(stages, bool):
        raise ValueError(f"only a HorNet recomputes some stages, {name} all or none")
    of_timm: Any = model
    try:
        of_timm.set_grad_checkpointing(stages)
    except (AttributeError, AssertionError) as error:
        raise ValueError(f"{name} cannot recompute activations") from error


def image_size_of(model: nn.Module) -> tuple[int, int] | None:
    """(height, width) in pixels of the images that a model is made for, as far as it says so."""
    backbone = backbone_of(model)
    if backbone is not None:
        return backbone.img_size
    config: Any = getattr(model, "pretrained_cfg", None) or {}
    size = config.get("input_size")
    return None if size is None else (size[-2], size[-1])


def resizes_filters(model: nn.Module, image_size: int | tuple[int, int]) -> bool:
    """Whether images of a size make every forward of the model resize a stored global filter."""
    backbone = backbone_of(model)
    return backbone is not None and backbone.resizes_filters(image_size)
