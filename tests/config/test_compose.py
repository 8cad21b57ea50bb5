"""From the command line to a typed config."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml
from configs import compose_eval, compose_train
from hypothesis import given
from hypothesis import strategies as st

from hornet_train.config.compose_train import GROUPS
from hornet_train.config.conf_files import options
from hornet_train.config.duration import Duration
from hornet_train.config.validate import accumulation
from hornet_train.errors import ConfigError
from hornet_train.tasks.classification.schema import DigitsData, FolderData

EVALUATION_ONLY = (
    *("imagenet_v2", "imagenet_a", "imagenet_r", "imagenet_sketch", "imagenet_c"),
    *("imagenet_real", "suite"),
)
SEGMENTATION = (
    *(o for o in options("model") if o.startswith("upernet")),
    "scenes",
    "plain_scenes",
    "segmentation",
)
DETECTION = (
    *(o for o in options("model") if "mask_rcnn" in o),
    "coco",
    "coco_folder",
    "voc",
    "objects",
    "plain_objects",
    "detection",
)
WITH_ROOT = (
    *DETECTION,
    "ade20k",
    "cityscapes",
    "masks",
    "upernet",
    *SEGMENTATION,
    "folder",
    "imagenet",
    "imagenet22k",
    "cifar10",
    "cifar100",
    "mnist",
    "fashion_mnist",
)
NEEDED = {option: ["data.root=/x"] for option in WITH_ROOT} | {
    "hub": ["data.name=/x"],
    "csv": ["data.file=/x"],
}


def faults(*overrides: str, world_size: int = 1) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as raised:
        compose_train(list(overrides), world_size=world_size)
    return raised.value.faults


@pytest.mark.quick
@pytest.mark.parametrize(
    ("group", "option"), [(g, o) for g in GROUPS for o in options(g) if o not in EVALUATION_ONLY]
)
def test_every_option_composes(group: str, option: str) -> None:
    more = NEEDED.get(option, [])
    if option == "timm":
        more = ["model.name=resnet18"]
    if group == "recipe" and option.startswith(("hornet", "upernet", "mask_rcnn", "cascade")):
        more = ["data.root=/x"]
    if group == "model" and option in ("upernet", "mask_rcnn", "cascade_mask_rcnn"):
        more = [*more, "model.backbone=resnet18"]
    if (group, option) in (
        ("augment", "objects"),
        ("augment", "plain_objects"),
        ("data", "coco"),
        ("task", "detection"),
        ("data", "coco_folder"),
        ("data", "voc"),
        ("recipe", "detection"),
    ):
        more = [*more, "model.backbone=resnet18"]
    composed = compose_train([f"{group}={option}", *more], world_size=2 if option == "fsdp" else 1)
    assert composed.choices[group] == option
    assert yaml.safe_load(composed.yaml()) == composed.tree
    schema = type(composed.config)
    values = {field.name: getattr(composed.config, field.name) for field in fields(schema)}
    assert schema(**values) == composed.config


def test_the_default_is_the_digits() -> None:
    composed = compose_train([])
    assert composed.choices["recipe"] == "digits"
    assert isinstance(composed.config.data, DigitsData)
    assert composed.config.model.name == "hornet_pico_gf"


def test_other_data_start_from_the_papers_settings() -> None:
    composed = compose_train(["data=imagenet", "data.root=/x"])
    assert composed.choices["recipe"] == "none"
    assert composed.choices["augment"] == "paper"
    assert composed.config.batch_size == 4096
    assert compose_train(["data=synthetic", "recipe=digits"]).choices["recipe"] == "digits"


def test_keys_win_over_recipes() -> None:
    config = compose_train(["recipe=hornet_s_gf_in1k", "data.root=/x", "optim.lr=1e-3", "ema=none"]).config
    assert (config.optim.lr, config.optim.clip_grad, config.ema.enabled) == (1e-3, 1.0, False)


@pytest.mark.quick
def test_all_faults_at_once() -> None:
    message = faults(
        "optim.lrr=1",
        "model=hornet_tiny_gf",
        "batch_size=0",
        "schedule=cosin",
        "epochs=5%",
        "a b",
        "seed=1,2",
        "-x",
        "data.image_size=abc",
        "augment.scale=[1.0,0.5]",
    )
    expected = (
        "unknown key optim.lrr: did you mean 'optim.lr'?",
        "model=hornet_tiny_gf: no such option of model; did you mean 'hornet_t_gf'?",
        "batch_size=0: input should be greater than or equal to 1",
        "schedule=cosin: no such option of schedule; did you mean 'cosine'? "
        "It is one of: cosine, multistep, poly.",
    )
    assert len(message) == 10
    assert set(expected) <= set(message)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("lr=1", "did you mean 'optim.lr'"),
        ("optim.lr=fast", "optim.lr=fast"),
        ("optim.clip_grad=0", "optim.clip_grad=0"),
        ("optim.betas=[0.9]", "optim.betas"),
        ("optim.betas=[0.9,x]", "optim.betas.1=x"),
        ("checkpoint=5", "checkpoint=5"),
        ("optim.betas=[0.9,1.0]", "optim.betas.1=1.0"),
        ("augment.scale=[0,1]", "augment.scale.0=0"),
        ("optim.lr=inf", "optim.lr=inf"),
        ("epochs=1e400ep", "epochs=1e400ep"),
        ("seed=${foo}", "foo"),
        ("batch_size=true", "batch_size=True"),
        ("model.args=[1]", "model.args=[1]"),
        ("run_dir=", "run_dir= is empty"),
        ("data.val_labels=x.txt", "unknown key data.val_labels"),
        ("data.workers=1000000", "data.workers=1000000"),
        ("recipe=hornet_t", "hornet_t_7x7_in1k, hornet_t_gf_in1k"),
        ("precision=fp23", "did you mean 'fp32'"),
        ("data.source=digit", "did you mean 'digits'"),
        ("schedule.warmup=30%%", "schedule.warmup"),
        ("schedule.warmup=1.5it", "whole number"),
        ("ema.decay=1", "ema.decay=1"),
        ("checkpoint.keep=0", "checkpoint.keep=0"),
        ("schedule.min_lr=1", "above the peak"),
        ("init_map=x.pth", "init_from="),
        ("schedule.warmup=30ep", "longer than the run"),
        ("augment.color_jitter=[0.4,0.4]", "augment.color_jitter=[0.4, 0.4]: one strength, or 3 or 4"),
        ("augment.color_jitter=-1", "augment.color_jitter=-1: a strength is 0 or more"),
        ("augment.color_jitter=strong", "augment.color_jitter=strong: one strength"),
        ("augment.color_jitter=[0.4,0.4,0.4,0.6]", "augment.color_jitter.3=0.6"),
        ("augment.color_jitter_prob=0.8", "no colour jitter"),
        ("augment.grow_until=50%", "images do not grow"),
        ("augment.size_step=16", "images do not grow"),
        ("augment.blur=2", "augment.blur=2"),
    ],
)
def test_one_fault(override: str, message: str) -> None:
    (fault,) = faults(override)
    assert message in fault


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("0.3", (0.3, 0.3, 0.3, 0.0)),
        ("[0.1,0.2,0.3]", (0.1, 0.2, 0.3, 0.0)),
        ("[0.1,0.2,0.3,0.5]", (0.1, 0.2, 0.3, 0.5)),
        ("null", None),
    ],
)
def test_forms_of_color_jitter(given: str, meant: tuple[float, ...] | None) -> None:
    composed = compose_train([f"augment.color_jitter={given}"])
    assert composed.config.augment.color_jitter == meant
    stored = composed.tree["augment"]["color_jitter"]
    assert stored == (None if meant is None else list(meant))
    again = compose_train([f"augment.color_jitter={'null' if stored is None else stored}"])
    assert again.tree == composed.tree


def test_paths_are_taken_as_they_are() -> None:
    path = "/data/ImageNet (2012), part=1"
    config = compose_train(["data=folder", f"data.root={path}", "run_dir=null"]).config
    assert isinstance(config.data, FolderData)
    assert config.data.root == path
    home = compose_train(["run_dir=~/runs/a b"]).config.run_dir
    assert home == str(Path.home() / "runs/a b")
    assert config.run_dir is None


def test_free_arguments_reach_the_model() -> None:
    assert compose_train(["model.args.layer_scale_init=0.1"]).config.model.args == {"layer_scale_init": 0.1}


def test_an_evaluation_keeps_what_the_checkpoint_was_trained_with() -> None:
    trained = compose_train(["model=hornet_s_gf", "data.image_size=48", "precision=bf16"]).tree
    kept = compose_eval(["checkpoint=x"], lambda _: trained).config
    assert (kept.model.name, kept.data.image_size, kept.precision) == ("hornet_small_gf", 48, "bf16")
    other = compose_eval(["checkpoint=x", "data=imagenet", "data.root=/y"], lambda _: trained).config
    assert isinstance(other.data, FolderData)
    assert (other.data.image_size, other.data.mean) == (48, kept.data.mean)
    explicit = compose_eval(["checkpoint=x", "data.image_size=64"], lambda _: trained).config
    assert explicit.data.image_size == 64
    folder = compose_train(["data=imagenet", "data.root=/y", "data.workers=3"]).tree
    older = {**folder, "data": {k: v for k, v in folder["data"].items() if not k.endswith("_dir")}}
    data = compose_eval(["checkpoint=x"], lambda _: older).config.data
    assert isinstance(data, FolderData)
    assert (data.root, data.classes, data.workers, data.val_dir) == ("/y", "imagenet_1k", 3, "val")
    with pytest.raises(ConfigError) as raised:
        compose_eval(["checkpoint=x", "model.drop_path=0.1"], lambda _: None)
    for message in ("data is missing", "model is missing", "model.drop_path is read in training only"):
        assert message in str(raised.value)


@pytest.mark.parametrize("option", sorted(set(EVALUATION_ONLY) & set(options("data"))))
def test_sets_for_evaluation_compose_there_and_are_refused_in_training(option: str) -> None:
    trained = compose_train(["data.image_size=48"]).tree
    composed = compose_eval(["checkpoint=x", f"data={option}", "data.root=~/x"], lambda _: trained)
    assert composed.config.data.source == option
    assert composed.tree["data"]["root"] == str(Path.home() / "x")
    assert composed.config.data.image_size == 48
    (message,) = faults(f"data={option}", "data.root=/x")
    assert message.startswith(f"data={option} is for evaluation only: hornet-eval")


def test_several_sets() -> None:
    def suite(*overrides: str) -> Any:
        return compose_eval(["checkpoint=x", *overrides], lambda _: compose_train([]).tree).config

    config = suite("suite=all", "data.root=/data")
    assert (config.suite, config.data.root, config.data.image_size) == ("all", "/data", 32)
    assert suite("suite=imagenet_c", "data.root=/data").suite == ("imagenet_c",)
    assert suite("suite=[imagenet_a,imagenet,imagenet_a]", "data.root=/data").suite == (
        "imagenet_a",
        "imagenet",
    )
    assert suite("suite=null").data.source == "digits"
    for overrides, message in (
        (["suite=all"], "data.root is missing: data.root=<the folder that holds the sets' folders>"),
        (["suite=all", "data=imagenet_a", "data.root=/x"], "data=imagenet_a and suite= exclude each other"),
        (["suite=imagenet_b", "data.root=/x"], "no evaluation set 'imagenet_b'; did you mean 'imagenet_"),
        (["suite=3", "data.root=/x"], "suite=3: is neither all nor a list"),
        (["data=imagenet_a", "data.source=suite", "data.root=/x"], "suite=all or suite="),
    ):
        with pytest.raises(ConfigError) as raised:
            suite(*overrides)
        assert message in str(raised.value)


@given(value=st.floats(0, 1e4), unit=st.sampled_from(["ep", "it", "%"]))
def test_durations_resolve_to_whole_steps(value: float, unit: str) -> None:
    if unit == "it":
        value = int(value)
    if unit == "%":
        value = value / 100
    duration = Duration.parse(f"{value}{unit}")
    steps = duration.steps(steps_per_epoch=312, total_steps=93_600)
    exact = {"ep": value * 312, "it": value, "%": value / 100 * 93_600}[unit]
    assert abs(steps - exact) <= 0.5
    assert Duration.parse("300ep").steps(steps_per_epoch=312) == 93_600
    with pytest.raises(ValueError, match="share of itself"):
        Duration.parse("5%").steps(steps_per_epoch=312)


@given(batch=st.integers(1, 200), micro=st.none() | st.integers(1, 64), world=st.integers(1, 9))
def test_batches_are_cut_up_evenly_or_refused_with_sizes_that_work(
    batch: int, micro: int | None, world: int
) -> None:
    try:
        size, pieces = accumulation(batch, micro, world)
    except ValueError as error:
        offered = [
            int(word.split("=")[1].rstrip(",;")) for word in str(error).split(":")[-1].split() if "=" in word
        ]
        if offered and "micro" in str(error).split(":")[-1]:
            offered = [
                int(w) for w in str(error).split("nearest")[1].replace("=", " ").split() if w.isdigit()
            ]
            assert offered
            assert all(accumulation(batch, one, world) for one in offered)
        else:
            assert offered
            assert all(accumulation(one, None, world) for one in offered)
    else:
        assert size * pieces * world == batch
        assert micro is None or size <= micro


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("compile=block", "compile=block: did you mean 'blocks'? It is one of: blocks, false, true."),
        (
            "model.grad_checkpointing=foo",
            "model.grad_checkpointing=foo: it is one of: false, true; or a list",
        ),
        ("model.grad_checkpointing=[1,x]", "model.grad_checkpointing.1=x: input should be a valid integer"),
        ("optim.betas=[0.5]", "optim.betas.1 is missing"),
    ],
)
def test_a_value_of_several_kinds_has_one_fault(override: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose_train([override])
    assert caught.value.faults == (sentence,)
