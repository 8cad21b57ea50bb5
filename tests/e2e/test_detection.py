"""Trainings and evaluations of detectors as a user starts them."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from faster_coco_eval import COCO
from helpers import BIN, events, run, torchrun
from jsonschema import Draft202012Validator
from PIL import Image
from service import picture_of, served
from shapes import DETECT, write_shapes

from hornet_train.dense import create
from hornet_train.dense.backbone import build_backbone
from hornet_train.dense.rcnn.detector import Detector
from hornet_train.library import load
from hornet_train.models.weight_files import read_weights

pytestmark = pytest.mark.dense
PARTS = ("loss_rpn_cls", "loss_rpn_bbox", "loss_cls", "loss_bbox", "loss_mask", "objects")


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return uneven(write_shapes(tmp_path_factory.mktemp("shapes") / "data", train=12, val=7))


def uneven(folder: Path) -> Path:
    """Every third picture is cut to 36 columns, and the next to as many rows: batches need padding."""
    for split, name in (("train", "training"), ("val", "validation")):
        content = json.loads((folder / f"{split}.json").read_text())
        for place, one in enumerate(content["images"]):
            if key := {0: "width", 1: "height"}.get(place % 3):
                one[key] = 36
                path = folder / "images" / name / one["file_name"]
                with Image.open(path) as image:
                    image.crop((0, 0, one["width"], one["height"])).save(path)
        (folder / f"{split}.json").write_text(json.dumps(content))
    return folder


@pytest.fixture(scope="module")
def trained(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "run"
    done = run("hornet-train", *DETECT, f"data.root={shapes}", "epochs=2", f"run_dir={folder}")
    assert done.returncode == 0, done.stderr
    return folder


def evaluated(out: Path, *arguments: str, processes: int = 1) -> dict[str, Any]:
    command = ("hornet-eval", *arguments, f"out={out}", "worst=0")
    done = run(*command) if processes == 1 else torchrun(2, str(BIN / command[0]), *command[1:])
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return found


def test_a_training_logs_its_losses_by_part_and_its_metrics(trained: Path) -> None:
    steps = events(trained, "train")
    assert len(steps) == 6
    for event in steps:
        assert all(np.isfinite(event[part]) for part in PARTS)
        assert event["loss"] == pytest.approx(sum(event[part] for part in PARTS[:-1]), rel=1e-5)
    found = events(trained, "eval")[-1]
    assert found["count"] == 7
    assert {"box_ap", "box_ap50", "box_ar100", "mask_ap", "mask_ap_small"} <= set(found)


def test_an_evaluation_measures_saves_and_draws(trained: Path, shapes: Path, tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    done = run("hornet-eval", f"checkpoint={trained}", "save=[overlays,json]", "worst=3", f"out={out}")
    assert done.returncode == 0, done.stderr
    result = json.loads(out.read_text(encoding="utf-8"))
    names = [one["name"] for one in json.loads((shapes / "val.json").read_text())["categories"]]
    assert list(result["per_class"]) == result["classes"] == names
    pictures = tmp_path / "found_pictures"
    assert len(list((pictures / "overlays").iterdir())) == 7
    for name in ("worst.png", "precision.png"):
        with Image.open(pictures / name) as image:
            assert len(np.unique(np.array(image.convert("RGB")).reshape(-1, 3), axis=0)) > 100
    known = {one["id"] for one in json.loads((shapes / "val.json").read_text())["images"]}
    rows = json.loads((pictures / "mask_results.json").read_text())
    assert rows
    assert all(row["image_id"] in known and 1 <= row["category_id"] <= 7 for row in rows)
    inside = run(
        "hornet-eval",
        f"checkpoint={trained}",
        "save=overlays",
        f"save_dir={shapes}/images/validation",
        f"out={out}",
    )
    assert inside.returncode == 2
    assert "where the data are" in inside.stderr


def test_batches_of_an_evaluation_make_no_difference(trained: Path, tmp_path: Path) -> None:
    found = [evaluated(tmp_path / f"{n}.json", f"checkpoint={trained}", f"batch_size={n}") for n in (1, 3)]
    for result in found:
        del result["images_per_second"]
        result.pop("batch_size", None)
    assert found[0] == found[1]


@pytest.mark.parametrize(
    "model", [["model.neck=horfpn_7x7"], ["model=cascade_mask_rcnn", "model.backbone=hornet_pico_7x7"]]
)
def test_two_processes_train_as_one(tmp_path: Path, model: list[str]) -> None:
    """Losses are of each picture, norms of all processes together. What is drawn by rank is off.

    Pictures of one size, since padding is seen by those beside it. Rounding changes now and then which
    regions are chosen, and Adam turns tiny gradients into whole steps: so steps are small, and gradients are
    compared before the first.
    """
    shapes = write_shapes(tmp_path / "data", train=12, val=7)
    given = [
        *DETECT,
        *model,
        f"data.root={shapes}",
        "epochs=2",
        "model.drop_path=0.0",
        "model.channels=8",
        "model.width=16",
        "optim.lr=1e-4",
        "optim.eps=1e-5",
    ]
    one = run("hornet-train", *given, f"run_dir={tmp_path}/one")
    two = torchrun(2, str(BIN / "hornet-train"), *given, f"run_dir={tmp_path}/two")
    assert one.returncode == 0, one.stderr
    assert two.returncode == 0, two.stderr
    first, second = ([event["loss"] for event in events(tmp_path / n, "train")] for n in ("one", "two"))
    assert len(first) == 6
    assert second == pytest.approx(first, rel=1e-4)
    norms = [events(tmp_path / n, "train")[0]["grad_norm"] for n in ("one", "two")]
    assert norms[1] == pytest.approx(norms[0], rel=1e-5)
    found = []
    for processes in (1, 2):  # the same weights: the same to the last digit
        result = evaluated(tmp_path / f"{processes}.json", f"checkpoint={tmp_path}/one", processes=processes)
        found.append({key: value for key, value in result.items() if "_a" in key or key == "per_class"})
    assert found[0] == found[1]


@pytest.mark.draw(1)
@pytest.mark.parametrize(
    "given",
    [
        ["dist=fsdp", "precision=bf16", "model.neck=horfpn_gf"],
        ["precision=bf16", "augment.crop_share=0.5", "augment.crop_short_sides=[40]", "augment.crop=[24,40]"],
        ["model.backbone=resnet18", "model.args={}", "augment.jitter=[0.5,1.5]", "augment.photometric=true"],
        ["model.grad_checkpointing=true", "data.empty=true", "task.border=0", "data.group_shapes=false"],
    ],
    ids=lambda given: given[0],
)
def test_what_the_loop_can_do_it_does_here(shapes: Path, tmp_path: Path, given: list[str]) -> None:
    options = {key: value for key, _, value in (one.partition("=") for one in [*DETECT, *given])}
    arguments = [f"{key}={value}" for key, value in options.items()]
    command = ["hornet-train", *arguments, f"data.root={shapes}", "epochs=2it", f"run_dir={tmp_path}/run"]
    done = torchrun(2, str(BIN / command[0]), *command[1:]) if "dist=fsdp" in given else run(*command)
    assert done.returncode == 0, done.stderr
    assert len(events(tmp_path / "run", "train")) == 2
    assert events(tmp_path / "run", "eval")[-1]["count"] == 7
    assert not events(tmp_path / "run", "skipped_step")
    evaluated(tmp_path / "e.json", f"checkpoint={tmp_path}/run")


def test_killed_and_started_again_it_is_the_same_run(shapes: Path, tmp_path: Path) -> None:
    folder, last = tmp_path / "run", "checkpoints/step_00000006/model.safetensors"
    given = [*DETECT, f"data.root={shapes}", "epochs=2", "checkpoint.every=2it", "checkpoint.keep=9"]
    given += ["data.workers=1", "augment.photometric=true", "augment.copy_paste=0.5"]
    done = run("hornet-train", *given, f"run_dir={tmp_path}/whole")
    assert done.returncode == 0, done.stderr
    process = subprocess.Popen(
        [str(BIN / "hornet-train"), *given, f"run_dir={folder}"],
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    step = folder / "checkpoints/step_00000002/manifest.json"
    while process.poll() is None and not step.exists():
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert step.exists()
    again = run("hornet-train", *given, f"run_dir={folder}")
    assert again.returncode == 0, again.stderr
    assert len(events(folder, "resumed")) == 1
    whole, _ = read_weights(tmp_path / "whole" / last, prefer="model")
    resumed, _ = read_weights(folder / last, prefer="model")
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_it_answers_for_pictures(trained: Path, shapes: Path) -> None:
    file = sorted((shapes / "images/validation").iterdir())[0]
    objects = load(trained).predict(file)["objects"]
    assert objects
    names = {one["name"] for one in json.loads((shapes / "val.json").read_text())["categories"]}
    assert [one["score"] for one in objects] == sorted((one["score"] for one in objects), reverse=True)
    for one in objects:
        assert one["class"] in names
        assert 0 <= one["box"][0] <= one["box"][2] <= 36
        assert one["mask"]["size"] == [48, 36]


def test_it_answers_over_http(trained: Path, shapes: Path) -> None:
    path = sorted((shapes / "images" / "validation").iterdir())[0]
    expected = load(trained).predict(path)
    with served(trained, "--threshold", "0.02") as service:
        status, found = service.ask("/predict?mask=true&drawn=true", path.read_bytes())
        _, described = service.ask("/openapi.json")
    assert status == 200, found
    Draft202012Validator(described["components"]["schemas"]["Answer"]).validate(found)
    wanted = [one for one in expected["objects"] if one["score"] >= 0.02]
    assert [one["class"] for one in found["objects"]] == [one["class"] for one in wanted]
    for one, other in zip(found["objects"], wanted, strict=True):
        assert one["box"] == pytest.approx(other["box"], abs=0.01)
        assert one["mask"] == other["mask"]
    size = (expected["height"], expected["width"])
    assert picture_of(found["mask_png"]).shape == size
    assert picture_of(found["drawn"]).shape == (*size, 3)


def spread(file: Path, out: Path) -> None:
    """An official file whose scores lie far apart, so that no last digit decides between two objects."""
    state = torch.load(file, weights_only=True)
    torch.manual_seed(0)
    for name, value in state["state_dict"].items():
        if name.endswith(("fc_cls.weight", "rpn_cls.weight")):
            value.normal_(std=0.5 if "fc" in name else 0.1)
    torch.save(state, out)


@pytest.mark.parametrize("backbone", ["hornet_pico_7x7", "hornet_pico_gf"])
def test_an_exported_detector_answers_as_its_checkpoint_does(
    trained: Path, shapes: Path, tmp_path: Path, backbone: str
) -> None:
    """Of 7x7 in pictures of every size; a GF file takes images of one size, in which they fit."""
    pictures, file = shapes / "images/validation", tmp_path / "spread.pth"
    keys = [one for one in DETECT if one.startswith(("model.", "data.scale"))]
    keys += ["model=mask_rcnn", f"model.backbone={backbone}", "data=coco_folder"]
    if backbone == "hornet_pico_7x7":
        done = run(
            "hornet-export", f"checkpoint={trained}", "--format", "official", "--out", f"{tmp_path}/o.pth"
        )
        assert done.returncode == 0, done.stderr
        spread(tmp_path / "o.pth", file)
    else:
        torch.manual_seed(0)
        backbone_of = build_backbone(backbone, stem_stride=4, dim=8, depths=[1, 1, 1, 1])
        state = Detector(backbone_of, 7, channels=8, width=16).state_dict()
        torch.save({"meta": {}, "state_dict": state}, tmp_path / "o.pth")
        spread(tmp_path / "o.pth", file)
    made = ["--format", "onnx", "--out", f"{tmp_path}/d.onnx"]
    done = run("hornet-export", f"checkpoint={file}", *keys, *made, str(pictures))
    assert done.returncode == 0, done.stderr
    assert "same objects: 100.00%" in done.stdout
    answers = []
    for name, more in (("spread.pth", keys), ("d.onnx", [])):
        given = [
            f"checkpoint={tmp_path}/{name}",
            *more,
            str(pictures),
            "--format",
            "jsonl",
            "--threshold",
            "0.3",
        ]
        done = run("hornet-predict", *given)
        assert done.returncode == 0, done.stderr
        answers.append([json.loads(line) for line in done.stdout.splitlines()])
    for theirs, ours in zip(*answers, strict=True):
        assert (theirs["height"], theirs["width"]) == (ours["height"], ours["width"])
        assert all(0 <= one["box"][0] <= one["box"][2] <= ours["width"] for one in ours["objects"])
        if backbone == "hornet_pico_gf":  # its filters see the padding, of which a canvas has more
            continue
        assert len(theirs["objects"]) == len(ours["objects"])
        for one, other in zip(theirs["objects"], ours["objects"], strict=True):
            assert one["class"] == other["class"]
            assert one["score"] == pytest.approx(other["score"], abs=1e-3)
            assert one["box"] == pytest.approx(other["box"], abs=0.05)
    assert sum(len(one["objects"]) for one in answers[1]) > 10
    for flags, message in (
        (["--format", "pt2", "--out", "x.pt2"], "--format pt2: detectors are exported as onnx or official"),
        (["--format", "huggingface", "--out", "x.hf"], "detectors are exported as onnx or official"),
        (["--format", "onnx", "--out", "x.onnx", "--half"], "--half and --int8 are for classifiers"),
        (["--format", "onnx", "--out", "x.onnx", "--opset", "21"], "detectors are written in 18 to 20"),
    ):
        done = run("hornet-export", f"checkpoint={file}", *keys, *flags, cwd=tmp_path)
        assert (done.returncode, message in done.stderr) == (2, True), done.stderr
        assert not list(tmp_path.glob("x.*"))


def test_predicted_objects_are_those_of_the_evaluation(trained: Path, shapes: Path, tmp_path: Path) -> None:
    done = run("hornet-eval", f"checkpoint={trained}", "save=json", f"out={tmp_path}/eval.json", "worst=0")
    assert done.returncode == 0, done.stderr
    expected = json.loads((tmp_path / "eval_pictures/mask_results.json").read_text())
    pictures, out = shapes / "images/validation", tmp_path / "found.json"
    drawn = ["--masks", f"{tmp_path}/masks", "--overlays", f"{tmp_path}/over"]
    given = [f"checkpoint={trained}", str(pictures), *drawn, "--threshold", "0", "--out", str(out)]
    done = run("hornet-predict", *given)
    assert done.returncode == 0, done.stderr
    found, truth = json.loads(out.read_text()), json.loads((shapes / "val.json").read_text())
    assert [one["name"] for one in found["categories"]] == [one["name"] for one in truth["categories"]]
    number = {one["file_name"]: one["id"] for one in truth["images"]}
    images = {one["id"]: number[Path(one["file_name"]).name] for one in found["images"]}
    classes = {one["id"]: one["id"] for one in found["categories"]}
    assert classes == {one["id"]: one["id"] for one in truth["categories"]}  # from 1 on, as there

    def key(one: dict[str, Any], image: int) -> tuple[Any, ...]:
        return (image, one["category_id"], one["segmentation"]["counts"])

    theirs = {key(one, one["image_id"]): one for one in expected}
    ours = {key(one, images[one["image_id"]]): one for one in found["annotations"]}
    assert ours.keys() == theirs.keys()
    for place, one in ours.items():
        assert one["score"] == pytest.approx(theirs[place]["score"], abs=1e-4)
        assert one["segmentation"] == theirs[place]["segmentation"]
    COCO(found)  # the tools read it
    for image in found["images"]:
        with Image.open(tmp_path / "masks" / Path(image["file_name"]).with_suffix(".png").name) as mask:
            numbers = np.array(mask)
        assert numbers.shape == (image["height"], image["width"])
        mine = [one for one in found["annotations"] if one["image_id"] == image["id"]]
        assert numbers.max() <= len(mine)
        if mine:  # the first object lies on top, and so is whole
            assert (numbers == 1).sum() == mine[0]["area"]
    assert len(list((tmp_path / "over").iterdir())) == len(found["images"]) == 7


def without(shapes: Path, out: Path, change: Any) -> Path:
    """A copy of the data with other annotations."""
    shutil.copytree(shapes, out)
    for split in ("train", "val"):
        content = json.loads((out / f"{split}.json").read_text())
        change(content)
        (out / f"{split}.json").write_text(json.dumps(content))
    return out


def test_boxes_alone_are_trained_without_masks(shapes: Path, tmp_path: Path) -> None:
    def bare(content: dict[str, Any]) -> None:
        for one in content["annotations"]:
            del one["segmentation"]

    data = without(shapes, tmp_path / "bare", bare)
    given = [*DETECT, f"data.root={data}", "epochs=1it", f"run_dir={tmp_path}/run"]
    refused = run("hornet-train", *given)
    assert refused.returncode == 2
    assert "model.masks=false" in refused.stderr
    done = run("hornet-train", *given, "model.masks=false")
    assert done.returncode == 0, done.stderr
    assert "loss_mask" not in events(tmp_path / "run", "train")[-1]
    found = evaluated(tmp_path / "e.json", f"checkpoint={tmp_path}/run")
    assert "box_ap" in found
    assert "mask_ap" not in found


def test_pictures_without_objects_count_in_an_evaluation_and_train_if_asked_for(
    shapes: Path, tmp_path: Path
) -> None:
    def emptied(content: dict[str, Any]) -> None:
        first = [one["id"] for one in content["images"][::2]]
        content["annotations"] = [one for one in content["annotations"] if one["image_id"] not in first]

    data = without(shapes, tmp_path / "empty", emptied)
    for empty, samples in (("false", 6), ("true", 12)):
        folder = tmp_path / empty
        given = [f"data.root={data}", f"data.empty={empty}", "batch_size=2", "epochs=1", f"run_dir={folder}"]
        done = run("hornet-train", *[one for one in DETECT if not one.startswith("batch_size")], *given)
        assert done.returncode == 0, done.stderr
        assert "6 training pictures without objects" in " ".join(done.stdout.split())
        assert len(events(folder, "train")) == samples // 2
        assert all(np.isfinite(one["loss"]) for one in events(folder, "train"))
        assert events(folder, "eval")[-1]["count"] == 7


def test_classes_are_matched_by_name(trained: Path, shapes: Path, tmp_path: Path) -> None:
    """Other ids and another order change nothing; other names are refused."""

    def reordered(content: dict[str, Any]) -> None:
        for one in content["categories"]:
            one["id"] = 100 - 7 * one["id"]
        for one in content["annotations"]:
            one["category_id"] = 100 - 7 * one["category_id"]

    def renamed(content: dict[str, Any]) -> None:
        content["categories"][-1]["name"] = "planet"

    here = evaluated(tmp_path / "a.json", f"checkpoint={trained}")
    other = without(shapes, tmp_path / "other", reordered)
    there = evaluated(tmp_path / "b.json", f"checkpoint={trained}", f"data.root={other}")
    assert there["per_class"] == here["per_class"]
    assert there["mask_ap"] == here["mask_ap"]
    foreign = without(shapes, tmp_path / "foreign", renamed)
    done = run("hornet-eval", f"checkpoint={trained}", f"data.root={foreign}", f"out={tmp_path}/c.json")
    assert done.returncode == 2
    assert "planet" in done.stderr


def test_an_official_file_says_which_model_it_is_of(shapes: Path, tmp_path: Path) -> None:
    file = tmp_path / "official.pth"
    torch.manual_seed(0)
    torch.save(
        {"meta": {}, "state_dict": create("mask_rcnn_horfpn_gf_hornet_small_7x7", 7).state_dict()}, file
    )
    found = evaluated(
        tmp_path / "e.json",
        f"checkpoint={file}",
        "data=coco_folder",
        f"data.root={shapes}",
        "data.scale=[64,64]",
    )
    assert found["model"] == "mask_rcnn_horfpn_gf_hornet_small_7x7"
    assert found["count"] == 7


def test_memory_of_an_evaluation_does_not_grow_with_its_pictures(trained: Path, tmp_path: Path) -> None:
    """A process each, over 20 pictures and over 400; codes of masks are kept, masks are not."""
    few = write_shapes(tmp_path / "20", train=1, val=20, size=48)
    many = tmp_path / "400"
    (many / "images").mkdir(parents=True)
    content = json.loads((few / "val.json").read_text())
    files = [few / "images/validation" / one["file_name"] for one in content["images"]]
    images, annotations = [], []
    for number in range(400):
        of = content["images"][number % 20]
        (many / "images" / f"{number}.jpg").symlink_to(files[number % 20])
        images.append({**of, "id": number + 1, "file_name": f"{number}.jpg"})
        annotations += [
            {**one, "image_id": number + 1} for one in content["annotations"] if one["image_id"] == of["id"]
        ]
    annotations = [{**one, "id": place + 1} for place, one in enumerate(annotations)]
    (many / "val.json").write_text(json.dumps({**content, "images": images, "annotations": annotations}))
    script = (
        "import resource, sys; from hornet_train.library import evaluate; "
        "evaluate(sys.argv[1:], quiet=True); print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    peaks = []
    for data in (few, many):
        done = run(
            *("python", "-c", script, f"checkpoint={trained}", f"data.root={data}", "data.workers=0"),
            *("worst=4", f"out={data}.json"),
            fresh=True,
            timeout=600,
        )
        assert done.returncode == 0, done.stderr
        peaks.append(int(done.stdout.split()[-1]))
    assert peaks[1] < 1.1 * peaks[0], peaks


def test_a_batch_is_drawn_with_its_objects(shapes: Path, tmp_path: Path) -> None:
    picture = tmp_path / "show.png"
    done = run("hornet-data", "show", *DETECT, f"data.root={shapes}", "--images", "3", "--out", str(picture))
    assert done.returncode == 0, done.stderr
    with Image.open(picture) as image:
        pixels = np.array(image.convert("RGB")).reshape(-1, 3)
    assert len(np.unique(pixels, axis=0)) > 1000


def test_a_check_names_what_cannot_be(shapes: Path, tmp_path: Path) -> None:
    def spoilt(content: dict[str, Any]) -> None:
        content["annotations"][0]["bbox"] = [-20.0, 0.0, 400.0, 10.0]
        content["annotations"][1]["category_id"] = 55
        content["images"][0]["width"] = 47

    data = without(shapes, tmp_path / "spoilt", spoilt)
    good = run("hornet-data", "check", str(shapes), "--task", "detection")
    assert good.returncode == 0, good.stderr
    done = run("hornet-data", "check", str(data), "--task", "detection")
    assert done.returncode == 2
    said = " ".join((done.stdout + done.stderr).split())
    for words in (
        "category_id is no category of the file (1 object: id 2)",
        "larger than their picture: id 1",
        "it has 48x36 pixels (height x width), its annotation 48x47",
        "1 of 12 pictures of train cannot be used",
    ):
        assert words in said


def test_running_out_of_memory_names_the_pictures_and_their_objects(shapes: Path, tmp_path: Path) -> None:
    """The process may have 12 GB of addresses, and maps of pictures of 2,048 pixels want more."""
    size = [
        "data.scale=[2048,2048]",
        "augment.short_sides=[2048]",
        "model.args={dim: 160, depths: [1, 1, 1, 1]}",
    ]
    command = [str(BIN / "hornet-train"), *DETECT, f"data.root={shapes}", *size, f"run_dir={tmp_path}/run"]
    done = subprocess.run(
        ["bash", "-c", 'ulimit -v 12000000 && exec "$0" "$@"', *command],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "out of memory in step 1, a batch of 4 images:" in done.stderr
    assert re.search(r"shapes_train_\d+\.jpg \((2048 x \d+|\d+ x 2048) pixels, \d objects?\)", done.stderr)
    assert "micro_batch_size" in done.stderr


def test_it_learns_eight_pictures(tmp_path: Path) -> None:
    """Evaluated on what it was trained on: boxes and masks are where the objects are."""
    data = write_shapes(tmp_path / "data", train=8, val=1, size=64)
    shutil.copy(data / "train.json", data / "val.json")
    given = {
        **dict(one.split("=", 1) for one in DETECT),
        "model.channels": "16",
        "model.width": "64",
        "model.args": "{dim: 8, depths: [1, 1, 2, 1]}",
        "task.regions": "32",
        "data.scale": "[64,64]",
        "data.val_images": "images/training",
        "augment.short_sides": "[64]",
        "augment.hflip": "0.0",
        "optim.lr": "4e-3",
        "batch_size": "8",
        "epochs": "100",
        "eval.every": "100ep",
        "checkpoint.every": "100ep",
        "log.every": "20it",
    }
    arguments = [f"{key}={value}" for key, value in given.items()]
    done = run("hornet-train", *arguments, f"data.root={data}", f"run_dir={tmp_path}/run")
    assert done.returncode == 0, done.stderr
    found = events(tmp_path / "run", "eval")[0]
    assert found["weights"] == "model"
    assert found["box_ap50"] > 60
    assert found["mask_ap50"] > 45
