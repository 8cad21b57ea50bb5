"""hornet-info: a model part by part, the family beside the published figures, and the wrong ways."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import timm

import hornet_train.models  # noqa: F401 - registers
from hornet_train.models.variants import VARIANTS
from hornet_train.report import model_tables

Command = Callable[..., tuple[int, str, str]]


def cells(out: str, first: str) -> list[str]:
    """The cells of the table's row that begins with `first`."""
    (row,) = [line for line in out.splitlines() if line.startswith(f"{first} ")]
    return re.split(r"\s{2,}", row.strip())


def test_a_model_part_by_part(command: Command) -> None:
    code, out, err = command("hornet-info", "model=hornet_s_gf")
    assert (code, err) == (0, "")
    assert "hornet_small_gf at 224 x 224" in out
    assert cells(out, "stage 0")[1:7] == ["56x56", "96", "2", "2", "48/96", "7x7"]
    last = cells(out, "stage 3")
    assert last[1:7] == ["7x7", "768", "2", "5", "48/96/192/384/768", "gf 7x4"]
    assert cells(out, "all")[-4:-2] == ["50,401,768", "8.6944"]
    parts = ["stem", "stage 0", "stage 1", "stage 2", "stage 3", "norm, head"]
    named = sum(int(cells(out, part)[7].replace(",", "")) for part in parts)
    between = [re.split(r"\s{2,}", line)[7] for line in out.splitlines() if line.startswith("downsampling")]
    assert named + sum(int(count.replace(",", "")) for count in between) == 50_401_768
    assert "8.7343 G" in out  # as the authors count


def test_the_bound_stands_beside_the_count(command: Command) -> None:
    code, out, _ = command("hornet-info", "model=hornet_t_7x7", "image_size=96")
    assert code == 0
    for stage, width in enumerate((64, 128, 256, 512)):
        counted, bound = (float(cell.replace(",", "")) for cell in cells(out, f"stage {stage}")[-2:])
        assert bound == round(width * (2 * 49 + 11 * width / 3 + 2))
        assert 0.8 * bound < counted <= bound
    # C = 64, order 2: 2 C^2 in, 96 x 49 mixed, 32 x 64 widened, C^2 out, 96 products
    assert cells(out, "stage 0")[-2] == f"{3 * 64**2 + 96 * 49 + 32 * 64 + 96:,}"


def test_filters_of_another_size_are_reported(command: Command) -> None:
    _, out, _ = command("hornet-info", "model=hornet_t_gf", "image_size=96")
    assert "stored for 224 x 224 pixels and resized in every forward pass here" in out
    _, out, _ = command("hornet-info", "model=hornet_t_gf", "model.args.img_size=96")
    assert "hornet_tiny_gf at 96 x 96" in out
    assert "gf 6x4" in out
    assert "resized" not in out


@pytest.mark.long
def test_the_family_beside_the_published_figures(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, err = command("hornet-info", "--family")
    assert (code, err) == (0, "")
    for name in VARIANTS:
        cells(out, name)
    assert cells(out, "hornet_base_gf")[1:10] == [
        "88,421,352",
        "88M",
        "15.4078",
        "15.4609",
        "45.2780",
        "45.4404",
        "15.5",
        "84.3",
        "300 epochs at 224",
    ]
    assert cells(out, "hornet_base_gf_img384")[-1] == "not published here"
    assert "depth and order, which it does not record, are ours" in cells(out, "hornet_iso_small_gf")[-1]
    monkeypatch.setattr(model_tables, "VARIANTS", {"hornet_pico_gf": VARIANTS["hornet_pico_gf"]})
    code, out, _ = command("hornet-info", "--family", "image_size=64")
    assert code == 0
    assert "GMACs @64" in out
    assert "@384" not in out


def test_ablations_and_other_models(command: Command) -> None:
    code, out, _ = command(
        "hornet-info", "model=hornet_t_7x7", "model.args.gating=se", "model.args.mixers=3x3"
    )
    assert code == 0
    assert cells(out, "stage 2")[4:7] == ["-", "-", "3x3"]
    code, out, _ = command("hornet-info", "model=hornet_t_7x7", "model.args.orders=1", "num_classes=10")
    assert code == 0
    assert cells(out, "stage 2")[4:6] == ["1", "256"]
    assert cells(out, "norm, head")[7] == "6,154"  # of 10 classes
    code, out, _ = command("hornet-info", "model=hornet_t_7x7", "model.num_classes=10")
    assert cells(out, "norm, head")[7] == "6,154"
    code, out, _ = command("hornet-info", "model=hornet_t_7x7", "model.in_chans=1", "image_size=[192,352]")
    assert "hornet_tiny_7x7 at 192 x 352, 1 channel" in out
    assert cells(out, "stem")[1] == "48x88"
    assert cells(out, "stem")[7] == "1,216"  # 64 kernels of 1 x 4 x 4, with biases and a norm
    code, out, _ = command("hornet-info", "model=timm", "model.name=resnet18")
    assert code == 0
    assert re.search(r"11,689,512\s+1.8141", out)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["model=hornet_x"], "no such option of model"),
        (["model=timm"], "model.name is missing"),
        (["model=timm", "model.name=hornet_tinygf"], "did you mean 'hornet_tiny_gf'"),
        (["image_size=15"], "image_size=15 does not suit hornet_pico_gf: images of 15 x 15 are too small"),
        (["image_size=0"], "image_size=0"),
        (["imagesize=64"], "did you mean 'image_size'"),
        (
            ["model=hornet_t_7x7", "model.args.orders=8"],
            "multiple of 128, not 64; the nearest that works is 128",
        ),
        (["model=hornet_t_7x7", "model.args.mixers=6x6"], "must be odd to keep the size, not 6; use 7"),
        (["model.args.order=3"], "has no such option; did you mean 'orders'? It takes orders, "),
        (["model.args.in_chans=1"], "model.args.in_chans: give model.in_chans"),
        (["model.args.features_only=true"], "model.args.features_only: a classifier has a head"),
        (["model.args.global_pool=''"], "model.args.global_pool=''"),
        (["model.args.scale=big"], "scale is a finite number, not 'big'"),
        (["model.args.gating=none", "model.args.orders=7"], "has no gnConv, and so neither orders nor scale"),
        (["model.args.pretrained=true"], "reads no weights"),
        (["model.drop_path=0.3"], "model.drop_path changes nothing that hornet-info shows"),
        (
            ["image_size=[8,64]"],
            "image_size=[8,64] does not suit hornet_pico_gf: images of 8 x 64 are too small",
        ),
        (
            ["model=timm", "model.name=vit_tiny_patch16_224", "image_size=[64,96]"],
            "(224); model.args.img_size=[64,96] builds it for this size",
        ),
        (["--family", "image_size=16"], "image_size=16 does not suit every model"),
        (["model=timm", "model.name=vit_tiny_patch16_224", "image_size=100"], "image_size=100 does not suit"),
        (["--family", "model=hornet_t_gf"], "model=hornet_t_gf does not apply"),
        (["--famly"], "unknown flag --famly"),
    ],
)
def test_bad_input(command: Command, arguments: list[str], message: str) -> None:
    code, out, err = command("hornet-info", *arguments)
    assert code == 2
    assert message in err
    assert "Traceback" not in out + err


def test_help_and_version(command: Command) -> None:
    code, out, _ = command("hornet-info", "--help")
    assert code == 0
    assert "hornet_iso_s_gf" in out
    assert command("hornet-info", "--version")[1].startswith("hornet-info ")
    assert timm.is_model("hornet_iso_base_7x7")
