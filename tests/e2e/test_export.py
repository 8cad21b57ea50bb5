"""hornet-export: every format is the model, names no file of this machine, and travels with all it needs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from importlib.metadata import requires
from pathlib import Path

import numpy as np
import onnx
import pytest
import timm
import torch
from helpers import ROOT
from PIL import Image
from torch import Tensor, nn

import hornet_train
from hornet_train.config.stored import CLASSES, HEADER
from hornet_train.export.export_wanted import FORMATS, Export
from hornet_train.images.decode import read_image
from hornet_train.run.onnx_model import OnnxModel
from hornet_train.tasks.classification.transforms import EvalTransform

Command = Callable[..., tuple[int, str, str]]
CHECKPOINT = f"checkpoint={ROOT / 'tests' / 'old_run' / 'run'}"  # hornet_pico_gf, of pictures of 32 pixels
IMAGENET = ("data=imagenet", "data.image_size=64")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Official files of pico models whose blocks do something."""
    folder, found = tmp_path_factory.mktemp("weights"), {}
    for mixer in ("7x7", "gf"):
        torch.manual_seed(0)
        model = timm.create_model(f"hornet_pico_{mixer}", num_classes=7)
        for name, weight in model.named_parameters():
            if "gamma" in name:
                nn.init.normal_(weight, std=0.4)
        found[mixer] = folder / f"{mixer}.pth"
        torch.save({"model": model.state_dict()}, found[mixer])
    return found


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twenty pictures of coarse colours in photos/."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    rng = np.random.default_rng(0)
    for number in range(20):
        pixels = np.kron(rng.integers(0, 255, (6, 8, 3), dtype=np.uint8), np.ones((15, 15, 1), np.uint8))
        Image.fromarray(pixels).save(tmp_path / f"photos/p{number:02}.png")
    return tmp_path / "photos"


def model_of(file: Path, size: int) -> nn.Module:
    return hornet_train.load(file, ["data=imagenet", f"data.image_size={size}", "fuse=false"]).model


def differs(found: Tensor, expected: Tensor) -> float:
    return ((found - expected).abs().max() / expected.abs().max()).item()


@pytest.mark.parametrize("mixer", ["7x7", "gf"])
def test_onnx_is_the_model_for_any_batch(
    weights: dict[str, Path], photos: Path, command: Command, mixer: str
) -> None:
    given = (f"checkpoint={weights[mixer]}", *IMAGENET, "--format", "onnx", "--out", "m.onnx", "photos")
    code, out, err = command("hornet-export", *given)
    assert code == 0, err
    assert "compared on 20 pictures" in out
    assert "same most probable class: 100.00%" in out
    run, model = OnnxModel(Path("m.onnx")), model_of(weights[mixer], 64)
    for batch in (1, 3, 8):
        images = torch.randn(batch, 3, 64, 64)
        with torch.inference_mode():
            assert differs(run(images), model(images)) < 1e-5
    proto = onnx.load("m.onnx")
    assert proto.opset_import[0].version == Export.opset
    assert not {node.op_type for node in proto.graph.node} & {"DFT", "Einsum"}
    assert proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert b"site-packages" not in Path("m.onnx").read_bytes()
    assert sorted(path.name for path in Path().iterdir()) == ["m.onnx", "photos"]


def test_an_exported_file_predicts_as_its_checkpoint_does(photos: Path, command: Command) -> None:
    code, _, err = command("hornet-export", CHECKPOINT, "--format", "onnx", "--out", "m.onnx", "photos")
    assert code == 0, err
    flags = ("photos", "--format", "jsonl", "--quiet", "--top", "3", "--flip")
    _, theirs, _ = command("hornet-predict", CHECKPOINT, *flags)
    code, ours, err = command("hornet-predict", "checkpoint=m.onnx", *flags)
    assert code == 0, err
    for one, other in zip(
        map(json.loads, ours.splitlines()), map(json.loads, theirs.splitlines()), strict=True
    ):
        assert one["classes"] == other["classes"]
        assert one["probabilities"] == pytest.approx(other["probabilities"], abs=2e-6)
    for given, message in (
        (("--features", "x.npy"), "an exported model gives probabilities alone"),
        (("data.image_size=64",), "m.onnx is for 32x32"),
        (("--scales", "1,2"), "for images of one size"),
    ):
        code, _, err = command("hornet-predict", "checkpoint=m.onnx", "photos", *given)
        assert (code, message in err) == (2, True), err
    code, _, err = command("hornet-eval", "checkpoint=m.onnx")
    assert (code, "hornet-predict runs it" in err) == (2, True), err


def test_images_of_any_size(weights: dict[str, Path], photos: Path, command: Command) -> None:
    given = ("--format", "onnx", "--out", "m.onnx", "--any-size", "--opset", "18")
    code, _, err = command("hornet-export", f"checkpoint={weights['7x7']}", *IMAGENET, *given)
    assert code == 0, err
    run, model = OnnxModel(Path("m.onnx")), model_of(weights["7x7"], 64)
    assert run.size is None
    for height, width in ((32, 32), (50, 65), (96, 160)):
        images = torch.randn(2, 3, height, width)
        with torch.inference_mode():
            assert differs(run(images), model(images)) < 1e-5
    code, _, err = command("hornet-export", f"checkpoint={weights['gf']}", *IMAGENET, *given, "--overwrite")
    assert (code, "filters (GF) are stored for images of one size" in err) == (2, True)


@pytest.mark.long
def test_smaller_numbers(weights: dict[str, Path], photos: Path, command: Command) -> None:
    checkpoint, sizes = f"checkpoint={weights['gf']}", []
    for name, *flags in (["full"], ["half", "--half"], ["int8", "--int8", "--calibrate", "photos"]):
        given = ("--format", "onnx", "--out", f"{name}.onnx", *flags, "photos")
        code, _, err = command("hornet-export", checkpoint, *IMAGENET, *given)
        assert code == 0, err
        sizes.append(Path(f"{name}.onnx").stat().st_size)
        assert OnnxModel(Path(f"{name}.onnx")).size == (64, 64)
        _, answers, err = command(
            "hornet-predict", f"checkpoint={name}.onnx", "photos", "--top", "1", "--quiet"
        )
        assert len(answers.splitlines()) == 20, err
    assert sizes[1] < 0.55 * sizes[0]
    assert sizes[2] < 0.45 * sizes[0]  # pico has small layers, and ranges for each


def everything_in(path: Path) -> Iterator[bytes]:
    """The bytes of a file, of a folder's files, and of what is packed in them."""
    for file in [path] if path.is_file() else path.rglob("*"):
        if file.is_file():
            yield file.read_bytes()
            if zipfile.is_zipfile(file):
                with zipfile.ZipFile(file) as packed:
                    yield from (packed.read(name) for name in packed.namelist())


@pytest.mark.long
@pytest.mark.parametrize("form", FORMATS)
def test_every_format_is_the_model_and_names_no_file(
    weights: dict[str, Path], photos: Path, command: Command, form: str
) -> None:
    suffix = FORMATS[form].suffix
    for package in FORMATS[form].packages:
        pytest.importorskip(package)
    given = ("--format", form, "--out", f"m{suffix}", "--license", "mit", "photos")
    code, out, err = command("hornet-export", f"checkpoint={weights['gf']}", *IMAGENET, *given)
    assert code == 0, err
    line = next(line for line in out.splitlines() if "largest difference" in line)
    assert float(line.split()[2]) < 1e-5
    if form == "aoti":
        run = torch._inductor.aoti_load_package("m.pt2")
        assert json.loads(run.get_metadata()["classes"]) == [str(number) for number in range(7)]
        for batch in (1, 3):
            images = torch.randn(batch, 3, 64, 64)
            assert differs(run(images), model_of(weights["gf"], 64)(images).detach()) < 1e-5
    if form == "executorch":
        from executorch.runtime import Runtime

        kept = Runtime.get().load_program("m.pte").load_method("provenance").execute([])[0]
        assert json.loads(json.loads(kept)["classes"]) == [str(number) for number in range(7)]
    places = (b"site-packages", str(ROOT).encode(), str(weights["gf"].parent).encode())
    for content in everything_in(Path(f"m{suffix}")):
        assert not [place for place in places if place in content]
    if form == "official":
        assert (
            torch.load("m.pth", weights_only=True)["model"].keys()
            == model_of(weights["gf"], 64).state_dict().keys()
        )
    if form == "huggingface":
        images = torch.randn(2, 3, 64, 64)
        model = timm.create_model("local-dir:m", pretrained=True).eval()
        with torch.inference_mode():
            assert torch.equal(model(images), model_of(weights["gf"], 64)(images))
        config = json.loads(Path("m/config.json").read_text(encoding="utf-8"))
        assert config["label_names"] == [str(number) for number in range(7)]
        assert "num_classes" not in config.get("model_args", {})
        seen = timm.data.resolve_model_data_config(model)
        assert (tuple(seen["input_size"]), seen["crop_pct"]) == ((3, 64, 64), 0.875)
        assert Path("m/README.md").read_text(encoding="utf-8").startswith("---\nlicense: mit\n")
    again = command("hornet-export", f"checkpoint={weights['gf']}", *IMAGENET, *given)
    assert (again[0], "exists: choose another, or --overwrite" in again[2]) == (2, True)
    again = command("hornet-export", f"checkpoint={weights['gf']}", *IMAGENET, *given, "--overwrite")
    assert again[0] == 0, again[2]


def needed_by(package: str, found: set[str]) -> set[str]:
    """A package and what it needs, by their names in the index."""
    if package not in found:
        found.add(package)
        for one in requires(package) or []:
            if "extra" not in one:
                needed_by(
                    one.split(";")[0].split(">")[0].split("=")[0].split("<")[0].split("!")[0].strip(), found
                )
    return found


def test_a_file_runs_without_torch(photos: Path, tmp_path: Path, command: Command) -> None:
    """In a Python that has nothing but NumPy, Pillow and ONNX Runtime."""
    code, _, err = command("hornet-export", CHECKPOINT, "--format", "onnx", "--out", "m.onnx")
    assert code == 0, err
    site = Path(np.__file__).parents[1]
    bare = tmp_path / "bare"
    bare.mkdir()
    tops = {"protobuf": "google", "pillow": "PIL", "typing-extensions": "typing_extensions.py"}
    for name in needed_by("onnxruntime", {"pillow", "sympy", "mpmath"}):
        for top in (tops.get(name, name), f"{name}.libs"):
            if (site / top).exists():
                os.symlink(site / top, bare / top)
    files = ["run_onnx.py", "m.onnx", "photos/p00.png", "photos/p07.png"]
    example = (ROOT / "examples/run_onnx.py").read_text(encoding="utf-8")
    script = f"import sys; sys.path.append({str(bare)!r}); sys.argv = {files!r}\n"
    script += example.partition("from __future__ import annotations\n")[2]
    script += "\nassert 'torch' not in sys.modules and 'hornet_train' not in sys.modules\n"
    done = subprocess.run(
        [sys.executable, "-S", "-I", "-c", script], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    model = hornet_train.load(CHECKPOINT.partition("=")[2])
    for line in done.stdout.splitlines():
        path, *answers = line.split("  ")
        best, probability = answers[0].rsplit(" ", 1)
        expected = model.predict(path)
        assert best == expected["classes"][0]
        assert float(probability.rstrip("%")) / 100 == pytest.approx(expected["probabilities"][0], abs=0.01)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--format", "onnx", "--out", "x.onnx", "--opset", "99"], "writes 18 to 25 right, and no other"),
        (["--format", "onnx", "--out", "x.onnx", "--opset", "12"], "writes 18 to 25 right, and no other"),
        (["--format", "onxn", "--out", "x.onnx"], "did you mean 'onnx'"),
        (["--format", "onnx", "--out", "x.pt"], "onnx is a .onnx file: name it x.onnx"),
        (["--format", "onnx", "--out", "no/x.onnx"], "there is no folder"),
        (["--format", "onnx", "--out", "there.onnx"], "there.onnx exists: choose another, or --overwrite"),
        (["--format", "openvino", "--out", "other.xml"], "other.bin exists"),
        (["--format", "huggingface", "--out", "photos"], "photos exists"),
        (
            ["--format", "huggingface", "--out", "photos", "--overwrite"],
            "is nothing that hornet-export wrote",
        ),
        (["--format", "huggingface", "--out", "there.onnx", "--overwrite"], "is nothing that hornet-export"),
        (["--format", "huggingface", "--out", ".", "--overwrite"], "is nothing that hornet-export wrote"),
        (["--format", "pt2", "--out", "x.pt2", "--half"], "--half is for --format onnx"),
        (["--format", "official", "--out", "x.pth", "--any-size"], "holds weights, which have no size"),
        (["--format", "onnx", "--out", "x.onnx", "--int8"], "--int8 needs --calibrate"),
        (["--format", "onnx", "--out", "x.onnx", "--calibrate", "photos"], "--calibrate is for --int8"),
        (
            ["--format", "onnx", "--out", "x.onnx", "--any-size"],
            "filters (GF) are stored for images of one size",
        ),
        (["--format", "torchscript", "--out", "x.pt", "--any-size"], "a trace is for images of one size"),
        (["--format", "executorch", "--out", "x.pte", "--any-size"], "a .pte is for images of one size"),
        (["--format", "litert", "--out", "x.tflite", "--any-size"], "a .tflite is for images of one size"),
        (["--format", "aoti", "--out", "x.pt2", "--int8"], "--int8 is for --format onnx, not aoti"),
        (["--format", "onnx", "--out", "x.onnx", "gone.png"], "gone.png: cannot be read"),
        (["--format", "onnx", "--out", "x.onnx", "--ops", "18"], "did you mean '--opset'"),
    ],
)
def test_mistakes_are_told_in_a_line_and_leave_nothing(
    photos: Path, command: Command, given: list[str], message: str
) -> None:
    for name in ("there.onnx", "other.bin"):
        Path(name).write_text("somebody's", encoding="utf-8")
    before = sorted(Path().rglob("*"))
    code, out, err = command("hornet-export", CHECKPOINT, *given)
    assert (code, out) == (2, "")
    assert message in err
    assert "Traceback" not in err
    assert sorted(Path().rglob("*")) == before


def test_a_missing_package_is_named(photos: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib import util

    known = util.find_spec
    monkeypatch.setattr(
        util, "find_spec", lambda name, *rest: None if name == "onnxscript" else known(name, *rest)
    )
    code, _, err = command("hornet-export", CHECKPOINT, "--format", "onnx", "--out", "x.onnx")
    assert code == 2
    assert "--format onnx needs onnxscript: pip install 'hornet-train[onnx]'" in err
    monkeypatch.setattr("shutil.which", lambda _name: None)
    code, _, err = command("hornet-export", CHECKPOINT, "--format", "aoti", "--out", "x.pt2")
    assert (code, "--format aoti needs a C++ compiler: g++ or clang++" in err) == (2, True), err


def test_an_export_that_is_not_the_model_is_removed(
    photos: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor one that gives NaN, from which no number differs."""
    forward, given = OnnxModel.forward, (CHECKPOINT, "--format", "onnx", "--out", "x.onnx")
    for wrong in (0.01, float("nan")):
        monkeypatch.setattr(OnnxModel, "forward", lambda self, images, by=wrong: forward(self, images) + by)
        for flags in ((), ("--int8", "--calibrate", "photos")):
            code, _, err = command("hornet-export", *given, *flags)
            if wrong == 0.01 and flags:
                assert code == 0, err  # numbers of 8 bits are near the model, and a user judges
                Path("x.onnx").unlink()
                continue
            assert code == 2
            assert "x.onnx would differ from the model by" in err
            assert [path.name for path in Path().iterdir()] == ["photos"]


def test_a_file_whose_names_do_not_fit_is_refused(photos: Path, command: Command) -> None:
    code, _, err = command("hornet-export", CHECKPOINT, "--format", "onnx", "--out", "m.onnx")
    assert code == 0, err
    proto = onnx.load("m.onnx")
    texts = {one.key: one.value for one in proto.metadata_props}
    kept = json.loads(texts[HEADER])
    texts[HEADER] = json.dumps({**kept, CLASSES: kept[CLASSES][:7]})
    onnx.helper.set_model_props(proto, texts)
    onnx.save(proto, "m.onnx")
    code, _, err = command("hornet-predict", "checkpoint=m.onnx", "photos")
    assert (code, "m.onnx has 10 outputs and 7 names of classes" in err) == (2, True), err


def test_an_export_that_does_not_run_is_removed(
    photos: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_arguments: object) -> None:
        raise ValueError("no such operator")

    monkeypatch.setattr("onnxruntime.InferenceSession.run", fails)
    code, _, err = command("hornet-export", CHECKPOINT, "--format", "onnx", "--out", "x.onnx")
    assert (code, err.count("\n")) == (2, 1)
    assert "x.onnx would not run (RuntimeError: ONNX Runtime: " in err
    assert "no such operator); it was removed" in err
    assert [path.name for path in Path().iterdir()] == ["photos"]


def test_pictures_that_cannot_be_read_are_no_pictures(photos: Path, command: Command) -> None:
    Path("bad.png").write_bytes((photos / "p00.png").read_bytes()[:60])
    given = (CHECKPOINT, "--format", "onnx", "--out", "x.onnx")
    for more in (("bad.png",), ("--int8", "--calibrate", "bad.png", "photos")):
        code, _, err = command("hornet-export", *given, *more)
        assert (code, "none of the first pictures, bad.png and so on, can be read" in err) == (2, True), err
        assert not Path("x.onnx").exists()


def test_squares_from_384_on_show_the_whole_picture(
    weights: dict[str, Path], photos: Path, command: Command
) -> None:
    """As our own evaluation warps them, so does what timm makes of the folder."""
    given = (f"checkpoint={weights['7x7']}", "data=imagenet", "data.image_size=384")
    code, _, err = command("hornet-export", *given, "--format", "huggingface", "--out", "m")
    assert code == 0, err
    seen = timm.data.resolve_model_data_config(timm.create_model("local-dir:m", pretrained=True))
    assert (seen["crop_pct"], seen["crop_mode"]) == (1.0, "squash")
    config = json.loads(Path("m/config.json").read_text(encoding="utf-8"))
    kept = json.loads(config["hornet_train"]["preprocessing"])
    assert (kept["crop_pct"], kept["crop_mode"]) == (1.0, "squash")
    with Image.open(photos / "p00.png") as picture:
        theirs = timm.data.create_transform(**seen)(picture.convert("RGB"))
    ours = EvalTransform(384)(read_image(photos / "p00.png")).float() / 255
    mean, std = (torch.tensor(seen[key]).view(3, 1, 1) for key in ("mean", "std"))
    torch.testing.assert_close(theirs, (ours - mean) / std, rtol=0, atol=0.05)
