"""No key that does nothing: each field of a config is read by the program when it is used."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from configs import compose_train
from helpers import TINY
from pydantic.dataclasses import is_pydantic_dataclass
from shapes import DETECT, SEGMENT, write_shapes
from shards import pictures, write_parquet

from hornet_train.config import bench_schema
from hornet_train.config.conf_files import conf_dir
from hornet_train.config.key import walk
from hornet_train.config.schema import InfoConfig
from hornet_train.errors import ConfigError, DataError
from hornet_train.tasks.classification.build.open_data import open_data
from hornet_train.tasks.classification.schema import ClassificationConfig, ClassificationEval
from hornet_train.tasks.detection.build.open_data import open_objects
from hornet_train.tasks.detection.schema import DetectionConfig, DetectionEval, DetectionInfo
from hornet_train.tasks.segmentation.build.open_data import open_pictures
from hornet_train.tasks.segmentation.schema import SegmentationConfig, SegmentationEval, SegmentationInfo

Command = Callable[..., tuple[int, str, str]]
Field = tuple[str, str]  # the class that declares it, its name
BENCHES = get_args(bench_schema.Bench)
SEGMENTATION = (SegmentationConfig, SegmentationEval, SegmentationInfo)
DETECTION = (DetectionConfig, DetectionEval, DetectionInfo)
SCHEMAS = (ClassificationConfig, ClassificationEval, InfoConfig, *SEGMENTATION, *DETECTION, *BENCHES)
STORED = {("Recipe", "command"), ("Task", "name")}  # for people; config reads the task's name from the file
CHECKING = (  # what only looks for faults
    "hornet_train.config.",
    "hornet_train.tasks.classification.rules",
    "hornet_train.tasks.segmentation.rules",
    "hornet_train.tasks.detection.rules",
)


def groups_of(schema: type) -> Iterator[type]:
    """A schema and every group in it."""
    yield schema
    for _, _, field in walk(schema):
        for part in (field.annotation, *get_args(field.annotation)):
            if isinstance(part, type) and is_pydantic_dataclass(part):
                yield part


def declared(group: type) -> dict[str, type]:
    """Field -> the class that declares it, or declares it again with a narrower type."""
    return {
        name: base
        for base in reversed(group.__mro__)
        for name in vars(base).get("__annotations__", {})
    }  # fmt: skip


def fields_to_read() -> set[Field]:
    """All but those whose only value says which alternative of a group it is: that is read as the type."""
    found = set()
    for schema in SCHEMAS:
        kinds = {(name.rpartition(".")[2], field.annotation) for name, key, field in walk(schema)
                 if key.names_option and field.annotation is not str}  # fmt: skip
        for group in groups_of(schema):
            for name, base in declared(group).items():
                if (name, vars(group)["__pydantic_fields__"][name].annotation) not in kinds:
                    found.add((base.__qualname__, name))
    return found


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> set[Field]:
    """The fields that the program reads from now on, beyond checking them."""
    seen: set[Field] = set()
    for group in {group for schema in SCHEMAS for group in groups_of(schema)}:
        owners = declared(group)

        def get(self: object, name: str, owners: dict[str, type] = owners) -> Any:
            reader = sys._getframe(1).f_globals.get("__name__", "")
            if name in owners and reader.startswith("hornet_train.") and not reader.startswith(CHECKING):
                seen.add((owners[name].__qualname__, name))
            return object.__getattribute__(self, name)

        monkeypatch.setattr(group, "__getattribute__", get)
    return seen


class NoWandb:
    """In place of the connection to W&B."""

    where = ""

    def __init__(self, *_arguments: object, **_more: object) -> None: ...

    def write(self, event: object) -> None: ...

    def close(self) -> None: ...


def stop(*_arguments: object, **_more: object) -> None:
    raise ConfigError("far enough")


def test_every_field_is_read(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch, read: set[Field]
) -> None:
    monkeypatch.setattr("hornet_train.track.wandb_sink.WandbSink", NoWandb)
    short = [*TINY, "model=hornet_pico_7x7", "epochs=1", "eval.every=1ep", "log.every=3it"]
    first, second = tmp_path / "first", tmp_path / "second"
    made = command("hornet-train", *short, "schedule=multistep", "schedule.milestones=[2it]", "log=wandb",
                   "augment.color_jitter=0.1", "augment.start_size=16", "augment.size_step=16",
                   f"run_dir={first}")  # fmt: skip
    assert made[0] == 0, made[2]
    (tmp_path / "rows.txt").write_text("3\n2\n1\n0\n")
    for schedule in ("poly", "cosine"):
        made = command("hornet-train", *short, f"schedule={schedule}", f"init_from={first}", "epochs=1it",
                       f"init_map={tmp_path}/rows.txt", f"run_dir={second}_{schedule}")  # fmt: skip
        assert made[0] == 0, made[2]
    assert command("hornet-eval", f"checkpoint={first}", "suite=null")[0] == 0
    assert command("hornet-info", "model=hornet_pico_7x7")[0] == 0
    read_data(tmp_path, command, first)
    read_segmentation(tmp_path, command)
    read_detection(tmp_path, command)
    read_benches(command, monkeypatch)
    unread = fields_to_read() - read - STORED
    assert not unread, "never read: remove these keys, or use them"


def read_data(tmp_path: Path, command: Command, checkpoint: Path) -> None:
    """Each data group up to where its files are found or missed."""
    for split in ("train", "val"):
        write_parquet(tmp_path / "set", split, pictures(12))
    shards = [f"data.name={tmp_path}/set", "data.streaming=true", "data.workers=0", "data.image_size=32"]
    code, _, err = command("hornet-train", "model=hornet_pico_7x7", "data=hub", *shards, "batch_size=6",
                           "epochs=1it", "schedule.warmup=0it", f"run_dir={tmp_path}/streamed")  # fmt: skip
    assert code == 0, err
    for overrides in (
        ["data=imagenet", f"data.root={tmp_path}", "data.val_labels=x.txt"],
        ["data=cifar10", f"data.root={tmp_path}"],
    ):
        data = compose_train(overrides).config.data
        for training in (True, False):
            with pytest.raises(DataError):
                open_data(data, training=training)
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            (tmp_path / split / name).mkdir(parents=True)
            (tmp_path / split / name / "1.jpg").write_bytes(pictures(1)[0][0])
    open_data(compose_train(["data=folder", f"data.root={tmp_path}"]).config.data)
    (tmp_path / "labels.csv").write_text("train/cat/1.jpg,cat,train\ntrain/dog/1.jpg,dog,train\n")
    for share in ([], ["data.val_share=0.2"]):  # of one image a class nothing can be held out
        with pytest.raises(DataError):
            open_data(compose_train(["data=csv", f"data.file={tmp_path}/labels.csv", *share]).config.data)
    for place in ("data=imagenet_a", "data=imagenet_real", "suite=all"):
        code, _, err = command("hornet-eval", f"checkpoint={checkpoint}", place, f"data.root={tmp_path}/no")
        assert code == 2, err


def read_detection(tmp_path: Path, command: Command) -> None:
    """A training, an evaluation, and each data group up to where its files are missed."""
    shapes, run = tmp_path / "shapes", tmp_path / "objects"
    made = command("hornet-train", *DETECT, f"data.root={shapes}", "epochs=1it", f"run_dir={run}")
    assert made[0] == 0, made[2]
    made = command("hornet-eval", f"checkpoint={run}", "save=json", f"save_dir={tmp_path}/found", "worst=1")
    assert made[0] == 0, made[2]
    assert command("hornet-info", "model=mask_rcnn_fpn_hornet_s_7x7")[0] == 0
    for overrides in (
        ["data=coco", f"data.root={tmp_path}", "model.backbone=resnet18"],
        ["recipe=objects", f"data.root={tmp_path}/no"],
        ["data=voc", f"data.root={tmp_path}/no", "model.backbone=resnet18"],
        ["data=voc", f"data.root={shapes}", "model.backbone=resnet18"],
        ["task=detection", "data=hub", f"data.name={tmp_path}/nothing", "model.backbone=resnet18"],
    ):
        with pytest.raises(DataError):
            open_objects(compose_train(overrides).config.data)


def read_segmentation(tmp_path: Path, command: Command) -> None:
    """A training, an evaluation, and each data group up to where its files are missed."""
    shapes, run = write_shapes(tmp_path / "shapes", train=8, val=2), tmp_path / "masks"
    stages = ["optim.layer_decay=0.9", "optim.layer_decay_by=stages", "optim.layer_decay_depth=6"]
    made = command("hornet-train", *SEGMENT, *stages, f"data.root={shapes}", "epochs=1it", f"run_dir={run}")
    assert made[0] == 0, made[2]
    made = command("hornet-eval", f"checkpoint={run}", "save=masks", f"save_dir={tmp_path}/saved", "worst=1")
    assert made[0] == 0, made[2]
    assert command("hornet-info", "model=upernet_hornet_t_7x7")[0] == 0
    for overrides in (
        ["data=ade20k", f"data.root={tmp_path}"],
        ["data=cityscapes", f"data.root={tmp_path}"],
        ["task=segmentation", "data=hub", f"data.name={tmp_path}/nothing"],
    ):
        with pytest.raises(DataError):
            open_pictures(compose_train(overrides).config.data)


def read_benches(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each bench up to where it would measure."""
    for measures in (
        "step_times.measure",
        "loop.measure_loop",
        "scaling.process_ratios",
        "step_times.build_step",
        "head_times.measure_heads",
        "detector_times.measure_detectors",
        "service_load.measure_service",
    ):
        monkeypatch.setattr(f"hornet_train.bench.{measures}", stop)
    for measures in ("batch_growth", "pixel_growth", "order_growth"):
        monkeypatch.setattr(f"hornet_train.bench.scaling.{measures}", lambda *_arguments, **_more: None)
    one = "model=hornet_pico_7x7"
    for bench in (
        ["step", "models=hornet_pico_7x7", "peers=resnet18"],
        ["loop", one],
        ["scaling", one],
        ["limit", one],
        ["heads"],
        ["detectors"],
        ["service", one],
    ):
        code, _, err = command("hornet-bench", *bench)
        assert (code, "far enough" in err) == (2, True), err


def test_every_key_is_set_in_conf() -> None:
    """The defaults stand there and nowhere else."""

    def names(tree: Any) -> Iterator[str]:
        for name, value in tree.items() if isinstance(tree, dict) else ():
            yield name
            yield from names(value)

    trees = [yaml.safe_load(path.read_text()) for path in conf_dir().rglob("*.yaml")]
    present = {name for tree in trees for name in names(tree)} | {"model", "data", "augment", "dist"}
    keys = {key for schema in SCHEMAS for key, _, _ in walk(schema)}
    assert {"optim.lr", "data.train_count", "recipe.top1"} <= keys
    assert [key for key in sorted(keys) if key.rpartition(".")[2] not in present] == []
