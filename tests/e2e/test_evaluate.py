"""hornet-eval: every kind of checkpoint, other data, other numbers of processes."""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from helpers import BIN, TINY, events, torchrun
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import hornet_train.models  # noqa: F401 - registers

Command = Callable[..., tuple[int, str, str]]

# the images of the trained run, for checkpoints that do not tell
IMAGES = [
    "data=synthetic",
    "data.num_classes=4",
    "data.val_count=21",
    "data.source_size=24",
    "data.workers=0",
    "data.image_size=40",
    "data.mean=[0.4,0.5,0.6]",
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run of its own image size and statistics."""
    from hornet_train.cli.train import main

    folder = tmp_path_factory.mktemp("trained") / "run"
    with pytest.raises(SystemExit) as stopped:
        main([*TINY, "data.image_size=40", "data.mean=[0.4,0.5,0.6]", f"run_dir={folder}"])
    assert stopped.value.code == 0
    return folder


def best_of(folder: Path) -> dict[str, Any]:
    return max(events(folder, "eval"), key=lambda event: event["top1"])


def test_run_folder_step_folder_and_file(trained: Path, tmp_path: Path, command: Command) -> None:
    code, out, _ = command("hornet-eval", f"checkpoint={trained}")
    assert code == 0
    best = best_of(trained)
    result = json.loads((trained / "eval.json").read_text())
    assert result["top1"] == pytest.approx(best["top1"])
    assert result["loss"] == pytest.approx(best["loss"], rel=1e-5)
    assert (result["count"], result["image_size"], result["weights"]) == (21, 40, best["weights"])
    assert result["images_per_second"] > 0
    assert "top-1" in out
    assert str(trained / "eval.json") in out

    code, _, err = command(
        "hornet-eval", f"checkpoint={trained}/checkpoints/best", f"out={tmp_path}/named.json"
    )
    assert code == 0, err
    assert json.loads((tmp_path / "named.json").read_text())["top1"] == result["top1"]

    step = trained / "checkpoints/step_00000003"
    for weights in ("model", "ema"):
        (expected,) = [e for e in events(trained, "eval") if e["step"] == 3 and e["weights"] == weights]
        lone = tmp_path / f"{weights}.safetensors"  # a file alone tells what it was trained with
        shutil.copy(step / f"{weights}.safetensors", lone)
        for place in (step, lone):
            out_file = tmp_path / "result.json"
            code, _, err = command(
                "hornet-eval", f"checkpoint={place}", f"weights={weights}", f"out={out_file}"
            )
            assert code == 0, err
            result = json.loads(out_file.read_text())
            assert result["loss"] == pytest.approx(expected["loss"], rel=1e-5)
            assert result["image_size"] == 40
    assert (tmp_path / "result.json").exists()


def test_results_for_other_weights_and_settings_are_kept(
    trained: Path, tmp_path: Path, command: Command
) -> None:
    out = tmp_path / "kept.json"
    found = {}
    for given in ("weights=model", "weights=ema", "data.image_size=48", "weights=model"):
        assert command("hornet-eval", f"checkpoint={trained}", given, f"out={out}")[0] == 0
        found[given] = json.loads(out.read_text())["loss"]
    kept = json.loads(out.read_text())
    assert kept["loss"] == found["weights=model"]
    assert [one["loss"] for one in kept["earlier"]] == [found["data.image_size=48"], found["weights=ema"]]
    assert kept["data_settings"]["val_count"] == 21
    assert Path(kept["checkpoint"]).is_dir()


@pytest.mark.parametrize("processes", [2])
def test_each_image_counts_once_on_any_number_of_processes(
    trained: Path, tmp_path: Path, processes: int
) -> None:
    out = tmp_path / "two.json"
    done = torchrun(
        processes, str(BIN / "hornet-eval"), f"checkpoint={trained}", f"out={out}", "batch_size=4"
    )
    assert done.returncode == 0, done.stderr
    result, best = json.loads(out.read_text()), best_of(trained)
    assert result["count"] == 21
    assert result["processes"] == processes
    assert result["top1"] == pytest.approx(best["top1"])
    assert result["loss"] == pytest.approx(best["loss"], rel=1e-5)
    assert done.stdout.count("top-1") == 1


def test_an_official_checkpoint_shows_its_model(tmp_path: Path, command: Command) -> None:
    """DDP prefixes and a Namespace, as the published trainer wrote them; images from folders."""
    model = timm.create_model("hornet_pico_7x7", num_classes=2)
    state = {f"module.{name}": tensor for name, tensor in model.state_dict().items()}
    official = {"model": state, "epoch": 299, "args": argparse.Namespace(lr=4e-3)}
    torch.save(official, tmp_path / "official.pth")
    for name in ("cat", "dog"):
        (tmp_path / "photos/val" / name).mkdir(parents=True)
        for i in range(3):
            Image.new("RGB", (50, 40), (80 * i, 10, 200)).save(tmp_path / f"photos/val/{name}/{i}.webp")
    arguments = (f"checkpoint={tmp_path}/official.pth", "data=folder", f"data.root={tmp_path}/photos")
    code, out, err = command("hornet-eval", *arguments, "data.workers=0")
    assert code == 0, err
    result = json.loads((tmp_path / "eval.json").read_text())
    assert (result["model"], result["image_size"], result["count"]) == ("hornet_pico_7x7", 32, 6)
    assert result["top1"] == 50.0, "the images of both classes are the same"
    assert "hornet_pico_7x7" in out


def test_other_data_keep_the_trained_preprocessing(trained: Path, tmp_path: Path, command: Command) -> None:
    out = tmp_path / "other.json"
    arguments = ("data=synthetic", "data.num_classes=4", "data.val_count=9", "data.source_size=30")
    code, _, err = command("hornet-eval", f"checkpoint={trained}", *arguments, f"out={out}", "data.workers=0")
    assert code == 0, err
    result = json.loads(out.read_text())
    assert (result["count"], result["image_size"]) == (9, 40)
    code, _, err = command("hornet-eval", f"checkpoint={trained}", "data.image_size=32", f"out={out}")
    assert code == 0, err
    assert json.loads(out.read_text())["image_size"] == 32, "unless overridden"


def test_a_damaged_best_falls_back_and_says_so(trained: Path, tmp_path: Path, command: Command) -> None:
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    best = (folder / "checkpoints/best").read_text().strip()
    damaged = folder / "checkpoints" / best / "ema.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-9])
    code, out, err = command("hornet-eval", f"checkpoint={folder}")
    assert code == 0
    assert f"{best}/ema.safetensors is damaged" in out + err
    code, _, err = command("hornet-eval", f"checkpoint={folder}/checkpoints/{best}")
    assert code == 2
    assert f"{best}/ema.safetensors is damaged" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "checkpoint is missing"),
        (["checkpoint=nowhere"], "nowhere: no such file"),
        (["checkpoint={run}", "weigths=ema"], "did you mean 'weights'"),
        (["checkpoint={run}", "data.imagesize=3"], "did you mean 'data.image_size'"),
        (["checkpoint={run}", "model=hornet_pico_7x7"], "made for another model"),
        (
            ["checkpoint={run}", "data=digits"],
            "10 classes of the data are not among the 4 of the checkpoint",
        ),
        (["checkpoint={run}", "data=folder"], "data.root is missing"),
        (["checkpoint={run}", "data=folder", "data.root=nowhere"], "nowhere"),
        (["checkpoint={run}/config.yaml"], "config.yaml"),
        (["checkpoint={run}", "data.image_size=2"], "data.image_size=2"),
        (["checkpoint={run}", "data.val=false"], "training only"),
        (["checkpoint={run}", "out={run}"], "give the path of a file"),
        (["checkpoint={run}/checkpoints/step_00000003/model.safetensors", "weights=ema"], "weights=model"),
        (["checkpoint={run}/checkpoints/step_00000099"], "step_00000099"),
    ],
)
def test_bad_input(trained: Path, command: Command, arguments: list[str], message: str) -> None:
    code, out, err = command("hornet-eval", *(a.replace("{run}", str(trained)) for a in arguments))
    assert code == 2
    assert message in err
    assert "Traceback" not in out + err


def test_weights_that_give_nan_give_a_result(trained: Path, tmp_path: Path, command: Command) -> None:
    state = load_file(trained / "checkpoints/step_00000003/model.safetensors")
    state["head.weight"].fill_(float("nan"))
    tree = json.loads(
        safe_open(trained / "checkpoints/step_00000003/model.safetensors", "pt").metadata()["hornet_train"]
    )
    save_file(state, tmp_path / "nan.safetensors", metadata={"hornet_train": json.dumps(tree)})
    code, _, err = command("hornet-eval", f"checkpoint={tmp_path}/nan.safetensors")
    assert code == 0, err
    result = json.loads((tmp_path / "eval.json").read_text())
    assert (result["top1"], result["loss"], result["nonfinite"]) == (0.0, None, {"loss": "nan"})


def test_a_pickle_that_runs_code_is_refused(tmp_path: Path, command: Command) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "pwned",)

    torch.save({"model": Evil()}, tmp_path / "evil.pth")
    code, _, err = command("hornet-eval", f"checkpoint={tmp_path}/evil.pth", "data=digits")
    assert code == 2
    assert "evil.pth" in err
    assert not (tmp_path / "pwned").exists()


def test_a_22k_head_on_the_1k_classes(trained: Path, tmp_path: Path, command: Command) -> None:
    """The rows of a larger head that the map names are the head of fewer classes, here in another order."""
    code, _, err = command("hornet-eval", f"checkpoint={trained}", f"out={tmp_path}/small.json")
    assert code == 0, err
    small = json.loads((tmp_path / "small.json").read_text())
    state = load_file(
        trained / "checkpoints" / (trained / "checkpoints/best").read_text().strip() / "ema.safetensors"
    )
    if small["weights"] == "model":
        state = load_file(Path(small["checkpoint"]) / "model.safetensors")
    rows = torch.tensor([30, 7, 22, 41])
    for part in ("weight", "bias"):
        wide = torch.randn(50, *state[f"head.{part}"].shape[1:])
        wide[rows] = state[f"head.{part}"]
        state[f"head.{part}"] = wide
    args = argparse.Namespace(model="hornet_pico_gf")
    torch.save({"model": state, "args": args}, tmp_path / "22k.pth")
    torch.save(rows, tmp_path / "map.pth")
    asked = ["hornet-eval", *IMAGES, f"checkpoint={tmp_path}/22k.pth"]
    code, _, err = command(*asked)
    assert code == 2
    assert "has 50 classes" in err
    assert "init_map=<file>" in err
    code, out, err = command(*asked, f"init_map={tmp_path}/map.pth")
    assert code == 0, err
    assert "took 4 of the head's 50 rows by the class map" in out
    wide_result = json.loads((tmp_path / "eval.json").read_text())
    assert wide_result["top1"] == small["top1"]
    assert wide_result["loss"] == pytest.approx(small["loss"], rel=1e-5)
    assert wide_result["init_map"] == f"{tmp_path}/map.pth"
    torch.save(torch.tensor([0.5, 1.5, 2.5, 3.5]), tmp_path / "odd.pth")
    torch.save([1, 2, 3, 4], tmp_path / "list.pth")
    torch.save(torch.tensor([1, 2, 3, 3]), tmp_path / "twice.pth")
    torch.save(torch.tensor([1, 2, 3, -1]), tmp_path / "below.pth")
    (tmp_path / "words.txt").write_text("one\ntwo\n")
    (tmp_path / "huge.txt").write_text(f"{2**70}\n")
    (tmp_path / "torn.pth").write_bytes((tmp_path / "map.pth").read_bytes()[:99])
    for bad, message in (
        ("none.txt", "none.txt: cannot be read (No such file or directory)"),
        ("words.txt", "words.txt: invalid literal"),
        ("huge.txt", "huge.txt: "),
        ("torn.pth", "torn.pth: cannot be read: damaged"),
        ("odd.pth", "odd.pth: a class map is a 1-d integer tensor of row numbers"),
        ("list.pth", "list.pth: a class map is a 1-d integer tensor of row numbers"),
        ("none.pth", "none.pth: cannot be read (No such file or directory)"),
        ("twice.pth", "twice.pth: it names a row twice"),
        ("below.pth", "class map does not fit"),
    ):
        code, _, err = command(*asked, f"init_map={tmp_path}/{bad}")
        assert code == 2
        assert message in err


def test_what_is_wrong_with_a_file_is_reported_without_knowing_the_model(
    trained: Path, tmp_path: Path, command: Command
) -> None:
    state = load_file(trained / "checkpoints/step_00000003/model.safetensors")
    del state["stages.2.1.gamma2"]
    torch.save({"model": state}, tmp_path / "damaged.pth")
    code, _, err = command("hornet-eval", f"checkpoint={tmp_path}/damaged.pth", *IMAGES)
    assert code == 2
    assert (
        "damaged.pth does not name one (it is nearest to hornet_pico_gf, but for missing (1): "
        "stages.2.1.gamma2)" in err
    )
    code, _, err = command(
        "hornet-eval", f"checkpoint={tmp_path}/damaged.pth", "model=hornet_pico_gf", *IMAGES
    )
    assert code == 2
    assert (
        "damaged.pth: made for another model; first keys that differ: missing (1): stages.2.1.gamma2" in err
    )
    wide = timm.create_model(
        "hornet_pico_gf", num_classes=4, img_size=64
    ).state_dict()  # of no registered model
    torch.save(wide, tmp_path / "wide.pth")
    code, _, err = command("hornet-eval", f"checkpoint={tmp_path}/wide.pth", *IMAGES)
    assert code == 2
    assert "complex_weight: (60, 8, 5, 2) in the file, (60, 4, 3, 2) in the model" in err


def test_a_result_overwrites_no_weights(trained: Path, tmp_path: Path, command: Command) -> None:
    weights = tmp_path / "model.safetensors"
    shutil.copy(trained / "checkpoints/step_00000003/model.safetensors", weights)
    code, _, err = command("hornet-eval", f"checkpoint={weights}", f"out={weights}")
    assert code == 2
    assert "would be overwritten" in err
    load_file(weights)


def test_filters_resized_in_every_forward_are_reported(
    trained: Path, tmp_path: Path, command: Command
) -> None:
    message = "resized in every forward; model.args.img_size=48 resizes them once"
    out = f"out={tmp_path}/eval.json"
    code, said, _ = command("hornet-eval", f"checkpoint={trained}", "data.image_size=48", out)
    assert code == 0
    assert message in said
    code, said, _ = command(
        "hornet-eval", f"checkpoint={trained}", "data.image_size=48", "model.args.img_size=48", out
    )
    assert code == 0
    assert message not in said
    assert "resized 4 global filter(s) from 4 x 3 to 6 x 4" in said


def test_checkpoints_in_the_names_of_others(trained: Path, tmp_path: Path, command: Command) -> None:
    step = trained / "checkpoints/step_00000003"
    state = load_file(step / "model.safetensors")
    theirs = {}
    for name, tensor in state.items():
        name = (
            name.replace(".pws.", ".projs.")
            .replace("gamma1", "gamma1.weight")
            .replace("gamma2", "gamma2.weight")
        )
        name = name.replace("norm.", "norm3.") if name.startswith("norm.") else name
        theirs[name.replace("head.", "head.fc.") if name.startswith("head.") else f"backbone.{name}"] = tensor
    torch.save({"state_dict": theirs, "meta": {"epoch": 3}}, tmp_path / "mm.pth")
    code, out, err = command("hornet-eval", f"checkpoint={tmp_path}/mm.pth", *IMAGES)
    assert code == 0, err
    assert "translated mmpretrain's names" in out
    (expected,) = [e for e in events(trained, "eval") if e["step"] == 3 and e["weights"] == "model"]
    assert json.loads((tmp_path / "eval.json").read_text())["loss"] == pytest.approx(
        expected["loss"], rel=1e-5
    )

    dense = {f"backbone.{n}": t for n, t in state.items() if not n.startswith(("norm.", "head."))}
    dense |= {
        f"backbone.norm{stage}.{p}": torch.ones(16 * 2**stage)
        for stage in range(4)
        for p in ("weight", "bias")
    }
    torch.save({"state_dict": {**dense, "decode_head.conv_seg.bias": torch.zeros(3)}}, tmp_path / "seg.pth")
    code, _, err = command("hornet-eval", f"checkpoint={tmp_path}/seg.pth", *IMAGES)
    assert code == 2
    assert "as a dense-prediction backbone, which has no head" in err
    code, out, err = command(
        "hornet-train", *TINY, "epochs=1it", f"init_from={tmp_path}/seg.pth", f"run_dir={tmp_path}/run"
    )
    assert code == 0, err
    for note in (
        "left out the tensors of decode_head (1)",
        "left out the file's norm0, norm1, norm2, norm3",
        "the model's norm starts from its initialisation",
        "the head of 4 classes starts from its initialisation; the file has none",
    ):
        assert note in out
