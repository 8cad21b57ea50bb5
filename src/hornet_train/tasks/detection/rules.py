"""The rules across the fields of a detection config; the schema of the task, with them."""

from __future__ import annotations

from collections.abc import Iterator

from hornet_train.config.task_schema import Given, NoData, TaskSchema
from hornet_train.tasks.detection.schema import (
    CocoFolderData,
    Data,
    DetectionConfig,
    DetectionEval,
    DetectionInfo,
    HubData,
    Model,
    VocData,
)
from hornet_train.tasks.picture_rules import preprocessing_rules, table_rules

OWN = ("mask_rcnn", "cascade_mask_rcnn")  # the names of models whose parts are chosen one by one
_NO_MAP = "init_map= is of classifiers: classes of detection are matched by their names"


def rules(config: DetectionConfig, _given: Given, _world_size: int) -> Iterator[str]:
    """A sentence for each rule that a training config breaks."""
    yield from _data_rules(config.data)
    yield from _model_rules(config.model)
    data, augment = config.data, config.augment
    for key, pair in (("crop", augment.crop), ("jitter", augment.jitter)):
        if pair is not None and pair[0] > pair[1]:
            yield f"augment.{key}={list(pair)}: the smaller value comes first"
    if augment.copy_paste and not config.model.masks:
        yield f"augment.copy_paste={augment.copy_paste} pastes objects by their masks: model.masks=true"
    if data.scale is None and augment.jitter is not None:
        yield "augment.jitter= is of data.scale's longer side, and data.scale is null"
    if isinstance(data, CocoFolderData) and data.val_share is not None and not data.val:
        yield f"data.val_share={data.val_share} holds out what data.val=false leaves alone: leave one out"
    if config.init_map is not None:
        yield _NO_MAP


def eval_rules(config: DetectionEval, given: Given) -> Iterator[str]:
    """A sentence for each rule that an evaluation config breaks."""
    yield from _data_rules(config.data)
    yield from _model_rules(config.model)
    if config.init_map is not None:
        yield _NO_MAP
    if "save_dir" in given and not config.save:
        yield "save_dir= says where overlays or results go, and none are saved: save=overlays, say"


def _data_rules(data: Data) -> Iterator[str]:
    """Those of a data group, in training and evaluation alike."""
    if isinstance(data, HubData):
        yield from table_rules(data.name, data.train_split, data.val_split)
    elif data.root is None:
        what = {
            "coco": "COCO's folder, with annotations/, train2017/ and val2017/",
            "voc": "VOC2012, with Annotations/ and JPEGImages/",
        }.get(data.source, "the folder that holds the JSON and the pictures")
        yield NoData(f"data.root is missing: data.root=<{what}>")
    if isinstance(data, VocData) and data.val_split == data.train_split and data.val_share is None:
        yield f"data.val_split={data.val_split}: the training pictures; data.val_share=0.2 holds some out"
    yield from preprocessing_rules(data.scale, data.mean, data.std)


def _model_rules(model: Model) -> Iterator[str]:
    if model.in_chans != 3:
        yield f"model.in_chans={model.in_chans}: pictures are decoded to red, green and blue: 3"
    if model.name in OWN:
        if model.backbone is None:
            yield "model.backbone is missing: model.backbone=resnet50, say, or another model of timm's"
        return
    for key in ("backbone", "neck", "channels", "width"):
        if (value := getattr(model, key)) is not None:
            yield f"model.{key}={value}: {model.name} is a published model as it is; model=mask_rcnn takes it"


SCHEMA = TaskSchema(
    name="detection",
    about="boxes of objects, and their masks",
    train=DetectionConfig,
    evaluate=DetectionEval,
    rules=rules,
    eval_rules=eval_rules,
    info=DetectionInfo,
    info_rules=lambda config: _model_rules(config.model),
    recipe="detection",
)
