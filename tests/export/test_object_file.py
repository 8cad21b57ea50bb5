"""A detector in ONNX finds what the detector finds, its suppression inside."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from hornet_train.dense.backbone import build_backbone
from hornet_train.dense.rcnn.detector import Detector
from hornet_train.dense.rcnn.plain_detector import PlainDetector
from hornet_train.errors import CheckpointError
from hornet_train.export.object_comparison import RunDetector, compare_objects
from hornet_train.export.object_file import write_detector
from hornet_train.export.plain_graph import plain_graph
from hornet_train.models.global_filter import has_filters
from hornet_train.run.onnx_detector import OnnxDetector
from hornet_train.run.onnx_model import OnnxModel
from hornet_train.tasks.predictor_types import ObjectGraph

OUTPUTS = ("boxes", "scores", "labels", "masks")


def detector_of(mixer: str, mixers: str, *, cascade: bool, masks: bool) -> Detector:
    """One whose scores lie far apart, so that no last digit decides."""
    torch.manual_seed(0)
    backbone = build_backbone(f"hornet_pico_{mixers}", stem_stride=4, dim=8, depths=[1, 1, 1, 1])
    detector = Detector(
        *(backbone, 3),
        mixer=mixer,
        cascade=cascade,
        masks=masks,
        channels=8,
        width=16,  # type: ignore[arg-type]
    )
    for name, weight in detector.named_parameters():
        if "gamma" in name:
            nn.init.normal_(weight, std=0.4)
        if "fc_cls.weight" in name:
            nn.init.normal_(weight, std=2.0)
        if "rpn_cls.weight" in name:
            nn.init.normal_(weight, std=0.5)
    return detector.eval().requires_grad_(False)


def written(detector: Detector, path: Path, size: tuple[int, int]) -> OnnxDetector:
    fixed = size if has_filters(detector) else None
    outputs = OUTPUTS if detector.roi_head.mask_heads else OUTPUTS[:3]
    graph = ObjectGraph(PlainDetector, lambda _: [], fixed, outputs)  # type: ignore[arg-type]
    image = torch.randn(1, 3, *size)
    write_detector(
        plain_graph(PlainDetector(detector), image), graph, image, path, opset=20, texts={"a": "b"}
    )
    return OnnxDetector(path)


def eager(detector: Detector) -> RunDetector:
    def run(images: torch.Tensor, pictures: object) -> object:
        (picture,) = pictures  # type: ignore[misc]
        boxes, scores, labels, *masks = PlainDetector(detector)(images, torch.tensor(picture))
        ((like, _),) = detector(images, [picture])
        return [(like._replace(boxes=boxes, scores=scores, labels=labels), masks[0] if masks else None)]

    return run  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("mixer", "backbone", "cascade", "masks"),
    [
        ("conv", "7x7", False, True),
        ("7x7", "7x7", True, True),
        ("conv", "7x7", True, False),
        ("gf", "7x7", False, True),
        ("conv", "gf", True, True),
    ],
)
def test_it_finds_what_the_detector_finds(
    tmp_path: Path, mixer: str, backbone: str, cascade: bool, masks: bool
) -> None:
    """In pictures of any size, padded or not; with global filters in those of one size."""
    detector = detector_of(mixer, backbone, cascade=cascade, masks=masks)
    sizes = [(64, 96)] if has_filters(detector) else [(64, 96), (96, 64), (128, 160), (32, 32)]
    cases = [
        (torch.randn(1, 3, *size), (size[0] - cut, size[1] - 2 * cut)) for size in sizes for cut in (0, 9)
    ]
    run = written(detector, tmp_path / "d.onnx", (64, 96))
    assert run.size == ((64, 96) if has_filters(detector) else None)
    for other in (run, eager(detector)):
        found = compare_objects(detector, other, cases)
        assert found.objects is not None
        assert found.objects > 20
        assert found.same_class == 1
        assert found.difference < 1e-4
    assert b"site-packages" not in (tmp_path / "d.onnx").read_bytes()


def test_nothing_may_be_found(tmp_path: Path) -> None:
    detector = detector_of("conv", "7x7", cascade=False, masks=True)
    detector.rules = replace(detector.rules, roi=replace(detector.rules.roi, least_score=1.0))
    run = written(detector, tmp_path / "d.onnx", (64, 64))
    for size in ((64, 64), (32, 96)):
        ((kept, shares),) = run(torch.randn(1, 3, *size), [size])
        assert len(kept.boxes) == len(kept.labels) == len(kept.scores) == 0
        assert shares is not None
        assert shares.shape == (0, 28, 28)


def test_a_class_without_a_name_is_refused(tmp_path: Path) -> None:
    detector = detector_of("conv", "7x7", cascade=False, masks=False)
    written(detector, tmp_path / "d.onnx", (64, 64))
    image = torch.randn(1, 3, 64, 64)
    assert len(OnnxDetector(tmp_path / "d.onnx", 3)(image, [(64, 64)])[0][0].labels) > 0
    with pytest.raises(CheckpointError, match="of a class that has no name"):
        OnnxDetector(tmp_path / "d.onnx", 1)(image, [(64, 64)])
    with pytest.raises(CheckpointError, match="its input is not `images`"):
        OnnxModel(tmp_path / "d.onnx")


def test_other_objects_are_noticed() -> None:
    detector = detector_of("conv", "7x7", cascade=False, masks=True)
    image = torch.randn(1, 3, 64, 96)

    def without_the_first(images: torch.Tensor, pictures: object) -> object:
        ((kept, shares),) = detector(images, pictures)  # type: ignore[arg-type]
        return [(type(kept)(*(one[1:] for one in kept)), shares[1:])]

    def of_other_classes(images: torch.Tensor, pictures: object) -> object:
        ((kept, shares),) = detector(images, pictures)  # type: ignore[arg-type]
        return [(kept._replace(labels=(kept.labels + 1) % 3), shares)]

    def elsewhere(images: torch.Tensor, pictures: object) -> object:
        ((kept, shares),) = detector(images, pictures)  # type: ignore[arg-type]
        return [(kept._replace(boxes=kept.boxes + 0.5), shares)]

    cases = [(image, (64, 96))]
    fewer = compare_objects(detector, without_the_first, cases)  # type: ignore[arg-type]
    assert fewer.same_class == pytest.approx(1 - 1 / (fewer.objects or 1))
    assert compare_objects(detector, of_other_classes, cases).same_class < 0.5  # type: ignore[arg-type]
    assert compare_objects(detector, elsewhere, cases).difference > 1e-3  # type: ignore[arg-type]
