"""The rules across the fields of a segmentation config; the schema of the task, with them."""

from __future__ import annotations

from collections.abc import Iterator

from hornet_train.config.task_schema import Given, NoData, TaskSchema
from hornet_train.images.size import as_value, height_width
from hornet_train.tasks.picture_rules import preprocessing_rules, table_rules
from hornet_train.tasks.segmentation.schema import (
    Data,
    HubData,
    MasksData,
    Model,
    SegmentationConfig,
    SegmentationEval,
    SegmentationInfo,
)

OWN = "upernet"  # the name of a model whose parts are chosen one by one


def rules(config: SegmentationConfig, _given: Given, _world_size: int) -> Iterator[str]:
    """A sentence for each rule that a training config breaks."""
    yield from _data_rules(config.data)
    yield from _model_rules(config.model)
    low, high = config.augment.ratio
    if low > high:
        yield f"augment.ratio=[{low},{high}]: the smaller value comes first"
    task = config.task
    if task.focal_gamma and task.hardest < 1:
        yield f"task.focal_gamma={task.focal_gamma} and task.hardest={task.hardest} exclude each other"
    data = config.data
    if isinstance(data, MasksData) and data.val_share is not None and not data.val:
        yield f"data.val_share={data.val_share} holds out what data.val=false leaves alone: leave one out"
    if config.init_map is not None:
        yield "init_map= is of classifiers: classes of segmentation are matched by their names"


def eval_rules(config: SegmentationEval, given: Given) -> Iterator[str]:
    """A sentence for each rule that an evaluation config breaks."""
    yield from _data_rules(config.data)
    yield from _model_rules(config.model)
    if config.init_map is not None:
        yield "init_map= is of classifiers: classes of segmentation are matched by their names"
    if "save_dir" in given and not config.save:
        yield "save_dir= says where masks or overlays go, and none are saved: save=masks, say"


def _data_rules(data: Data) -> Iterator[str]:
    """Those of a data group, in training and evaluation alike."""
    if isinstance(data, HubData):
        yield from table_rules(data.name, data.train_split, data.val_split)
    elif data.root is None:
        what = {
            "ade20k": "ADEChallengeData2016",
            "cityscapes": "the folder that holds leftImg8bit/ and gtFine/",
        }.get(data.source, "the folder that holds images/ and masks/")
        yield NoData(f"data.root is missing: data.root=<{what}>")
    if isinstance(data, MasksData | HubData) and data.values is not None:
        if data.reduce_zero_label:
            yield "data.values= and data.reduce_zero_label=true say it twice: leave one out"
        if len(set(data.values)) < len(data.values):
            yield f"data.values={list(data.values)}: each class has a value of its own"
    yield from preprocessing_rules(data.scale, data.mean, data.std)
    if data.stride is not None and data.stride > min(height_width(data.image_size)):
        size = f"data.image_size={as_value(data.image_size)}"
        yield f"data.stride={data.stride} is larger than the windows, {size}: some pixels would be in none"
    if min(height_width(data.image_size)) < 32:
        yield f"data.image_size={as_value(data.image_size)}: 32 pixels a side at least"


def _model_rules(model: Model) -> Iterator[str]:
    if model.in_chans != 3:
        yield f"model.in_chans={model.in_chans}: pictures are decoded to red, green and blue: 3"
    if model.name == OWN:
        if model.backbone is None:
            yield "model.backbone is missing: model.backbone=convnext_tiny, say, or another model of timm's"
        return
    for key in ("backbone", "fusion", "channels"):
        if (value := getattr(model, key)) is not None:
            yield f"model.{key}={value}: {model.name} is a published model as it is; model=upernet takes it"


SCHEMA = TaskSchema(
    name="segmentation",
    about="a class for every pixel",
    train=SegmentationConfig,
    evaluate=SegmentationEval,
    rules=rules,
    eval_rules=eval_rules,
    info=SegmentationInfo,
    info_rules=lambda config: _model_rules(config.model),
    recipe="upernet",
)
