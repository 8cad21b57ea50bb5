"""The published UperNets' trainings, field by field as the authors' configs have them."""

from __future__ import annotations

import pytest
import torch
from configs import compose_train

from hornet_train.config.conf_files import options
from hornet_train.dense import create
from hornet_train.dense.dense_models import SEGMENTERS
from hornet_train.models.structure import stage_ids
from hornet_train.optim.groups import parameter_groups
from hornet_train.tasks.segmentation.schema import SegmentationConfig

# drop: drop path; clip: of the gradient; ld, dep: layer decay by stages; ms: mIoU at several scales with flip
TABLE = """
name                            model                             drop clip ld  dep crop miou ms
upernet_hornet_t_7x7            upernet_hornet_tiny_7x7           0.4  -    0.9 6   512  48.1 48.9
upernet_hornet_t_gf             upernet_hornet_tiny_gf            0.4  1    0.9 6   512  49.2 49.3
upernet_hornet_s_7x7            upernet_hornet_small_7x7          0.3  -    0.9 12  512  49.2 49.8
upernet_hornet_s_gf             upernet_hornet_small_gf           0.3  1    0.9 12  512  50.0 50.5
upernet_hornet_b_7x7            upernet_hornet_base_7x7           0.4  -    0.9 12  512  50.0 50.5
upernet_hornet_b_gf             upernet_hornet_base_gf            0.5  1    0.9 12  512  50.5 50.9
upernet_hornet_l_7x7            upernet_hornet_large_7x7          0.4  -    0.8 12  640  54.1 54.5
upernet_hornet_l_gf             upernet_hornet_large_gf           0.4  0.1  0.8 12  640  55.0 55.2
upernet_horfpn_7x7_hornet_s_7x7 upernet_horfpn_7x7_hornet_small_7x7 0.3 -   0.9 12  512  -    -
upernet_horfpn_gf_hornet_s_7x7  upernet_horfpn_gf_hornet_small_7x7 0.3  0.1 0.9 12  512  -    -
"""
HEADER, *ROWS = [line.split() for line in TABLE.strip().splitlines()]
RECIPES = {row[0]: dict(zip(HEADER, row, strict=True)) for row in ROWS}


def test_these_are_all() -> None:
    assert set(options("recipe", task="segmentation")) == {
        *(f"{name}_ade20k" for name in RECIPES),
        *("upernet", "masks", "none"),
    }
    assert {row["model"] for row in RECIPES.values()} == set(SEGMENTERS)


@pytest.mark.parametrize("name", RECIPES)
def test_field_by_field(name: str) -> None:
    row = {key: None if value == "-" else value for key, value in RECIPES[name].items()}

    def number(key: str) -> float | None:
        return None if row[key] is None else float(row[key])

    config = compose_train([f"recipe={name}_ade20k", "data.root=/data"]).config
    assert isinstance(config, SegmentationConfig)
    assert config.model.name == row["model"]
    assert config.model.drop_path == number("drop") == SEGMENTERS[str(row["model"])].drop_path
    assert config.optim.clip_grad == number("clip")
    assert (config.optim.layer_decay, config.optim.layer_decay_depth) == (number("ld"), number("dep"))
    crop = int(str(row["crop"]))
    assert (config.data.image_size, config.data.scale) == (crop, (crop, 4 * crop))
    scores = {key: number(value) for key, value in (("miou", "miou"), ("miou_ms", "ms")) if row[value]}
    assert config.recipe.published == scores
    # what all of them share
    assert (str(config.epochs), config.batch_size, config.micro_batch_size) == ("160000it", 16, 2)
    assert (config.optim.lr, config.optim.betas, config.optim.weight_decay) == (1e-4, (0.9, 0.999), 0.05)
    assert config.optim.layer_decay_by == "stages"
    assert config.schedule.kind == "poly"
    assert (str(config.schedule.warmup), config.schedule.power, config.schedule.min_lr) == (
        "1500it",
        1.0,
        0.0,
    )
    assert (str(config.eval.every), config.ema.enabled, config.precision) == ("16000it", False, "fp32")
    augment = config.augment
    assert (augment.ratio, augment.cat_max_ratio, augment.hflip) == ((0.5, 2.0), 0.75, 0.5)
    assert (augment.photometric, augment.pad, augment.fill) == (True, "crop", "mean")
    task = config.task
    assert (task.auxiliary, task.average, task.class_weights, task.dice) == (0.4, "all", None, 0.0)
    assert (config.data.inference, config.data.stride, config.data.source) == ("slide", None, "ade20k")
    assert config.recipe.run_by_us is False


@pytest.mark.parametrize(
    ("name", "decay", "depth", "scales"),
    [
        ("upernet_hornet_tiny_7x7", 0.9, 6, (0.478, 0.531, 0.591, 0.656, 0.729)),
        ("upernet_hornet_small_gf", 0.9, 12, (0.254, 0.282, 0.314, 0.349, 0.387)),
        ("upernet_hornet_large_gf", 0.8, 12, (0.055, 0.069, 0.086, 0.107, 0.134)),
    ],
)
def test_rates_by_stage_are_the_published_ones(
    name: str, decay: float, depth: int, scales: tuple[float, ...]
) -> None:
    with torch.device("meta"):
        model = create(name)
    groups = parameter_groups(
        model.named_parameters(), weight_decay=0.05, layer_decay=decay, layer_ids=stage_ids(model, depth)
    )
    found = {parameter: group["lr_scale"] for group in groups for parameter in group["names"]}
    names = ("downsample_layers.2.1.weight", *(f"stages.{stage}.0.norm1.weight" for stage in range(4)))
    assert [found[f"backbone.{one}"] for one in names] == pytest.approx(scales, abs=6e-4)
    others = ("backbone.norm2.weight", "decode_head.conv_seg.weight", "auxiliary_head.conv_seg.bias")
    assert [found[one] for one in others] == [1.0, 1.0, 1.0]
    assert len(found) == len(list(model.parameters()))
