"""eval.json keeps the results of other evaluations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hornet_train.config.compose_eval import compose_eval
from hornet_train.config.schema import EvalConfig
from hornet_train.errors import ConfigError
from hornet_train.run.result_file import check_out, data_settings, write_result
from hornet_train.tasks.table import NAMES, find


def config(*given: str) -> EvalConfig:
    stored = {"model": {"name": "hornet_pico_gf"}, "data": {"source": "digits"}}
    return compose_eval(["checkpoint=run", *given], lambda _: stored, find=find, names=NAMES).config


def result(top1: float, **more: Any) -> dict[str, Any]:
    settings = data_settings(config("data=folder", "data.root=photos"))
    return {"top1": top1, "checkpoint": "/r/step_1", "weights": "ema", "data_settings": settings, **more}


def test_the_newest_is_at_the_top_and_the_same_evaluation_takes_its_own_place(tmp_path: Path) -> None:
    out = tmp_path / "eval.json"
    assert write_result(result(50.0), out) == 0
    assert json.loads(out.read_text()) == result(50.0)  # as before, where there is only one
    assert write_result(result(60.0, weights="model"), out) == 1
    other = data_settings(config("data=folder", "data.root=other"))
    assert write_result(result(70.0, data_settings=other), out) == 2
    smaller = data_settings(config("data=folder", "data.root=photos", "data.image_size=64"))
    assert write_result(result(80.0, data_settings=smaller), out) == 3
    assert write_result(result(55.0), out) == 3
    kept = json.loads(out.read_text())
    assert kept["top1"] == 55.0
    assert [one["top1"] for one in kept["earlier"]] == [80.0, 70.0, 60.0]


def test_a_checkpoint_whose_path_is_no_text_takes_its_own_place_too(tmp_path: Path) -> None:
    odd = {"checkpoint": "/r/Gr\udcf6b/step_1"}
    assert write_result(result(50.0, **odd), tmp_path / "eval.json") == 0
    assert write_result(result(60.0, **odd), tmp_path / "eval.json") == 0


def test_the_data_are_named_by_their_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    found = data_settings(config("data=folder", "data.root=photos", "data.workers=3"))
    assert found["root"] == f"{tmp_path}/photos"
    assert (found["val_dir"], found["image_size"], found["crop_pct"]) == ("val", 224, 0.875)
    assert not {"workers", "prefetch", "source"} & found.keys()  # which change no result


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("nope/x.json", "there is no folder"),
        ("x.csv", "it is a .json file, so name it x.json, say"),
        (".", "it is a folder"),
        ("mine.json", "holds no evaluation: it would be overwritten"),
        ("broken.json", "holds no evaluation: it would be overwritten"),
    ],
)
def test_where_it_cannot_be_written_is_said_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.json").write_text('{"name": "my package"}', encoding="utf-8")
    Path("broken.json").write_text("{", encoding="utf-8")
    with pytest.raises(ConfigError) as raised:
        check_out(config(f"out={out}"))
    assert f"out={out}" in str(raised.value)
    assert message in str(raised.value)
    assert not Path("nope").exists()
    assert check_out(config("out=new.json")) == Path("new.json")
