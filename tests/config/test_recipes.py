"""The published commands, field by field as the authors' TRAINING.md has them."""

from __future__ import annotations

import pytest
import torch
from configs import compose_train

from hornet_train.config.conf_files import options
from hornet_train.config.schema import CosineSchedule
from hornet_train.config.validate import accumulation
from hornet_train.images.policies.randaugment import RandAugment
from hornet_train.tasks.classification.build.components import build_task, train_transform
from hornet_train.tasks.classification.schema import ClassificationConfig, FolderData

# "gpu" is the batch of one GPU, m RandAugment's magnitude
TABLE = """
name                           model           batch gpu lr   wd   ep  wu drop clip m  ema mix ld  size top1
hornet_t_7x7_in1k              tiny_7x7        4096  128 4e-3 0.05 300 20 0.2  100  9  1   1   -     224  82.8
hornet_t_gf_in1k               tiny_gf         4096  128 4e-3 0.05 300 20 0.2  1    9  1   1   -     224  83.0
hornet_s_7x7_in1k              small_7x7       4096  64  4e-3 0.05 300 20 0.4  5    9  1   1   -     224  83.8
hornet_s_gf_in1k               small_gf        4096  64  4e-3 0.05 300 20 0.4  1    12 1   1   -     224  84.0
hornet_b_7x7_in1k              base_7x7        4096  64  4e-3 0.05 300 20 0.5  5    9  1   1   -     224  84.2
hornet_b_gf_in1k               base_gf         4096  64  4e-3 0.05 300 20 0.5  1    15 1   1   -     224  84.3
hornet_l_7x7_in22k             large_7x7       4096  32  4e-3 0.1  90  5  0.2  5    9  0   1   -     224  -
hornet_l_gf_in22k              large_gf        4096  32  4e-3 0.1  90  5  0.2  1    9  0   1   -     224  -
hornet_l_7x7_in22k_ft_in1k_384 large_7x7       512   16  5e-5 1e-8 30  0  0.4  1    9  1   0   0.7   384  -
hornet_l_gf_in22k_ft_in1k_384  large_gf_img384 512   16  5e-5 1e-8 30  0  0.4  1    9  1   0   0.7   384  87.7
"""
HEADER, *ROWS = [line.split() for line in TABLE.strip().splitlines()]
PUBLISHED = {row[0]: dict(zip(HEADER, row, strict=True)) for row in ROWS}


def compose(recipe: str) -> ClassificationConfig:
    return compose_train([f"recipe={recipe}", "data.root=/data"]).config


def test_these_are_all() -> None:
    assert set(options("recipe", task="classification")) == {*PUBLISHED, "digits", "none"}


@pytest.mark.parametrize("recipe", PUBLISHED)
def test_field_by_field(recipe: str) -> None:
    config = compose(recipe)
    row = {key: None if value == "-" else value for key, value in PUBLISHED[recipe].items()}

    def number(key: str) -> float | None:
        return None if row[key] is None else float(row[key])

    mixing = row["mix"] == "1"
    assert config.model.name == f"hornet_{row['model']}"
    assert (config.batch_size, config.micro_batch_size) == (number("batch"), number("gpu"))
    assert (config.optim.lr, config.optim.weight_decay) == (number("lr"), number("wd"))
    assert (str(config.epochs), str(config.schedule.warmup)) == (f"{row['ep']}ep", f"{row['wu']}ep")
    assert (config.model.drop_path, config.optim.clip_grad) == (number("drop"), number("clip"))
    assert config.optim.layer_decay == number("ld")
    assert config.augment.policy == f"rand-m{row['m']}-mstd0.5-inc1"
    assert config.ema.enabled is (row["ema"] == "1")
    assert (config.augment.mixup, config.augment.cutmix) == ((0.8, 1.0) if mixing else (0.0, 0.0))
    assert config.data.image_size == number("size")
    top1 = number("top1")
    assert config.recipe.published == ({} if top1 is None else {"top1": top1})
    assert config.recipe.name == recipe
    assert config.recipe.run_by_us is False
    assert "TRAINING.md" in config.recipe.source
    # what all of them share
    assert isinstance(config.schedule, CosineSchedule)
    assert config.schedule.min_lr == 1e-6
    assert (config.optim.betas, config.optim.eps) == ((0.9, 0.999), 1e-8)
    assert (config.ema.decay, config.ema.warmup) == (0.9999, False)
    assert (config.augment.mix_prob, config.augment.switch_prob) == (1.0, 0.5)
    assert (config.augment.hflip, config.augment.erase) == (0.5, 0.25)
    assert config.augment.scale == (0.08, 1.0)
    assert config.augment.ratio == pytest.approx((3 / 4, 4 / 3))
    assert config.task.label_smoothing == 0.1
    assert (config.data.mean, config.data.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert (config.data.crop_pct, config.data.interpolation, config.data.drop_last) == (
        0.875,
        "bicubic",
        True,
    )
    assert isinstance(config.data, FolderData)
    pretraining = recipe.endswith("_in22k")
    assert config.data.classes == ("imagenet_22k" if pretraining else "imagenet_1k")
    assert config.data.val is not pretraining
    (policy,) = train_transform(config).policies
    assert isinstance(policy, RandAugment)
    assert policy.magnitude == number("m")


@pytest.mark.parametrize("recipe", PUBLISHED)
def test_builds_on_the_meta_device(recipe: str) -> None:
    """With the published number of parameters."""
    config = compose(recipe)
    classes = 10_459 if recipe.endswith("_in22k") else 1000
    with torch.device("meta"):
        model = build_task(config, classes).build_model()
    parameters = {
        "hornet_t_7x7_in1k": 22_409_512,
        "hornet_t_gf_in1k": 22_991_848,
        "hornet_s_7x7_in1k": 49_528_264,
        "hornet_s_gf_in1k": 50_401_768,
        "hornet_b_7x7_in1k": 87_256_680,
        "hornet_b_gf_in1k": 88_421_352,
        "hornet_l_7x7_in22k": 209_080_987,
        "hornet_l_gf_in22k": 210_827_995,
        "hornet_l_7x7_in22k_ft_in1k_384": 194_542_504,
        "hornet_l_gf_in22k_ft_in1k_384": 201_806_824,
    }
    assert sum(p.numel() for p in model.parameters()) == parameters[recipe]


@pytest.mark.parametrize("recipe", PUBLISHED)
@pytest.mark.parametrize("world_size", [1, 2, 4, 8, 16, 32, 64, 128])
def test_the_global_batch_is_kept(recipe: str, world_size: int) -> None:
    config = compose(recipe)
    micro, pieces = accumulation(config.batch_size, config.micro_batch_size, world_size)
    assert micro * pieces * world_size == config.batch_size
    assert config.micro_batch_size is not None
    assert micro <= config.micro_batch_size
