"""The rules across the fields of a classification config; the schema of the task, with them."""

from __future__ import annotations

from collections.abc import Iterator

from hornet_train.config.task_schema import Given, NoData, TaskSchema
from hornet_train.images.size import as_value, height_width, in_proportion
from hornet_train.tasks.classification.schema import (
    EVALUATION_DATA,
    ClassificationConfig,
    ClassificationEval,
    CsvData,
    Data,
    FolderData,
    HubData,
    SuiteData,
    TorchvisionData,
)


def rules(config: ClassificationConfig, given: Given, _world_size: int) -> Iterator[str]:
    """A sentence for each rule that a training config breaks."""
    data, augment = config.data, config.augment
    yield from _data_rules(data)
    yield from _channel_rules(data, config.model.in_chans)
    for name, (low, high) in (("scale", augment.scale), ("ratio", augment.ratio)):
        if low > high:
            yield f"augment.{name}=[{low},{high}]: the smaller value comes first"
    if augment.color_jitter is None and augment.color_jitter_prob != 1:
        yield (
            f"augment.color_jitter_prob={augment.color_jitter_prob}, but there is no colour jitter: "
            "augment.color_jitter=0.4, say"
        )
    if isinstance(data, HubData) and data.streaming:
        if not data.drop_last:
            yield "data.drop_last=false: streams end at different images, so the tail of an epoch is left out"
        if augment.repeats > 1:
            yield f"augment.repeats={augment.repeats} needs random access: data.streaming=false"
    if augment.start_size is not None:
        start = height_width(in_proportion(augment.start_size, data.image_size))
        if any(first > last for first, last in zip(start, height_width(data.image_size), strict=True)):
            size = f"data.image_size={as_value(data.image_size)}"
            yield f"augment.start_size={as_value(augment.start_size)} is above {size}: images grow"
    if isinstance(data, FolderData) and not data.val and data.val_labels:
        yield f"data.val_labels={data.val_labels} labels images that data.val=false leaves alone"
    if augment.start_size is None:
        for key in ("augment.grow_until", "augment.size_step"):
            if key in given:
                yield f"{key}={given[key]}, but images do not grow: augment.start_size=128, say"
    if isinstance(data, HubData) and not data.streaming and "data.shuffle_buffer" in given:
        yield "data.shuffle_buffer is of streams, and data.streaming is false: leave one of them out"


def eval_rules(config: ClassificationEval, given: Given) -> Iterator[str]:
    """A sentence for each rule that an evaluation config breaks."""
    yield from _data_rules(config.data)
    yield from _channel_rules(config.data, config.model.in_chans)
    if isinstance(config.data, SuiteData) and config.suite is None and "suite" not in given:
        yield "data.source=suite: which sets is said by suite=all or suite=[imagenet_a,imagenet_r]"


def _data_rules(data: Data) -> Iterator[str]:
    """Those of a data group, in training and evaluation alike."""
    if isinstance(data, TorchvisionData) and data.root is None:
        yield NoData(f"data.root is missing: data.root=<the folder with the files of {data.name}>")
    if isinstance(data, FolderData):
        if data.root is None:
            yield NoData("data.root is missing: data.root=<the folder that holds train/ and val/>")
        if data.val_labels is not None and data.classes != "imagenet_1k":
            yield f"data.val_labels={data.val_labels} is for ImageNet's val folder: data=imagenet"
        if data.val_labels is not None and data.val_share is not None:
            yield f"data.val_share={data.val_share} and data.val_labels= exclude each other: leave one out"
        if data.class_order != "sorted" and data.classes != "any":
            yield f"data.class_order={data.class_order}: the classes of {data.classes} have their own order"
    if isinstance(data, CsvData) and data.file is None:
        yield NoData("data.file is missing: data.file=<a text file with lines of file,label>")
    if isinstance(data, HubData):
        if data.name is None:
            yield NoData(
                "data.name is missing: data.name=<id of a hub data set, or a local folder or pattern>"
            )
        if data.val_split == data.train_split:
            yield f"data.val_split={data.val_split}: the training images; data.val_split=null holds none out"
    if isinstance(data, EVALUATION_DATA) and data.root is None:
        what = "that holds the sets' folders" if isinstance(data, SuiteData) else "of the set"
        yield NoData(f"data.root is missing: data.root=<the folder {what}>")
    if min(data.std) <= 0:
        yield f"data.std={list(data.std)}: a standard deviation is above 0"


def _channel_rules(data: Data, in_chans: int) -> Iterator[str]:
    """Those of a model's channels, which the images and their statistics must have."""
    if in_chans not in (1, 3):
        yield (
            f"model.in_chans={in_chans}: pictures are decoded to red, green and blue, without transparency "
            "or further bands: 3, or 1 for grey; a task of your own (task=) may make other samples"
        )
        return
    for name, values in (("mean", data.mean), ("std", data.std)):
        if len(values) not in (in_chans, 3):
            one = "one value" if in_chans == 1 else "three values, of red, green and blue"
            yield f"data.{name}={list(values)}: model.in_chans={in_chans} asks for {one}"


SCHEMA = TaskSchema(
    name="classification",
    about="one label an image",
    train=ClassificationConfig,
    evaluate=ClassificationEval,
    rules=rules,
    eval_rules=eval_rules,
)
