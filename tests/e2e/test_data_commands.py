"""hornet-data bench and show, as a user gives them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL
import pytest
from PIL import Image
from skimage import data

from hornet_train.bench.loader_scaling import worker_counts
from hornet_train.bench.pictures import BYTES, HEIGHT, WIDTH, make_pictures

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pictures")
    make_pictures(root, different=9, files=200)
    return root


def test_the_pictures_are_of_imagenets_size(pictures: Path) -> None:
    paths = sorted((pictures / "train").glob("*/*.jpg"))
    assert len(paths) == 200
    assert len({path.stat().st_ino for path in paths}) == 9
    sizes = [path.stat().st_size for path in paths]
    assert max(sizes) <= BYTES
    assert np.mean(sizes) > 0.8 * BYTES
    assert {Image.open(path).size for path in paths} == {(WIDTH, HEIGHT)}


def test_workers_are_counted_in_powers_of_two_up_to_all_cores() -> None:
    assert [worker_counts(n) for n in (1, 2, 3, 8, 96)] == [
        *([1], [1, 2], [1, 2, 3], [1, 2, 4, 8], [1, 2, 4, 8, 16, 32, 64, 96])
    ]


@pytest.mark.long
def test_bench_shows_ratios(pictures: Path, tmp_path: Path, command: Command) -> None:
    """Without timm here: its RandAugment does not run under every Pillow."""
    file = tmp_path / "bench.json"
    flags = ("--images", str(pictures), "--rounds", "1", "--workers", "1", "--json", str(file))
    code, out, err = command("hornet-data", "bench", "--without-timm", *flags)
    assert code == 0, err
    found = {one["what"]: one for one in json.loads(file.read_text())}
    scaled = [one for one in found.values() if "workers" in one]
    assert len(found) - len(scaled) == 5
    assert {one["workers"] for one in scaled} == {1}
    assert all(one["ours"] > 0 and 5 < one["worker_mb"] < 500 and one["shared_mb"] > 5 for one in scaled)
    assert found["training loader, workers: 1 : 1"]["ratio"] == 1
    assert found["training loader : bare JPEG decode"]["ours"] > 0
    train = found["training image : bare JPEG decode"]
    assert train["ratio"] == pytest.approx(train["ours"] / train["other"])
    assert train["ours"] > train["other"] > 0
    assert "first batch : at 90 % of an epoch" in out
    code, out, err = command("hornet-data", "bench", "--only", "pipeline", "--without-timm", *flags)
    assert code == 0, err
    assert "MB" not in out
    code, _, err = command("hornet-data", "bench", "--without-timm", *flags[:-1], f"{tmp_path}/no/x.json")
    assert code == 2
    assert "there is no folder" in err
    if int(PIL.__version__.split(".")[0]) >= 13:
        code, _, err = command("hornet-data", "bench", *flags)
        assert code == 2
        assert "make bench-data" in err


def test_show_draws_what_is_trained_on(tmp_path: Path, command: Command) -> None:
    root, out = tmp_path / "photos", tmp_path / "sheet.png"
    for name, left in (("cat", 0), ("dog", 200)):
        (root / "train" / name).mkdir(parents=True)
        for i in range(4):
            crop = Image.fromarray(data.astronaut()).crop((left + 9 * i, 40, left + 9 * i + 200, 240))
            crop.save(root / "train" / name / f"{i}.jpg")
    (root / "train/dog/3.jpg").write_bytes(b"damaged")
    overrides = ["data=folder", f"data.root={root}", "data.val=false", "data.workers=0", "data.image_size=64"]
    code, message, err = command("hornet-data", "show", *overrides, "--images", "8", f"--out={out}", "seed=0")
    assert code == 0, err
    assert f"8 training images: {out}" in message
    assert f"another image stands in for {root}/train/dog/3.jpg" in err
    first = np.asarray(Image.open(out).convert("RGB"))
    assert first.std() > 30, "an empty sheet"
    command("hornet-data", "show", *overrides, "--images", "8", f"--out={out}")
    assert np.array_equal(np.asarray(Image.open(out).convert("RGB")), first), (
        "the same draws, the same picture"
    )
    command("hornet-data", "show", *overrides, "--images", "8", f"--out={out}", "--epoch", "1")
    assert not np.array_equal(np.asarray(Image.open(out).convert("RGB")), first)
    code, _, err = command("hornet-data", "show", *overrides, "augment.policy=rand-x3")
    assert code == 2
    assert "augment.policy=rand-x3" in err
    code, _, err = command("hornet-data", "show", "--image", "4")
    assert code == 2
