"""The published dense models by name, with the state-dict names of the official checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from hornet_train.dense.backbone import build_backbone, widths_of
from hornet_train.dense.horfpn import Fusing
from hornet_train.dense.rcnn.detector import Detector
from hornet_train.dense.segmenter import Segmenter
from hornet_train.dense.upernet import FcnHead, UperNetHead
from hornet_train.errors import did_you_mean
from hornet_train.models.convert import STEM
from hornet_train.models.variants import VARIANTS

_ADE_CLASSES, _COCO_CLASSES = 150, 80
_FUSION, _PYRAMID, _FILTER = "decode_head.fpn_bottleneck.", "neck.fpn_convs.0.", ".complex_weight"
_FILTERS_FOR = 384  # pixels: the published global filters have grids of 24 x 13 and 12 x 7
_DETECTORS_FILTERS_FOR = 224  # 14 x 8 and 7 x 4, of all detectors but the large ones


@dataclass(frozen=True)
class PublishedDetector:
    """A published detector with masks.

    Attributes:
        backbone: its name in timm.
        mixer: of the pyramid.
        cascade: whether it has three stages.
        drop_path: of its training.
    """

    backbone: str
    mixer: Fusing
    cascade: bool
    drop_path: float


@dataclass(frozen=True)
class PublishedSegmenter:
    """A published segmentation model.

    Attributes:
        backbone: its name in timm.
        fusion: see `UperNetHead`.
        drop_path: of its training.
    """

    backbone: str
    fusion: Fusing
    drop_path: float


def _upernets() -> dict[str, PublishedSegmenter]:
    rates = {"tiny": (0.4, 0.4), "small": (0.3, 0.3), "base": (0.4, 0.5), "large": (0.4, 0.4)}
    rows = {
        f"upernet_hornet_{size}_{mixer}": PublishedSegmenter(f"hornet_{size}_{mixer}", "conv", rate)
        for size, both in rates.items()
        for mixer, rate in zip(("7x7", "gf"), both, strict=True)
    }
    fusions: tuple[Fusing, ...] = ("7x7", "gf")
    for fusion in fusions:
        name = f"upernet_horfpn_{fusion}_hornet_small_7x7"
        rows[name] = PublishedSegmenter("hornet_small_7x7", fusion, 0.3)
    return rows


def _detectors() -> dict[str, PublishedDetector]:
    rates = {"tiny": 0.4, "small": 0.6, "base": 0.7, "large": 0.7}
    rows = {
        f"cascade_mask_rcnn_hornet_{size}_{mixer}": PublishedDetector(
            f"hornet_{size}_{mixer}", "conv", True, rate
        )
        for size, rate in rates.items()
        for mixer in ("7x7", "gf")
    }
    mixers: tuple[tuple[str, Fusing], ...] = (("fpn", "conv"), ("horfpn_7x7", "7x7"), ("horfpn_gf", "gf"))
    for neck, mixer in mixers:
        rows[f"mask_rcnn_{neck}_hornet_small_7x7"] = PublishedDetector("hornet_small_7x7", mixer, False, 0.6)
    return rows


SEGMENTERS = _upernets()
DETECTORS = _detectors()


def identify_segmenter(state: Mapping[str, Tensor]) -> str | None:
    """The published model whose weights these look like, by a few names and shapes; None for none."""
    fusion = _mixer(state, _FUSION)
    return next(
        (
            name
            for name, row in SEGMENTERS.items()
            if row.fusion == fusion and _is_backbone(state, row.backbone)
        ),
        None,
    )


def identify_detector(state: Mapping[str, Tensor]) -> str | None:
    """The published detector whose weights these look like; None for none."""
    mixer, cascade = _mixer(state, _PYRAMID), "roi_head.bbox_head.0.fc_cls.weight" in state
    return next(
        (
            name
            for name, row in DETECTORS.items()
            if row.mixer == mixer and row.cascade == cascade and _is_backbone(state, row.backbone)
        ),
        None,
    )


def _mixer(state: Mapping[str, Tensor], prefix: str) -> Fusing | None:
    """What fuses the levels, by the names of its weights; None where there is nothing of that name."""
    names = [name for name in state if name.startswith(prefix)]
    if not names:
        return None
    if f"{prefix}conv.weight" in state:
        return "conv"
    return "gf" if any(name.endswith(_FILTER) for name in names) else "7x7"


def _is_backbone(state: Mapping[str, Tensor], name: str) -> bool:
    """Whether a state dict's backbone is that HorNet, by the width of its stem and its mixer."""
    stem = state.get(f"backbone.{STEM}")
    filters = any(one.startswith("backbone.") and one.endswith(_FILTER) for one in state)
    return stem is not None and VARIANTS[name].dim == stem.shape[0] and name.endswith("_gf") == filters


def create(
    name: str, num_classes: int | None = None, *, dropout: float = 0.1, **arguments: Any
) -> Segmenter | Detector:
    """A published model, its weights at random.

    Args:
        name: one of `SEGMENTERS` or `DETECTORS`.
        num_classes: K; those of ADE20K or COCO unless given.
        dropout: of the channels before the classifying layers of a segmentation model.
        arguments: of the backbone, as `timm.create_model` takes them; drop_path_rate is the published one.

    Raises:
        ValueError: there is no model of this name.
    """
    if name in DETECTORS:
        return create_detector(name, num_classes or _COCO_CLASSES, **arguments)
    if name not in SEGMENTERS:
        known = [*SEGMENTERS, *DETECTORS]
        raise ValueError(f"{name}: no such dense model; {did_you_mean(name, known)}")
    return create_segmenter(name, num_classes or _ADE_CLASSES, dropout=dropout, **arguments)


def create_detector(name: str, num_classes: int, *, masks: bool = True, **arguments: Any) -> Detector:
    """One of `DETECTORS`; see `create`. Without masks it finds boxes alone."""
    row = DETECTORS[name]
    given: dict[str, Any] = {"drop_path_rate": row.drop_path, **arguments}
    if row.backbone.endswith("_gf"):
        given.setdefault("img_size", _FILTERS_FOR if "large" in row.backbone else _DETECTORS_FILTERS_FOR)
    backbone = build_backbone(row.backbone, **given)
    return Detector(backbone, num_classes, mixer=row.mixer, cascade=row.cascade, masks=masks)


def create_segmenter(name: str, num_classes: int, *, dropout: float = 0.1, **arguments: Any) -> Segmenter:
    """One of `SEGMENTERS`; see `create`."""
    row = SEGMENTERS[name]
    given: dict[str, Any] = {"drop_path_rate": row.drop_path, **arguments}
    if row.backbone.endswith("_gf"):
        given.setdefault("img_size", _FILTERS_FOR)
    return upernet(build_backbone(row.backbone, **given), num_classes, fusion=row.fusion, dropout=dropout)


def upernet(
    backbone: nn.Module,
    num_classes: int,
    *,
    channels: int = 512,
    fusion: Fusing = "conv",
    dropout: float = 0.1,
) -> Segmenter:
    """UperNet on a backbone, with the auxiliary head on its last level but one.

    Args:
        backbone: see `build_backbone`.
        num_classes: K.
        channels: of the maps in the decode head; the auxiliary head has half of them.
        fusion: see `UperNetHead`.
        dropout: of the channels before the classifying layers.
    """
    widths = widths_of(backbone)
    level = len(widths) - 2
    return Segmenter(
        backbone,
        UperNetHead(widths, channels, num_classes, fusion, dropout=dropout),
        FcnHead(widths[level], channels // 2, num_classes, dropout=dropout),
        auxiliary_level=level,
    )
