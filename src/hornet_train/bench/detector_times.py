"""Mask R-CNN beside torchvision's, whole and RoIAlign alone; HorFPN's gnConv beside 3x3 convolutions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN, maskrcnn_resnet50_fpn
from torchvision.ops import roi_align as their_roi_align

from hornet_train.bench.timing import Mode, PartTime, part_times
from hornet_train.dense.backbone import build_backbone
from hornet_train.dense.horfpn import DecoderGnConv, Fusing
from hornet_train.dense.rcnn.box_head import SIDE
from hornet_train.dense.rcnn.detector import Detector
from hornet_train.dense.rcnn.region_masks import pasted
from hornet_train.dense.rcnn.regions import REGION_STRIDES, Objects
from hornet_train.dense.rcnn.roi_align import roi_align
from hornet_train.models.layers import lay_out

Part = Literal["detector", "roi_align", "pyramid"]
OURS, THEIRS = "ours", "torchvision"
_CLASSES, _PROPOSALS, _CHANNELS = 80, 1000, 256
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # torchvision's model normalises, too
_LIKELY = 3.0  # bias of one class, so that as many regions as a picture has detections have something in them


@dataclass(frozen=True)
class DetectorCase:
    """What is measured.

    Attributes:
        size: of the pictures, (height, width), multiples of 32.
        batch_size: pictures.
        objects: in each.
        regions: of the RoIAlign that is measured alone.
        device: where.
    """

    size: tuple[int, int]
    batch_size: int
    objects: int
    regions: int
    device: torch.device


def measure_detectors(
    case: DetectorCase, parts: tuple[Part, ...], modes: tuple[Mode, ...], rounds: int
) -> Iterator[PartTime]:
    """Each part of a detector in turns with its peer; ratios are to torchvision's, and in the pyramid to the
    3x3 convolution's.

    Args:
        case: sizes.
        parts: which.
        modes: forward alone, or with the backward pass.
        rounds: timed calls of each.
    """
    of_part = {"detector": detectors, "roi_align": alignments, "pyramid": pyramids}
    for part in parts:
        for mode in modes:
            peer = "conv" if part == "pyramid" else THEIRS
            yield from part_times(part, mode, of_part[part](case, mode), peer, rounds, case.device)


def detectors(case: DetectorCase, mode: Mode) -> dict[str, Callable[[], object]]:
    """Mask R-CNN on ResNet-50 with its pyramid: the same widths, proposals, regions, pictures and objects."""
    height, width = case.size
    images = torch.rand(case.batch_size, 3, height, width, device=case.device)
    images = images.contiguous(memory_format=torch.channels_last)
    found = [_objects(case, seed) for seed in range(case.batch_size)]
    ours, theirs = our_detector().to(case.device), their_detector(case).to(case.device)
    lay_out(ours, torch.channels_last)
    lay_out(theirs, torch.channels_last)
    targets = [{"boxes": one.boxes, "labels": one.labels + 1, "masks": one.masks} for one in found]
    pictures, seeds = [case.size] * case.batch_size, list(range(case.batch_size))
    mean, std = (torch.tensor(of, device=case.device).view(3, 1, 1) for of in (_MEAN, _STD))
    for model in (ours, theirs):
        model.train(mode == "train")

    def our_step() -> object:
        losses = ours((images - mean) / std, pictures, found, seeds)
        torch.stack([(one.total / one.items).mean() for one in losses.values()]).sum().backward()
        ours.zero_grad(set_to_none=True)
        return losses

    def their_step() -> object:
        losses: dict[str, Tensor] = theirs(list(images), [dict(one) for one in targets])
        torch.stack(list(losses.values())).sum().backward()
        theirs.zero_grad(set_to_none=True)
        return losses

    @torch.inference_mode()
    def our_answer() -> object:
        answers = ours((images - mean) / std, pictures)
        return [
            [pasted(share, box, case.size) for share, box in zip(shares.cpu(), kept.boxes.cpu(), strict=True)]
            for kept, shares in answers
        ]

    @torch.inference_mode()
    def their_answer() -> object:
        return theirs(list(images))

    if mode == "train":
        return {THEIRS: their_step, OURS: our_step}
    return {THEIRS: their_answer, OURS: our_answer}


def our_detector() -> Detector:
    """Ours, on timm's ResNet-50."""
    ours = Detector(build_backbone("resnet50"), _CLASSES)
    likely: Any = ours.roi_head.box_heads[0].fc_cls
    _expect_one_class(likely, 0)
    return ours


def their_detector(case: DetectorCase) -> MaskRCNN:
    """torchvision's, with as many proposals as ours; pictures stay as large as they are."""
    theirs = maskrcnn_resnet50_fpn(
        weights=None,
        weights_backbone=None,
        num_classes=_CLASSES + 1,
        min_size=min(case.size),
        max_size=max(case.size),
        rpn_post_nms_top_n_train=_PROPOSALS,
    )
    likely: Any = theirs.roi_heads.box_predictor.cls_score
    _expect_one_class(likely, 1)
    return theirs


def _expect_one_class(layer: nn.Linear, number: int) -> None:
    with torch.no_grad():
        layer.bias[number] += _LIKELY


def _objects(case: DetectorCase, seed: int) -> Objects:
    """Rectangles of an eighth to a half of the picture's sides."""
    generator = torch.Generator().manual_seed(seed)
    size = torch.tensor(case.size[::-1])
    sides = size * (0.125 + 0.375 * torch.rand(case.objects, 2, generator=generator))
    first = (size - sides) * torch.rand(case.objects, 2, generator=generator)
    boxes = torch.cat([first, first + sides], 1)
    masks = torch.zeros(case.objects, *case.size, dtype=torch.uint8)
    for mask, (left, top, right, bottom) in zip(masks, boxes.long().tolist(), strict=True):
        mask[top:bottom, left:right] = 1
    labels = torch.arange(case.objects) % _CLASSES
    return Objects(boxes.to(case.device), labels.to(case.device), masks.to(case.device))


def alignments(case: DetectorCase, mode: Mode) -> dict[str, Callable[[], object]]:
    """RoIAlign of 7 x 7 bins on the finest level, of regions of 16 to 112 pixels a side."""
    generator = torch.Generator().manual_seed(0)
    height, width = (side // REGION_STRIDES[0] for side in case.size)
    maps = torch.randn(case.batch_size, _CHANNELS, height, width, generator=generator)
    maps = maps.to(case.device).contiguous(memory_format=torch.channels_last)
    size = torch.tensor(case.size[::-1], dtype=torch.float32)
    sides = 16 + 96 * torch.rand(case.regions, 2, generator=generator)
    first = (size - sides) * torch.rand(case.regions, 2, generator=generator)
    number = torch.arange(case.regions)[:, None] % case.batch_size
    rois = torch.cat([number, first, first + sides], 1).to(case.device)
    functions: Mapping[str, Callable[[Tensor], Tensor]] = {
        THEIRS: lambda of: their_roi_align(of, rois, SIDE, 1 / REGION_STRIDES[0], 0, aligned=True),
        OURS: lambda of: roi_align(of, rois, SIDE, 1 / REGION_STRIDES[0]),
    }
    gradient = torch.randn(case.regions, _CHANNELS, SIDE, SIDE, generator=generator).to(case.device)
    gradient = gradient.contiguous(memory_format=torch.channels_last)
    return {name: partial(_run, function, maps, gradient, mode) for name, function in functions.items()}


def pyramids(case: DetectorCase, mode: Mode) -> dict[str, Callable[[], object]]:
    """What comes behind the top-down path on the finest level: a 3x3 convolution, or gnConv."""
    height, width = (side // REGION_STRIDES[0] for side in case.size)
    maps = torch.randn(case.batch_size, _CHANNELS, height, width, device=case.device)
    maps = maps.contiguous(memory_format=torch.channels_last)
    layers: dict[Fusing, nn.Module] = {
        "conv": nn.Conv2d(_CHANNELS, _CHANNELS, 3, padding=1),
        "7x7": DecoderGnConv(_CHANNELS, _CHANNELS, "7x7"),
        "gf": DecoderGnConv(_CHANNELS, _CHANNELS, "gf"),
    }
    gradient = torch.randn_like(maps)
    found: dict[str, Callable[[], object]] = {}
    for name, layer in layers.items():
        lay_out(layer.to(case.device), torch.channels_last)
        layer.train(mode == "train")
        found[name] = partial(_run, layer, maps, gradient, mode)
    return found


def _run(function: Callable[[Tensor], Tensor], maps: Tensor, gradient: Tensor, mode: Mode) -> Tensor:
    if mode == "inference":
        with torch.inference_mode():
            return function(maps)
    given = maps.detach().requires_grad_()
    function(given).backward(gradient)
    assert given.grad is not None
    if isinstance(function, nn.Module):
        function.zero_grad(set_to_none=True)
    return given.grad
