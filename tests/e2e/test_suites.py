"""hornet-eval on the evaluation sets, against float64 logits of the same images."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import timm
import torch
from configs import compose_train
from helpers import BIN, torchrun
from PIL import Image

import hornet_train.models  # noqa: F401 - registers
from hornet_train.errors import ConfigError
from hornet_train.images.decode import read_image
from hornet_train.images.normalize import Normalize
from hornet_train.tasks.classification.build.open_data import open_data
from hornet_train.tasks.classification.sources import imagenet_wnids
from hornet_train.tasks.classification.suites.corruptions import ALEXNET
from hornet_train.tasks.classification.suites.metadata import subset_wnids
from hornet_train.tasks.classification.transforms import EvalTransform

Command = Callable[..., tuple[int, str, str]]
WNIDS = imagenet_wnids()
SIZE = 16


@dataclasses.dataclass(frozen=True)
class Place:
    """A folder of sets, a checkpoint of 1,000 classes, and its logits.

    Attributes:
        logits: float64 (1000, 1000), of the image of class 0, 1, ...
        shown: (1000,): in ImageNet-C at severity 5 class i shows the image of class shown[i].
    """

    root: Path
    logits: np.ndarray
    shown: np.ndarray
    real: list[list[int]]

    def call(self, *arguments: str) -> list[str]:
        sized = [f"data.image_size={SIZE}", "data.workers=0", "batch_size=250"]
        return [f"checkpoint={self.root}/weights.pth", *sized, *arguments]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    root, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    val = root / "imagenet/val"
    val.mkdir(parents=True)
    files = [val / f"ILSVRC2012_val_{i:08d}.JPEG" for i in range(1, 1001)]
    for file in files:
        pixels = rng.integers(0, 256, size=(4, 4, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((20, 24), Image.Resampling.BICUBIC).save(file, quality=95)
    model, logits = _nearest_image(files, rng)
    torch.save({"model": model.state_dict()}, root / "weights.pth")

    rows = [f"{file.stem},{wnid} 1 2 3 4\n" for file, wnid in zip(files, WNIDS, strict=True)]
    (root / "LOC_val_solution.csv").write_text("ImageId,PredictionString\n" + "".join(rows))
    _class_folders(root / "imagenetv2-matched-frequency-format-val", [str(i) for i in range(1000)], files)
    _class_folders(root / "sketch", WNIDS, files)
    for letter, some in (("a", subset_wnids("imagenet_a")), ("r", subset_wnids("imagenet_r"))):
        _class_folders(root / f"imagenet-{letter}", some, [files[WNIDS.index(wnid)] for wnid in some])
    shown = np.where(rng.random(1000) < 0.7, rng.permutation(1000), np.arange(1000))
    _class_folders(root / "imagenet-c/fog/5", WNIDS, [files[i] for i in shown])
    for severity in "1234":
        (root / "imagenet-c/fog" / severity).symlink_to(root / "sketch", target_is_directory=True)

    best = (-logits).argsort(axis=1)
    real = [[i, int(best[i, 1])] if i % 3 else [int(best[i, i // 3 % 9])] for i in range(1000)]
    for i in range(0, 1000, 10):
        real[i] = []
    (root / "real.json").write_text(json.dumps(real))
    return Place(root, logits, shown, real)


def _nearest_image(files: list[Path], rng: np.random.Generator) -> tuple[Any, np.ndarray]:
    """A model whose head says, with some noise, which of these images it sees; and its logits, float64."""
    torch.manual_seed(0)
    model: Any = timm.create_model("hornet_pico_7x7", num_classes=1000).eval()
    transform, normalize = EvalTransform(SIZE, 0.875, "bicubic"), Normalize()
    images = normalize(torch.stack([transform(read_image(file)) for file in files]))
    with torch.inference_mode():
        features = model.forward_head(model.forward_features(images), pre_logits=True).double()
        centred = features - features.mean(0)
        centred += 1.7 * centred.std() * torch.from_numpy(rng.standard_normal(centred.shape))
        scale = 2 / centred.square().sum(1).mean()
        model.head.weight.copy_(8 * scale * centred)
        model.head.bias.copy_(-4 * scale * (centred.square().sum(1) + 2 * centred @ features.mean(0)))
        logits = model.double()(images.double()).numpy()
    return model.float(), logits


def _class_folders(root: Path, names: list[str] | tuple[str, ...], files: list[Path]) -> None:
    for name, file in zip(names, files, strict=True):
        (root / name).mkdir(parents=True)
        os.link(file, root / name / "x.JPEG")


def reference(logits: np.ndarray, accepted: list[list[int]]) -> dict[str, float]:
    """`accepted`: the columns that are right, for each row; rows without any are left out."""
    share = np.exp(logits - logits.max(axis=1, keepdims=True))
    share /= share.sum(axis=1, keepdims=True)
    ranked = (-logits).argsort(axis=1)
    kept = [i for i, right in enumerate(accepted) if right]
    return {
        "count": len(kept),
        "loss": float(np.mean([-np.log(share[i, sorted(set(accepted[i]))].sum()) for i in kept])),
        "top1": 100 * float(np.mean([ranked[i, 0] in accepted[i] for i in kept])),
        "top5": 100 * float(np.mean([bool(set(ranked[i, :5]) & set(accepted[i])) for i in kept])),
    }


def own(count: int = 1000) -> list[list[int]]:
    return [[i] for i in range(count)]


def check(result: dict[str, Any], expected: dict[str, float]) -> None:
    for name, value in expected.items():
        assert result[name] == pytest.approx(value, rel=1e-4), name


def subset(place: Place, name: Literal["imagenet_a", "imagenet_r"]) -> np.ndarray:
    rows = [WNIDS.index(wnid) for wnid in subset_wnids(name)]
    return place.logits[np.ix_(rows, rows)]


def test_all_sets_below_a_folder(place: Place, tmp_path: Path, command: Command) -> None:
    names = "[imagenet,imagenet_v2,imagenet_a,imagenet_r,imagenet_sketch]"
    asked = place.call(f"suite={names}", f"data.root={place.root}", f"out={tmp_path}/eval.json")
    code, out, err = command("hornet-eval", *asked)
    assert code == 0, err
    result = json.loads((tmp_path / "eval.json").read_text())
    whole = reference(place.logits, own())
    assert 20 < whole["top1"] < 95, "a model that is neither always right nor always wrong"
    assert whole["top5"] > whole["top1"] + 3
    for name in ("imagenet", "imagenet_v2", "imagenet_sketch"):
        check(result["suites"][name], whole)
    check(result["suites"]["imagenet_a"], reference(subset(place, "imagenet_a"), own(200)))
    check(result["suites"]["imagenet_r"], reference(subset(place, "imagenet_r"), own(200)))
    assert f"labels of {place.root}/imagenet/val from {place.root}/LOC_val_solution.csv" in out
    for name, one in result["suites"].items():
        assert any(line.split()[:2] == [name, f"{one['top1']:.3f}"] for line in out.splitlines()), out
    assert result["not_found"] == []


def test_the_flat_val_folder(place: Place, tmp_path: Path, command: Command) -> None:
    asked = ("data=imagenet", f"data.root={place.root}/imagenet", f"out={tmp_path}/eval.json")
    code, _, err = command("hornet-eval", *place.call(*asked))
    assert code == 2
    assert "1000 images lie in it directly" in err
    assert "data.val_labels=<file>" in err
    labels = f"data.val_labels={place.root}/LOC_val_solution.csv"
    code, _, err = command("hornet-eval", *place.call(*asked, labels))
    assert code == 0, err
    check(json.loads((tmp_path / "eval.json").read_text()), reference(place.logits, own()))
    data = ("data=imagenet", f"data.root={place.root}", "data.train_dir=sketch", "data.val_dir=imagenet/val")
    sources = open_data(compose_train([*data, labels]).config.data)
    assert sources.train is not None
    assert sources.val is not None
    assert sources.classes == WNIDS
    assert (len(sources.train), len(sources.val)) == (1000, 1000)
    with pytest.raises(ConfigError, match=r"data\.val_labels=.* is for ImageNet's val folder"):
        compose_train(["data=folder", "data.root=/x", labels])


def test_all_means_what_is_there(place: Place, tmp_path: Path, command: Command) -> None:
    root = tmp_path / "sets"
    root.mkdir()
    (root / "imagenet-a").symlink_to(place.root / "imagenet-a")
    code, out, err = command(
        "hornet-eval", *place.call("suite=all", f"data.root={root}", f"out={tmp_path}/eval.json")
    )
    assert code == 0, err
    result = json.loads((tmp_path / "eval.json").read_text())
    assert list(result["suites"]) == ["imagenet_a"]
    assert "not found: imagenet, imagenet_real, imagenet_v2" in out
    assert "imagenet_c" in result["not_found"]
    for arguments, message in (
        (("suite=all", f"data.root={tmp_path}"), "imagenet_sketch: imagenet-sketch, imagenet_sketch, "),
        (("suite=[imagenet_a,imagenet_r]", f"data.root={root}"), "looked for\n  - imagenet_r: imagenet-r,"),
        (("suite=all", f"data.root={tmp_path}/none"), "none does not exist"),
    ):
        code, _, err = command("hornet-eval", *place.call(*arguments))
        assert code == 2
        assert message in err


def test_real_and_corruptions(place: Place, tmp_path: Path, command: Command) -> None:
    out_file = f"out={tmp_path}/eval.json"
    real = ("data=imagenet_real", f"data.root={place.root}/imagenet", f"data.labels={place.root}/real.json")
    code, out, err = command("hornet-eval", *place.call(*real, out_file))
    assert code == 0, err
    result = json.loads((tmp_path / "eval.json").read_text())
    check(result, reference(place.logits, place.real))
    assert (result["count"], result["left_out"], result["data"]) == (900, 100, "imagenet_real")
    assert "100 images without a label are left out" in out

    code, out, err = command(
        "hornet-eval", *place.call("data=imagenet_c", f"data.root={place.root}/imagenet-c", out_file)
    )
    assert code == 0, err
    result = json.loads((tmp_path / "eval.json").read_text())
    mild = reference(place.logits, own())["top1"]
    strong = reference(place.logits[place.shown], own())["top1"]
    assert strong < 0.6 * mild
    fog = result["corruptions"]["fog"]
    assert fog["severities"] == pytest.approx([mild] * 4 + [strong])
    assert fog["error"] == pytest.approx(100 - (4 * mild + strong) / 5)
    assert fog["ce"] == pytest.approx(fog["error"] / ALEXNET["fog"])
    assert result["top1"] == pytest.approx((4 * mild + strong) / 5)
    assert (result["count"], result["mce"], len(result["missing"])) == (5000, None, 14)
    assert "imagenet_c: no mCE without gaussian_noise, " in out
    assert f"imagenet_c/fog/5: top-1 {strong:.3f} of 1,000 images" in out


def test_a_set_on_two_processes(place: Place, tmp_path: Path) -> None:
    asked = place.call("suite=[imagenet_a,imagenet]", f"data.root={place.root}", f"out={tmp_path}/two.json")
    done = torchrun(2, str(BIN / "hornet-eval"), *asked)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "two.json").read_text())
    assert result["processes"] == 2
    check(result["suites"]["imagenet_a"], reference(subset(place, "imagenet_a"), own(200)))
    check(result["suites"]["imagenet"], reference(place.logits, own()))
    assert done.stdout.count("top-1  ") == 1


def test_processes_that_find_other_sets_are_refused(place: Place, tmp_path: Path) -> None:
    """A node that lacks a set: with suite=all it would do without it, and the others wait for it in vain."""
    for rank, names in ((0, ("sketch", "imagenet-r")), (1, ("sketch",))):
        (tmp_path / str(rank)).mkdir()
        for name in names:
            (tmp_path / str(rank) / name).symlink_to(place.root / name, target_is_directory=True)
    script = tmp_path / "evaluate.py"
    script.write_text(
        "import os, sys\n"
        "from hornet_train.cli.evaluate import main\n"
        f"main([*sys.argv[1:], 'data.root={tmp_path}/' + os.environ['RANK']])\n"
    )
    done = torchrun(2, str(script), *place.call("suite=all", f"out={tmp_path}/two.json"))
    assert done.returncode != 0
    assert "evaluate.py: the processes see other sets, images or weights than each other" in done.stderr
    assert not (tmp_path / "two.json").exists()


def test_200_of_the_1000_of_a_larger_head(place: Place, tmp_path: Path, command: Command) -> None:
    """The class map comes first, the set's rows are of what it gives."""
    state = torch.load(place.root / "weights.pth", weights_only=True)["model"]
    rows = torch.randperm(1200, generator=torch.Generator().manual_seed(1))[:1000]
    for part in ("weight", "bias"):
        wide = torch.randn(1200, *state[f"head.{part}"].shape[1:])
        wide[rows] = state[f"head.{part}"]
        state[f"head.{part}"] = wide
    torch.save({"model": state}, tmp_path / "wide.pth")
    torch.save(rows, tmp_path / "map.pth")
    asked = ["data=imagenet_a", f"data.root={place.root}/imagenet-a", f"init_map={tmp_path}/map.pth"]
    code, _, err = command(
        "hornet-eval", f"checkpoint={tmp_path}/wide.pth", "model=hornet_pico_7x7", *place.call(*asked)[1:]
    )
    assert code == 0, err
    check(json.loads((tmp_path / "eval.json").read_text()), reference(subset(place, "imagenet_a"), own(200)))


def test_a_head_of_its_own(place: Place, tmp_path: Path, command: Command) -> None:
    """A model of ImageNet-A's 200 classes alone: its rows are the set's classes."""
    state = torch.load(place.root / "weights.pth", weights_only=True)["model"]
    rows = torch.tensor([WNIDS.index(wnid) for wnid in subset_wnids("imagenet_a")])
    state |= {f"head.{part}": state[f"head.{part}"][rows] for part in ("weight", "bias")}
    torch.save({"model": state}, tmp_path / "a.pth")
    asked = [f"checkpoint={tmp_path}/a.pth", *place.call()[1:]]
    code, _, err = command("hornet-eval", *asked, "data=imagenet_a", f"data.root={place.root}/imagenet-a")
    assert code == 0, err
    check(json.loads((tmp_path / "eval.json").read_text()), reference(subset(place, "imagenet_a"), own(200)))
    code, _, err = command("hornet-eval", *asked, "suite=[imagenet_a,imagenet_r]", f"data.root={place.root}")
    assert code == 2
    assert "has the 200 classes of imagenet_a, not those of imagenet_r" in err
    code, _, err = command("hornet-eval", *asked, "suite=[imagenet_sketch]", f"data.root={place.root}")
    assert code == 2
    assert "has 200 classes, the images of data.source=imagenet_sketch are of 1000" in err
