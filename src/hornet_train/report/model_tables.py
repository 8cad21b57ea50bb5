"""Tables about models: the stages of one model, and all HorNets beside the published figures."""

from __future__ import annotations

import math
from dataclasses import dataclass

import timm
import torch
from torch import nn

from hornet_train.images.size import Size, brief, height_width
from hornet_train.models.ablations import PlainConv
from hornet_train.models.block import Block, Stage
from hornet_train.models.complexity import Complexity, count, gnconv_bound
from hornet_train.models.global_filter import GlobalLocalFilter
from hornet_train.models.gnconv import GnConv
from hornet_train.models.published import PUBLISHED, Published
from hornet_train.models.structure import backbone_of
from hornet_train.models.variants import VARIANTS

NONE = "-"
STAGE_COLUMNS = (
    "part",
    "map",
    "width",
    "blocks",
    "order",
    "branches",
    "mixer",
    "parameters",
    "GMACs",
    "gnConv",
    "bound",
)


@dataclass(frozen=True)
class Table:
    """A table of text, ready to be printed.

    Attributes:
        title: above the table.
        columns: the column heads.
        rows: one text a column.
        notes: sentences that explain the figures.
    """

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]
    notes: list[str]


def stage_table(model: nn.Module, name: str, image_size: Size, *, in_chans: int = 3) -> Table:
    """The size and cost of each stage of a HorNet; of any other model, the totals.

    Args:
        model: on any device, also the meta device; nothing is computed.
        name: for the title.
        image_size: pixels.
        in_chans: channels of the images.

    Raises:
        ValueError: images too small for a HorNet.
    """
    cost = count(model, image_size, in_chans=in_chans)
    height, width = height_width(image_size)
    title = f"{name} at {height} x {width}" + (
        f", {in_chans} channel{'s' * (in_chans > 1)}" * (in_chans != 3)
    )
    backbone = backbone_of(model)
    if backbone is None or backbone is not model:
        columns = ("parameters", "GMACs")
        return Table(title, columns, [(f"{cost.parameters:,}", _giga(cost.macs))], [])
    rows = []
    for index, (downsample, stage) in enumerate(
        zip(backbone.downsample_layers, backbone.stages, strict=True)
    ):
        if list(downsample.parameters()):
            what = "downsampling" if index else "stem"
            rows.append(_row(part=what, **_size_and_cost(f"downsample_layers.{index}", downsample, cost)))
        assert isinstance(stage, Stage)
        rows.append(_row(part=f"stage {index}", **_stage_cells(f"stages.{index}", stage, cost)))
    head = nn.ModuleList([backbone.norm, backbone.head])
    rows.append(_row(part="norm, head", parameters=_parameter_count(head), GMACs=_giga(cost.macs_of("head"))))
    rows.append(_row(part="all", parameters=f"{cost.parameters:,}", GMACs=_giga(cost.macs)))
    notes = [
        "GMACs: multiply-accumulates of convolutions and linear layers; counted as the authors do, with "
        f"layer norms and FFTs, they are {_giga(cost.published_macs)} G.",
    ]
    if cost.gate_products:
        notes.append(
            "gnConv: multiply-accumulates of one block's gnConv per pixel, with the gating products; "
            "bound: the paper's C (2 K^2 + 11 C / 3 + 2), which holds for K x K mixers."
        )
    if backbone.resizes_filters(image_size):
        made_for = " x ".join(map(str, backbone.img_size))
        notes.append(
            f"The global filters are stored for {made_for} pixels and resized in every forward pass here."
        )
    return Table(title, STAGE_COLUMNS, rows, notes)


def family_table(image_sizes: tuple[Size, ...]) -> Table:
    """All registered HorNets beside the authors' figures, at several image sizes in pixels."""
    columns = ["model", "parameters", "published"]
    for size in image_sizes:
        columns += [f"GMACs @{brief(size)}", "as the authors count"]
    columns += ["published @224", "top-1 published", "about"]
    rows = []
    for name, variant in VARIANTS.items():
        with torch.device("meta"):
            model = timm.create_model(name)
        costs = [count(model, size) for size in image_sizes]
        theirs = PUBLISHED.get(name, Published())
        macs = [_giga(figure) for cost in costs for figure in (cost.macs, cost.published_macs)]
        rows.append(
            (
                name,
                f"{costs[0].parameters:,}",
                NONE if theirs.parameters is None else f"{theirs.parameters}M",
                *macs,
                NONE if theirs.gmacs is None else f"{theirs.gmacs}",
                NONE if theirs.top1 is None else f"{theirs.top1}",
                theirs.how or ("not published here" if name in PUBLISHED else variant.about),
            )
        )
    notes = [
        "GMACs: convolutions and linear layers. As the authors count: with layer norms and their estimate of "
        "the FFTs; their README rounds these.",
        "The published parameters of the large models are with a head of 10,459 classes (ImageNet-22K), ours "
        "with one of 1,000. No published accuracy was measured by us.",
    ]
    return Table("The HorNet family", tuple(columns), rows, notes)


def _stage_cells(name: str, stage: Stage, cost: Complexity) -> dict[str, str]:
    block = stage[0]
    assert isinstance(block, Block)
    operator, operator_name = block.gnconv, f"{name}.0.gnconv"
    assert isinstance(operator, GnConv | PlainConv)
    cells = _size_and_cost(name, stage, cost)
    cells |= {"width": str(block.norm1.normalized_shape[0]), "blocks": str(len(stage))}
    mixer = operator.dwconv
    cells["mixer"] = mixer_name(mixer)
    if isinstance(operator, GnConv):
        cells |= {"order": str(len(operator.widths)), "branches": "/".join(map(str, operator.widths))}
        pixels = math.prod(cost.output_sizes[operator_name])
        cells["gnConv"] = f"{(cost.macs_of(operator_name) + cost.gate_products[operator_name]) / pixels:,.0f}"
        if isinstance(mixer, nn.Conv2d) and mixer.groups == mixer.in_channels:
            cells["bound"] = f"{gnconv_bound(operator.widths[-1], mixer.kernel_size[0]):,.0f}"
    return cells


def _size_and_cost(name: str, module: nn.Module, cost: Complexity) -> dict[str, str]:
    height, width = cost.output_sizes[name]
    return {
        "map": f"{height}x{width}",
        "parameters": _parameter_count(module),
        "GMACs": _giga(cost.macs_of(name)),
    }


def _row(**cells: str) -> tuple[str, ...]:
    """A row of the stage table; columns that are not given show `-`."""
    return tuple(cells.get(column, NONE) for column in STAGE_COLUMNS)


def mixer_name(mixer: object) -> str:
    """The name of a mixer: "7x7", "gf 14x8" with the stored grid, else the class name in lower case."""
    if isinstance(mixer, nn.Conv2d):
        return "x".join(map(str, mixer.kernel_size))
    if isinstance(mixer, GlobalLocalFilter):
        return f"gf {mixer.complex_weight.shape[1]}x{mixer.complex_weight.shape[2]}"
    return type(mixer).__name__.lower()


def _parameter_count(module: nn.Module) -> str:
    return f"{sum(parameter.numel() for parameter in module.parameters()):,}"


def _giga(macs: int) -> str:
    return f"{macs / 1e9:.4f}"
