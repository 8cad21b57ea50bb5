"""hornet-bench on the smallest models, and its wrong ways."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
from PIL import Image

from hornet_train.compile_note import NOTE
from hornet_train.models.complexity import count

Command = Callable[..., tuple[int, str, str]]
SMALL = ("image_size=32", "batch_size=2", "rounds=3", "compile=false", "precision=fp32", "dist=cpu")


def test_step_shows_ratios_to_the_first_peer(tmp_path: Path, command: Command) -> None:
    file, plot = tmp_path / "step.json", tmp_path / "step.png"
    models = ("models=hornet_pico_gf", "peers=test_convnext,test_vit", "plain=true")
    code, out, err = command("hornet-bench", "step", *SMALL, *models, f"out={file}", f"plot={plot}")
    assert (code, err) == (0, "")
    content = json.loads(file.read_text())
    assert content["image_size"] == 32
    assert content["environment"]["cpus"] >= 1
    names = ["test_convnext", "test_vit", "hornet_pico_gf", "hornet_pico_gf, plain layers"]
    found = {(one["mode"], one["model"]): one for one in content["measured"]}
    assert list(found) == [(mode, name) for mode in ("train", "inference") for name in names]
    for one in found.values():
        assert len(one["seconds"]) == 3
        assert set(one["tried"]) == {"contiguous, eager", "channels-last, eager"}
        assert one["setting"] in one["tried"]
        assert 0 < one["ratio_least"] <= one["ratio"] <= one["ratio_greatest"]
        assert one["model"] in out
    assert found["train", "test_convnext"]["ratio"] == 1
    assert (
        found["train", "hornet_pico_gf"]["images_per_second"]
        < (found["inference", "hornet_pico_gf"]["images_per_second"])
    )
    with Image.open(plot) as picture:
        assert picture.width > 500


def test_models_run_in_other_programs(tmp_path: Path, command: Command) -> None:
    file = tmp_path / "step.json"
    models = (
        "models=hornet_pico_gf",
        "peers=hornet_pico_gf",
        "layouts=channels_last",
        "runtimes=onnx,openvino",
    )
    code, out, err = command("hornet-bench", "step", *SMALL, *models, f"out={file}")
    assert (code, err) == (0, "")
    name = "hornet_pico_gf"
    found = [(one["mode"], one["model"]) for one in json.loads(file.read_text())["measured"]]
    assert found == [
        ("train", name),
        *(("inference", one) for one in (name, f"{name}, ONNX Runtime", f"{name}, OpenVINO")),
    ]
    assert "as exported" in out
    code, _, err = command("hornet-bench", "step", *SMALL, *models, "modes=train")
    assert (code, "runtimes= are for inference" in err) == (2, True)
    code, _, err = command("hornet-bench", "step", *SMALL, *models, "precision=bf16")
    assert (code, "runtimes= are measured in fp32 on a CPU" in err) == (2, True)


def test_cuda_graphs_need_a_gpu(command: Command) -> None:
    few = [one for one in SMALL if not one.startswith("compile")]
    code, _, err = command("hornet-bench", "step", *few, "compile=graphs")
    assert code == 2
    assert "compile=graphs needs a GPU" in err


def test_a_layout_can_be_left_out(tmp_path: Path, command: Command) -> None:
    file = tmp_path / "step.json"
    models = ("models=hornet_pico_gf", "peers=hornet_pico_gf", "modes=inference", "layouts=channels_last")
    code, _, err = command("hornet-bench", "step", *SMALL, *models, f"out={file}")
    assert (code, err) == (0, "")
    (one,) = json.loads(file.read_text())["measured"]
    assert list(one["tried"]) == ["channels-last, eager"]


def test_compiled_is_tried(tmp_path: Path, command: Command) -> None:
    file = tmp_path / "step.json"
    models = ("models=test_convnext", "peers=test_convnext", "modes=inference", "layouts=channels_last")
    more = ("compile=true", "rounds=1", "dist=cpu", f"out={file}")
    code, _, err = command("hornet-bench", "step", *SMALL[:2], *models, *more)
    assert (code, err) == (0, "")
    (one,) = json.loads(file.read_text())["measured"]
    assert list(one["tried"]) == ["channels-last, eager", "channels-last, compiled"]


TINY = ("model=hornet_pico_7x7", "image_size=32", "batch_size=2", "precision=fp32", "dist=cpu")


def test_loop_shows_what_the_loop_adds(tmp_path: Path, command: Command) -> None:
    file = tmp_path / "loop.json"
    code, out, err = command("hornet-bench", "loop", *TINY, "rounds=3", "checkpoints=2", f"out={file}")
    assert (code, err) == (0, "")
    assert "over a bare one" in out
    content = json.loads(file.read_text())
    assert content["precision"] == "fp32"
    assert len(content["checkpoint"]) == 2
    for name in ("fit", "average"):
        median, least, greatest = content[name]
        assert 0 < least <= median <= greatest
    assert content["step_seconds"] > 0


@pytest.mark.long
def test_scaling_shows_how_a_step_grows(tmp_path: Path, command: Command) -> None:
    file, plot = tmp_path / "scaling.json", tmp_path / "scaling.png"
    sizes = ("batches=1,2,4", "sides=[32,64]", "orders=1,3", "width=16", "map_side=4", "rounds=1")
    code, out, err = command("hornet-bench", "scaling", *TINY, *sizes, f"out={file}", f"plot={plot}")
    assert (code, err) == (0, "")
    assert "2 processes with 1 thread" in out
    content = json.loads(file.read_text())
    grown = {one["of"]: one for one in content["growths"]}
    assert list(grown) == [
        f"{of}, {mode}" for mode in ("train", "inference") for of in ("batch", "pixels", "order")
    ]
    assert grown["pixels, train"]["sizes"] == [32 * 32, 64 * 64]
    batch = grown["batch, train"]
    assert batch["relative"][0] == 1
    for size, seconds in zip(batch["sizes"], batch["seconds"], strict=True):
        assert abs(batch["slope"] * size + batch["intercept"] - seconds) < max(batch["seconds"])
    assert content["processes_ratio"][0] > 0
    with Image.open(plot) as picture:
        assert picture.width > 500


def test_limit_shows_peaks_and_operators(tmp_path: Path, command: Command) -> None:
    file = tmp_path / "limit.json"
    code, out, err = command("hornet-bench", "limit", *TINY, f"out={file}")
    assert code == 0
    assert err in ("", NOTE + "\n")  # said by whichever process is the first on a machine
    content = json.loads(file.read_text())
    macs = count(timm.create_model("hornet_pico_7x7"), 32).macs
    assert content["flops"] == 2 * 3 * macs * 2  # forward and twice back, of 2 images
    assert 0 < content["of_matmul"] < 1
    assert content["bytes"] > 0
    assert len(content["operators"]) == 10
    assert content["operators"][0][0] in out
    assert sum(share for _, share, _ in content["operators"]) < 1.001


def test_each_bench_explains_its_keys(command: Command) -> None:
    code, out, _ = command("hornet-bench", "--help")
    assert code == 0
    for name, key in (
        ("step", "peers"),
        ("loop", "checkpoints"),
        ("scaling", "orders"),
        ("limit", "compile"),
    ):
        assert f"\n  {name} " in out
        code, own, _ = command("hornet-bench", name, "--help")
        assert code == 0
        assert f"  {key}: " in own


@pytest.mark.parametrize(
    ("arguments", "content"),
    [
        (("loop", "model=hornet_pico"), "model=hornet_pico: timm has no such model"),
        (("scaling", "batches=4"), "batches"),
        (
            (
                "scaling",
                *TINY,
                "batch_size=3",
                "modes=train",
                "batches=1,2",
                "sides=32,64",
                "orders=1,2",
                "rounds=1",
            ),
            "cannot be split over 2 processes",
        ),
        (("limit", "precision=fp8"), "precision"),
        (("stpe",), "did you mean 'step'?"),
        (("step", "peers=convnext_tinny"), "did you mean 'convnext_tiny"),
        (("step", "peers="), "peers"),
        (("step", "modes=eval"), "modes"),
        (("step", "layouts=[contigous]"), "layouts.0=contigous: did you mean 'contiguous'"),
        (("step", "out=/nowhere/x.json"), "out=/nowhere/x.json cannot be written"),
        (("step", "models=hornet_iso_small_7x7", "plain=true"), "isotropic"),
        (("detectors", "image_size=[64,100]"), "multiples of 32"),
        (("step", *SMALL, "models=hornet_pico_gf", "peers=test_vit", "image_size=8"), "of 8 pixels"),
    ],
)
def test_mistakes_are_reported(arguments: tuple[str, ...], content: str, command: Command) -> None:
    code, _, err = command("hornet-bench", *arguments)
    assert code == 2
    assert content in err


def test_detectors_stand_beside_torchvisions(tmp_path: Path, command: Command) -> None:
    file = tmp_path / "detectors.json"
    small = ("image_size=64", "objects=2", "regions=8", "rounds=1", "dist=cpu")
    code, out, err = command("hornet-bench", "detectors", *small, f"out={file}")
    assert (code, err) == (0, "")
    measured = json.loads(file.read_text())["measured"]
    peers = {"detector": ("torchvision", "ours"), "roi_align": ("torchvision", "ours")}
    peers["pyramid"] = ("conv", "7x7", "gf")
    kinds = [(one["part"], one["mode"], one["name"]) for one in measured]
    assert kinds == [(p, m, n) for p, names in peers.items() for m in ("train", "inference") for n in names]
    assert all(one["ratio"] == [1, 1, 1] for one in measured if one["name"] in ("conv", "torchvision"))
    assert "roi_align" in out


def test_heads_compares_the_fusions_of_upernets_levels(tmp_path: Path, command: Command) -> None:
    file = tmp_path / "heads.json"
    small = ("widths=[8,16,32,64]", "channels=16", "num_classes=5", "side=64", "rounds=2", "dist=cpu")
    code, out, err = command("hornet-bench", "heads", *small, f"out={file}")
    assert (code, err) == (0, "")
    measured = json.loads(file.read_text())["measured"]
    kinds = [(one["part"], one["mode"], one["name"]) for one in measured]
    names = ("conv", "7x7", "gf")
    assert kinds == [(p, m, n) for m in ("train", "inference") for p in ("fusion", "head") for n in names]
    assert all(one["ratio"] == [1, 1, 1] for one in measured if one["name"] == "conv")
    assert "fusion" in out


def test_a_service_answers_one_client_and_several(tmp_path: Path, command: Command) -> None:
    file = tmp_path / "service.json"
    given = ("model=hornet_pico_7x7", "image_size=32", "precision=fp32", "dist=cpu", "seconds=2", "clients=3")
    code, out, err = command("hornet-bench", "service", *given, f"out={file}")
    assert (code, err) == (0, "")
    assert "0 requests failed" in out
    found = json.loads(file.read_text())
    assert len(found["alone"]) == 20
    assert len(found["together"]) > 3
    assert 1 <= found["batch"] <= 3
    assert found["clients"] == 3
