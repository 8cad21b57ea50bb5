"""The published detectors' trainings, field by field as the authors' configs have them."""

from __future__ import annotations

import pytest
import torch
from configs import compose_train

from hornet_train.config.conf_files import options
from hornet_train.dense import create
from hornet_train.dense.dense_models import DETECTORS
from hornet_train.models.structure import layer_ids
from hornet_train.optim.groups import parameter_groups
from hornet_train.tasks.detection.build.components import preparation_notes
from hornet_train.tasks.detection.schema import DetectionConfig

# drop: drop path; ld, dep: layer decay and its depth; ep: epochs, st: where the rate falls
TABLE = """
name                             model                                 drop lr   ld   dep ep st    box  mask
cascade_mask_rcnn_hornet_t_7x7   cascade_mask_rcnn_hornet_tiny_7x7     0.4  2e-4 0.7  -   36 27,33 51.7 44.8
cascade_mask_rcnn_hornet_t_gf    cascade_mask_rcnn_hornet_tiny_gf      0.4  2e-4 0.7  -   36 27,33 52.4 45.6
cascade_mask_rcnn_hornet_s_7x7   cascade_mask_rcnn_hornet_small_7x7    0.6  2e-4 0.7  -   36 27,33 52.7 45.6
cascade_mask_rcnn_hornet_s_gf    cascade_mask_rcnn_hornet_small_gf     0.6  2e-4 0.7  -   36 27,33 53.3 46.3
cascade_mask_rcnn_hornet_b_7x7   cascade_mask_rcnn_hornet_base_7x7     0.7  2e-4 0.8  -   36 27,33 53.3 46.1
cascade_mask_rcnn_hornet_b_gf    cascade_mask_rcnn_hornet_base_gf      0.7  2e-4 0.8  -   36 27,33 54.0 46.9
cascade_mask_rcnn_hornet_l_7x7   cascade_mask_rcnn_hornet_large_7x7    0.7  1e-4 0.7  -   36 27,33 55.4 48.0
cascade_mask_rcnn_hornet_l_gf    cascade_mask_rcnn_hornet_large_gf     0.7  1e-4 0.7  -   36 27,33 56.0 48.6
mask_rcnn_fpn_hornet_s_7x7       mask_rcnn_fpn_hornet_small_7x7        0.6  1e-4 0.95 6   12 8,11  -    -
mask_rcnn_horfpn_7x7_hornet_s_7x7 mask_rcnn_horfpn_7x7_hornet_small_7x7 0.6 1e-4 0.95 6   12 8,11  -    -
mask_rcnn_horfpn_gf_hornet_s_7x7 mask_rcnn_horfpn_gf_hornet_small_7x7  0.6  1e-4 0.95 6   12 8,11  -    -
"""
HEADER, *ROWS = [line.split() for line in TABLE.strip().splitlines()]
RECIPES = {row[0]: dict(zip(HEADER, row, strict=True)) for row in ROWS}


def test_these_are_all() -> None:
    assert set(options("recipe", task="detection")) == {
        *(f"{name}_coco" for name in RECIPES),
        *("detection", "objects", "none"),
    }
    assert {row["model"] for row in RECIPES.values()} == set(DETECTORS)


@pytest.mark.parametrize("name", RECIPES)
def test_field_by_field(name: str) -> None:
    row = {key: None if value == "-" else value for key, value in RECIPES[name].items()}
    config = compose_train([f"recipe={name}_coco", "data.root=/data"]).config
    assert isinstance(config, DetectionConfig)
    assert config.model.name == row["model"]
    drop = DETECTORS[str(row["model"])].drop_path
    assert config.model.drop_path == float(str(row["drop"])) == drop
    depth = None if row["dep"] is None else int(row["dep"])
    assert (config.optim.layer_decay, config.optim.layer_decay_depth) == (float(str(row["ld"])), depth)
    assert (config.optim.lr, config.optim.clip_grad) == (float(str(row["lr"])), None)
    assert config.schedule.kind == "multistep"
    assert ",".join(str(one).removesuffix("ep") for one in config.schedule.milestones) == row["st"]
    assert str(config.epochs).removesuffix("ep") == row["ep"]
    scores = {f"{kind}_ap": float(value) for kind in ("box", "mask") if (value := row[kind])}
    assert config.recipe.published == scores
    # what all of them share
    assert (config.batch_size, config.micro_batch_size, config.precision) == (16, 2, "fp32")
    assert (config.optim.betas, config.optim.weight_decay) == ((0.9, 0.999), 0.05)
    assert (str(config.schedule.warmup), config.schedule.gamma, config.ema.enabled) == ("500it", 0.1, False)
    augment, data = config.augment, config.data
    assert (data.source, data.scale, data.antialias, data.empty) == ("coco", (800, 1333), False, False)
    assert augment.short_sides == tuple(range(480, 801, 32))
    assert (augment.crop_short_sides, augment.crop, augment.crop_share) == ((400, 500, 600), (384, 600), 0.5)
    assert (augment.hflip, augment.photometric, augment.jitter, config.task.border) == (
        0.5,
        False,
        None,
        None,
    )


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ([], None),
        (["data.scale=[480,800]"], "256 to 320 pixels (augment.short_sides) and evaluates those of 480"),
        (
            ["data.scale=null", "augment.short_sides=[300]"],
            "300 pixels (augment.short_sides) and evaluates pict",
        ),
        (["data.scale=[480,800]", "augment.short_sides=null"], None),
        (["data.scale=null", "augment.short_sides=null"], None),
        (["data.scale=[480,800]", "augment.jitter=[0.5,2.0]"], None),
        (["data.fill=mean"], "data.fill=black avoids gradients that are not finite"),
        (["data.fill=mean", "init_from=weights.pth"], None),
    ],
)
def test_a_size_that_nobody_trains_at_is_told(keys: list[str], told: str | None) -> None:
    config = compose_train(["recipe=objects", "data.root=/data", *keys]).config
    assert isinstance(config, DetectionConfig)
    notes = preparation_notes(config)
    assert len(notes) == (told is not None)
    assert told is None or told in notes[0]


def test_without_a_recipe_folders_are_trained_at_the_size_they_are_evaluated_at() -> None:
    config = compose_train(["model=mask_rcnn", "model.backbone=resnet50", "data=coco_folder", "data.root=/d"])
    assert isinstance(config.config, DetectionConfig)
    assert config.config.data.scale == (800, 1333)
    assert max(config.config.augment.short_sides or ()) == 800


def test_learning_rates_of_layers() -> None:
    """Of the cascades .7 ** (13 - id); of Mask R-CNN .95 ** (7 - id), later ones above the heads'."""
    with torch.device("meta"):
        model = create("mask_rcnn_fpn_hornet_small_7x7")

    def scales(decay: float, depth: int | None) -> dict[str, float]:
        full = None if depth is None else depth + 1
        groups = parameter_groups(
            *(model.named_parameters(),),
            weight_decay=0.05,
            layer_decay=decay,
            layer_ids=layer_ids(model, depth),
            full=full,
        )
        return {name: group["lr_scale"] for group in groups for name in group["names"]}

    stem, last = "backbone.downsample_layers.0.0.weight", "backbone.stages.3.1.pwconv1.weight"
    heads = (
        "neck.lateral_convs.0.conv.weight",
        "rpn_head.rpn_conv.weight",
        "roi_head.bbox_head.fc_cls.weight",
    )
    published = scales(0.95, 6)
    assert published[stem] == pytest.approx(0.698, abs=1e-3)
    assert published[last] == pytest.approx(1.2924, abs=1e-4)
    usual = scales(0.7, None)
    assert (usual[stem], usual[last]) == pytest.approx((0.7**13, 0.7))
    assert all(published[name] == usual[name] == 1 for name in heads)
