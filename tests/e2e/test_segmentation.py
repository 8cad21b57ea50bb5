"""Trainings and evaluations of segmentation as a user starts them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import BIN, events, run, torchrun
from jsonschema import Draft202012Validator
from PIL import Image
from service import picture_of, served
from shapes import SEGMENT, write_shapes

from hornet_train.dense import create
from hornet_train.library import load
from hornet_train.models.weight_files import read_weights
from hornet_train.run.onnx_model import OnnxModel
from hornet_train.tasks.asked import Asked

pytestmark = pytest.mark.dense
CLASSES = 8


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shapes(tmp_path_factory.mktemp("shapes") / "data")


@pytest.fixture(scope="module")
def trained(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "run"
    done = run("hornet-train", *SEGMENT, f"data.root={shapes}", "epochs=2", f"run_dir={folder}")
    assert done.returncode == 0, done.stderr
    return folder


def test_a_training_logs_its_losses_by_part_and_its_metrics(trained: Path) -> None:
    steps, found = events(trained, "train"), events(trained, "eval")
    assert len(steps) == 6
    for event in steps:
        assert event["loss"] == pytest.approx(event["loss_decode"] + 0.4 * event["loss_auxiliary"], rel=1e-5)
        assert 0 <= event["padding"] < 1
        assert 0 <= event["pixel_accuracy"] <= 1
    assert steps[-1]["loss"] < steps[0]["loss"]
    assert [event["count"] for event in found] == [9] * 4
    assert {"miou", "macc", "aacc", "mdice", "boundary_iou", "loss"} <= found[0].keys()
    assert (trained / "curves.png").stat().st_size > 10_000


def test_an_evaluation_measures_saves_and_draws(trained: Path, shapes: Path, tmp_path: Path) -> None:
    out = tmp_path / "eval.json"
    done = run(
        *("hornet-eval", f"checkpoint={trained}", "save=[masks,overlays]", "worst=3", "fuse=false"),
        f"out={out}",
    )
    assert done.returncode == 0, done.stderr
    assert "each class, in %" in done.stdout
    result = json.loads(out.read_text())
    best = max(events(trained, "eval"), key=lambda event: event["miou"])
    for metric in ("miou", "macc", "aacc", "mdice", "boundary_iou"):  # whatever the batches were
        assert result[metric] == pytest.approx(best[metric], rel=1e-12), metric
    assert list(result["per_class"]) == (shapes / "classes.txt").read_text().split()
    pictures = tmp_path / "eval_pictures"
    masks = sorted((pictures / "masks").iterdir())
    assert [one.stem for one in masks] == sorted(p.stem for p in (shapes / "images/validation").iterdir())
    confusion = np.zeros((CLASSES, CLASSES), dtype=int)
    for one in masks:  # what was saved is what was counted
        labels = np.array(Image.open(shapes / "annotations/validation" / one.name))
        predicted = np.array(Image.open(one))
        assert predicted.shape == labels.shape
        np.add.at(confusion, (labels, predicted), 1)
    assert confusion.tolist() == result["confusion"][:-1]
    with Image.open(next((pictures / "overlays").iterdir())) as overlay:
        assert overlay.width == 3 * 48
        assert overlay.height > 48 + 14  # a legend below
    for name in ("worst.png", "classes.png"):
        with Image.open(pictures / name) as picture:
            assert picture.width > 400


def test_batches_of_an_evaluation_make_no_difference(trained: Path, tmp_path: Path) -> None:
    found = []
    for size in (1, 7):
        out = tmp_path / f"{size}.json"
        done = run("hornet-eval", f"checkpoint={trained}", f"batch_size={size}", "worst=0", f"out={out}")
        assert done.returncode == 0, done.stderr
        found.append(json.loads(out.read_text()))
    for key in ("miou", "macc", "aacc", "mdice", "boundary_iou", "loss", "count", "confusion"):
        assert found[0][key] == found[1][key], key


def test_several_scales_and_mirror_images(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "ms.json"
    done = run(
        "hornet-eval", f"checkpoint={trained}", "data.ratios=[0.75,1.0,1.5]", "data.flip=true", f"out={out}"
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(out.read_text())["count"] == 9
    whole = run("hornet-eval", f"checkpoint={trained}", "data.inference=whole", f"out={tmp_path}/whole.json")
    assert whole.returncode == 0, whole.stderr


@pytest.mark.parametrize("backbone", [[], ["model.backbone=resnet18", "model.args={}"]], ids=["", "resnet18"])
def test_two_processes_train_as_one(shapes: Path, tmp_path: Path, backbone: list[str]) -> None:
    """Batch norm and the loss are of all processes together. What is drawn by rank is off."""
    own = {one.partition("=")[0] for one in backbone}
    given = [one for one in SEGMENT if one.partition("=")[0] not in own] + backbone
    given += [f"data.root={shapes}", "epochs=2", "model.drop_path=0.0", "model.dropout=0.0"]
    one = run("hornet-train", *given, f"run_dir={tmp_path}/one")
    two = torchrun(2, str(BIN / "hornet-train"), *given, f"run_dir={tmp_path}/two")
    assert one.returncode == 0, one.stderr
    assert two.returncode == 0, two.stderr
    for key in ("loss", "loss_auxiliary"):
        first, second = ([event[key] for event in events(tmp_path / n, "train")] for n in ("one", "two"))
        assert len(first) == 6
        assert second == pytest.approx(first, rel=1e-4), key
    found = []
    for processes in (1, 2):  # the same weights: the same to the last digit
        out = tmp_path / f"{processes}.json"
        command = ("hornet-eval", f"checkpoint={tmp_path}/one", f"out={out}", "worst=0")
        done = run(*command) if processes == 1 else torchrun(2, str(BIN / command[0]), *command[1:])
        assert done.returncode == 0, done.stderr
        found.append(json.loads(out.read_text()))
    assert found[0]["miou"] == found[1]["miou"]
    assert found[0]["confusion"] == found[1]["confusion"]


@pytest.mark.draw(1)
@pytest.mark.parametrize(
    "given",
    [
        ["dist=fsdp", "precision=bf16", "model.fusion=gf"],
        ["compile=blocks", "task.dice=1.0", "task.class_weights=auto", "augment.pad=batch"],
        ["model.backbone=test_convnext", "model.args={}", "model.fusion=7x7", "task.hardest=0.3"],
        ["model.grad_checkpointing=true", "task.auxiliary=0", "task.focal_gamma=2.0", "data.inference=whole"],
    ],
    ids=lambda given: given[0],
)
def test_what_the_loop_can_do_it_does_here(shapes: Path, tmp_path: Path, given: list[str]) -> None:
    options = {key: value for key, _, value in (one.partition("=") for one in [*SEGMENT, *given])}
    arguments = [f"{key}={value}" for key, value in options.items()]
    command = ["hornet-train", *arguments, f"data.root={shapes}", "epochs=2it", f"run_dir={tmp_path}/run"]
    two = "dist=fsdp" in given
    done = torchrun(2, str(BIN / command[0]), *command[1:]) if two else run(*command)
    assert done.returncode == 0, done.stderr
    assert len(events(tmp_path / "run", "train")) == 2
    found = events(tmp_path / "run", "eval")[-1]
    assert found["count"] == 9
    assert np.isfinite(found["loss"])
    assert not events(tmp_path / "run", "skipped_step")
    evaluated = run("hornet-eval", f"checkpoint={tmp_path}/run", "worst=0", f"out={tmp_path}/e.json")
    assert evaluated.returncode == 0, evaluated.stderr


def test_killed_and_started_again_it_is_the_same_run(shapes: Path, tmp_path: Path) -> None:
    folder, last = tmp_path / "run", "checkpoints/step_00000006/model.safetensors"
    given = [*SEGMENT, f"data.root={shapes}", "epochs=2", "checkpoint.every=2it", "checkpoint.keep=9"]
    given += ["task.dice=0.5", "task.hardest=0.5", "data.workers=1"]
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
    answer = load(trained).predict(file)
    assert answer["mask"].shape == (48, 48)
    assert answer["mask"].dtype == torch.uint8
    assert sum(answer["shares"].values()) == pytest.approx(1)
    assert set(answer["shares"]) <= set((shapes / "classes.txt").read_text().split())


def test_it_answers_over_http(trained: Path, shapes: Path) -> None:
    path = next((shapes / "images" / "validation").iterdir())
    expected = load(trained).predict(path)
    with served(trained) as service:
        status, found = service.ask("/predict?mask=true&drawn=true", path.read_bytes())
        _, described = service.ask("/openapi.json")
    assert status == 200, found
    Draft202012Validator(described["components"]["schemas"]["Answer"]).validate(found)
    np.testing.assert_array_equal(picture_of(found["mask_png"]), expected["mask"])
    assert found["shares"] == pytest.approx(expected["shares"], abs=2e-6)
    height, width = expected["mask"].shape
    assert picture_of(found["drawn"]).shape[1:] == (width, 3)
    assert picture_of(found["drawn"]).shape[0] > height  # with a legend


def test_predicted_masks_are_those_of_the_evaluation(trained: Path, shapes: Path, tmp_path: Path) -> None:
    done = run("hornet-eval", f"checkpoint={trained}", "save=masks", f"out={tmp_path}/eval.json", "worst=0")
    assert done.returncode == 0, done.stderr
    pictures, out = shapes / "images/validation", tmp_path / "answers.jsonl"
    drawn = ["--masks", f"{tmp_path}/masks", "--overlays", f"{tmp_path}/over", "--sheet", f"{tmp_path}/s.png"]
    done = run("hornet-predict", f"checkpoint={trained}", str(pictures), *drawn, "--out", str(out))
    assert done.returncode == 0, done.stderr
    expected = sorted((tmp_path / "eval_pictures/masks").iterdir())
    assert [one.name for one in sorted((tmp_path / "masks").iterdir())] == [one.name for one in expected]
    names = (shapes / "classes.txt").read_text().split()
    records = [json.loads(line) for line in out.read_text().splitlines()]
    for one, record in zip(expected, records, strict=True):
        labels = np.array(Image.open(one))
        assert np.array_equal(np.array(Image.open(tmp_path / "masks" / one.name)), labels)
        shares = {name: float((labels == label).mean()) for label, name in enumerate(names)}
        assert record["shares"] == pytest.approx({k: v for k, v in shares.items() if v}, abs=1e-6)
        assert (record["height"], record["width"]) == labels.shape
    with Image.open(next((tmp_path / "over").iterdir())) as overlay:
        assert overlay.width == 48
        assert overlay.height > 48 + 14  # a legend below
    again = run("hornet-predict", f"checkpoint={trained}", str(pictures), *drawn[:4])  # its own pictures
    assert again.returncode == 0, again.stderr
    among = run("hornet-predict", f"checkpoint={trained}", str(pictures), "--masks", f"{pictures}/m")
    assert (among.returncode, "where the data are" in among.stderr) == (2, True)
    crops = run("hornet-predict", f"checkpoint={trained}", str(pictures), "--crops", "5")
    assert (crops.returncode, "--crops is for classification" in crops.stderr) == (2, True)


def test_views_of_a_picture_are_those_of_an_evaluation(trained: Path, shapes: Path) -> None:
    file = sorted((shapes / "images/validation").iterdir())[0]
    keys = ["data.flip=true", "data.ratios=[1,1.5]"]
    asked = Asked(flip=True, scales=(1.0, 1.5))
    masks = []
    for model in (load(trained), load(trained, keys), load(trained, asked=asked)):
        torch.manual_seed(0)
        with torch.no_grad():  # hardly trained, it sees background alone
            for value in model.model.decode_head.conv_seg.parameters():
                value.normal_()
        masks.append(model.predict(file)["mask"])
    plain, expected, found = masks
    assert torch.equal(found, expected)
    assert not torch.equal(found, plain)


def test_it_is_exported_for_other_programs(trained: Path, shapes: Path, tmp_path: Path) -> None:
    pictures, given = str(shapes / "images/validation"), f"checkpoint={trained}"
    for form, name in (("onnx", "m.onnx"), ("official", "m.pth")):
        done = run("hornet-export", given, "--format", form, "--out", f"{tmp_path}/{name}", pictures)
        assert done.returncode == 0, done.stderr
        assert "same most probable class: 100.00%" in done.stdout
    images = torch.randn(3, 3, *OnnxModel(tmp_path / "m.onnx").size)
    with torch.inference_mode():
        expected = load(trained, ["fuse=false"]).model(images)
        torch.testing.assert_close(OnnxModel(tmp_path / "m.onnx")(images), expected, rtol=1e-4, atol=1e-5)
    assert set(torch.load(tmp_path / "m.pth", weights_only=True)) == {"meta", "state_dict"}
    refused = run("hornet-export", given, "--format", "huggingface", "--out", f"{tmp_path}/hf")
    assert (refused.returncode, "is for classifiers" in refused.stderr) == (2, True)


@pytest.mark.parametrize("flags", [["data.inference=slide", "data.flip=true"], ["data.inference=whole"]])
def test_an_exported_file_answers_as_its_checkpoint_does(
    trained: Path, shapes: Path, tmp_path: Path, flags: list[str]
) -> None:
    """In windows of its size, and of whole pictures where it takes any."""
    official, pictures = tmp_path / "m.pth", str(shapes / "images/validation")
    done = run(
        "hornet-export", f"checkpoint={trained}", "--format", "official", "--out", str(official), pictures
    )
    assert done.returncode == 0, done.stderr
    state = torch.load(official, weights_only=True)
    torch.manual_seed(0)
    for name, value in state["state_dict"].items():
        if "decode_head.conv_seg" in name:  # hardly trained, it sees background alone
            value.normal_()
    torch.save(state, official)
    model = [one for one in SEGMENT if one.startswith("model.")]
    keys = [
        "model=upernet",
        "model.backbone=hornet_pico_7x7",
        *model,
        "data=masks",
        "data.image_size=32",
        *flags,
    ]
    size = ["--any-size"] if "data.inference=whole" in flags else []
    command = [
        "hornet-export",
        f"checkpoint={official}",
        *keys,
        "--format",
        "onnx",
        "--out",
        f"{tmp_path}/m.onnx",
    ]
    done = run(*command, *size, pictures)
    assert done.returncode == 0, done.stderr
    masks = []
    for name, more in (("m.pth", keys), ("m.onnx", flags)):
        folder = tmp_path / f"masks_{name}"
        done = run("hornet-predict", f"checkpoint={tmp_path}/{name}", *more, pictures, "--masks", str(folder))
        assert done.returncode == 0, done.stderr
        masks.append(np.stack([np.array(Image.open(path)) for path in sorted(folder.iterdir())]))
    assert len(np.unique(masks[0])) > 3
    assert (masks[0] == masks[1]).mean() > 0.9999


def test_an_official_file_says_which_model_it_is_of(tmp_path: Path) -> None:
    file, data = tmp_path / "official.pth", write_shapes(tmp_path / "ade", train=1, val=1, size=64)
    (data / "classes.txt").unlink()
    torch.manual_seed(0)
    state = create("upernet_hornet_tiny_gf").state_dict()
    torch.save({"meta": {"CLASSES": ("wall", "building")}, "state_dict": state}, file)
    out = tmp_path / "eval.json"
    done = run(
        "hornet-eval",
        f"checkpoint={file}",
        "data=ade20k",
        f"data.root={data}",
        "data.scale=[64,256]",
        f"out={out}",
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(out.read_text())
    assert result["model"] == "upernet_hornet_tiny_gf"
    assert result["count"] == 1
    assert len(result["per_class"]) == 150


def test_weights_of_a_file_are_those_of_its_run(trained: Path, tmp_path: Path) -> None:
    """The heads of a file stay beside its backbone."""
    step = trained / "checkpoints" / (trained / "checkpoints/last").read_text().strip()
    found = []
    for number, checkpoint in enumerate((step, step / "model.safetensors")):
        out = tmp_path / f"{number}.json"
        done = run("hornet-eval", f"checkpoint={checkpoint}", "weights=model", "worst=0", f"out={out}")
        assert done.returncode == 0, done.stderr
        found.append(json.loads(out.read_text())["confusion"])
    assert found[0] == found[1]


def test_a_checkpoint_of_other_classes_is_refused(trained: Path, shapes: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(shapes, other)
    names = (shapes / "classes.txt").read_text().replace("moon", "planet")
    (other / "classes.txt").write_text(names)
    done = run("hornet-eval", f"checkpoint={trained}", f"data.root={other}", f"out={tmp_path}/e.json")
    assert done.returncode == 2
    assert "only the data have planet, only the checkpoint moon" in done.stderr
    begun = run(
        "hornet-train",
        *SEGMENT,
        f"data.root={other}",
        "epochs=1it",
        f"init_from={trained}",
        f"run_dir={tmp_path}/r",
    )
    assert begun.returncode == 0, begun.stderr
    assert "7 of 8 classes keep their rows, by their names; 1 start anew" in " ".join(begun.stdout.split())


def test_memory_of_an_evaluation_does_not_grow_with_its_pictures(trained: Path, tmp_path: Path) -> None:
    """A process each, over 20 pictures and over 2,000: to keep these and their masks would take 40 MB."""
    few = write_shapes(tmp_path / "20", train=1, val=20, size=64)
    many = tmp_path / "2000"
    for kind, ending in (("images", "jpg"), ("annotations", "png")):
        (many / kind / "validation").mkdir(parents=True)
        files = sorted((few / kind / "validation").iterdir())
        assert files[0].suffix == f".{ending}"
        for number in range(2000):
            (many / kind / "validation" / f"{number}.{ending}").symlink_to(files[number % 20])
    shutil.copy(few / "classes.txt", many)
    script = (
        "import resource, sys; from hornet_train.library import evaluate; "
        "evaluate(sys.argv[1:], quiet=True); print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    peaks = []
    for data in (few, many):
        done = run(
            *("python", "-c", script, f"checkpoint={trained}", f"data.root={data}", "data.workers=0"),
            *("data.inference=whole", "worst=4", f"out={data}.json"),
            fresh=True,
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(Path(f"{data}.json").read_text(encoding="utf-8"))["count"] == len(
            list((data / "images/validation").iterdir())
        )
        peaks.append(int(done.stdout.split()[-1]))
    assert peaks[1] < 1.02 * peaks[0]


def test_a_batch_is_drawn_with_its_masks(shapes: Path, tmp_path: Path) -> None:
    picture = tmp_path / "show.png"
    done = run("hornet-data", "show", *SEGMENT, f"data.root={shapes}", "--images", "3", "--out", str(picture))
    assert done.returncode == 0, done.stderr
    with Image.open(picture) as image:
        pixels = np.array(image.convert("RGB")).reshape(-1, 3)
    assert len(np.unique(pixels, axis=0)) > 1000


def laid_out_as(kind: str, shapes: Path, out: Path) -> list[str]:
    """The drawn pictures as the folders of Cityscapes or as parquet files; the keys to train on them."""
    if kind == "hub":
        datasets = pytest.importorskip("datasets")
        out.mkdir()
        for split, name in (("training", "train"), ("validation", "validation")):
            rows: dict[str, list[dict[str, object]]] = {"image": [], "mask": []}
            for file in sorted((shapes / "images" / split).iterdir()):
                mask = shapes / "annotations" / split / f"{file.stem}.png"
                for column, path in (("image", file), ("mask", mask)):
                    rows[column].append({"bytes": path.read_bytes(), "path": None})
            features = datasets.Features({"image": datasets.Image(), "mask": datasets.Image()})
            table = datasets.Dataset.from_dict(rows, features=features)
            table.to_parquet(out / f"{name}-00000-of-00001.parquet")
        return ["data=hub", f"data.name={out}", "data.image_size=32", "data.workers=0"]
    for split, name in (("training", "train"), ("validation", "val")):
        for file in sorted((shapes / "images" / split).iterdir()):
            for folder, ending in (("leftImg8bit", "leftImg8bit"), ("gtFine", "gtFine_labelIds")):
                (out / folder / name / "town").mkdir(parents=True, exist_ok=True)
                target = out / folder / name / "town" / f"{file.stem}_{ending}.png"
                if folder == "gtFine":  # labels 7 to 14, of which some are no class
                    labels = np.array(Image.open(shapes / "annotations" / split / f"{file.stem}.png"))
                    Image.fromarray(labels + 7).save(target)
                else:
                    Image.open(file).save(target)
    return ["data=cityscapes", f"data.root={out}", "data.image_size=32", "data.scale=null", "data.workers=0"]


@pytest.mark.parametrize(("kind", "classes"), [("hub", 8), ("cityscapes", 19)])
def test_other_layouts_are_trained_and_evaluated(
    shapes: Path, tmp_path: Path, kind: str, classes: int
) -> None:
    keys = laid_out_as(kind, shapes, tmp_path / "data")
    given = [one for one in SEGMENT if not one.startswith("data.")]
    done = run("hornet-train", *given, *keys, "epochs=2it", f"run_dir={tmp_path}/run")
    assert done.returncode == 0, done.stderr
    evaluated = run(
        "hornet-eval", f"checkpoint={tmp_path}/run", "save=masks", "worst=2", f"out={tmp_path}/e.json"
    )
    assert evaluated.returncode == 0, evaluated.stderr
    result = json.loads((tmp_path / "e.json").read_text())
    assert result["count"] == 9
    assert len(result["per_class"]) == classes
    assert len(list((tmp_path / "e_pictures/masks").rglob("*.png"))) == 9
