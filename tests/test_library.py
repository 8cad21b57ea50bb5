"""The commands as calls: plain results, our errors, one after the other in one process."""

from __future__ import annotations

import json
import logging
import math
import shutil
import signal
from pathlib import Path

import pytest
import timm
import torch
from helpers import TINY
from prepare_trees import photographs

import hornet_train
from hornet_train.errors import CheckpointError, ConfigError, SampleError
from hornet_train.images.decode import decode

SMALL = [*TINY, "model=hornet_pico_7x7", "epochs=1"]


def test_two_trainings_one_after_the_other_are_those_of_the_command(
    tmp_path: Path, command: object, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing of the first is left for the second: no handler, no listener, no random state."""
    handlers = (signal.getsignal(signal.SIGTERM), list(logging.getLogger("hornet_train").handlers))
    first = hornet_train.train([*SMALL, "seed=1", f"run_dir={tmp_path}/a"], quiet=True)
    second = hornet_train.train([*SMALL, f"run_dir={tmp_path}/b"], quiet=True)
    assert capsys.readouterr().out == ""
    assert handlers == (signal.getsignal(signal.SIGTERM), logging.getLogger("hornet_train").handlers)
    assert (first.step, first.total_steps, first.run_dir) == (3, 3, tmp_path / "a")
    assert first.best is not None
    assert first.metrics.keys() == {"model", "ema"}
    assert first.metrics["ema"]["count"] == 21
    assert first.metrics != second.metrics
    code, _, err = command("hornet-train", *SMALL, f"run_dir={tmp_path}/c")  # type: ignore[operator]
    assert code == 0, err
    ours, theirs = (_weights(tmp_path / name / "checkpoints/step_00000003") for name in "bc")
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    again = hornet_train.train([*SMALL, f"run_dir={tmp_path}/b"], quiet=True)
    assert again.best == second.best


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    import safetensors.torch

    return safetensors.torch.load_file(folder / "model.safetensors")


def test_an_evaluation_gives_what_it_writes(tmp_path: Path) -> None:
    run = hornet_train.train([*SMALL, f"run_dir={tmp_path}/run"], quiet=True)
    assert run.best is not None
    result = hornet_train.evaluate([f"checkpoint={run.run_dir}", "fuse=false"], quiet=True)
    assert result.values == json.loads(result.out.read_text())
    assert result.values["top1"] == run.best.value
    assert result.tables[0].columns[2] == "top-1"


def test_predictions_are_those_of_the_evaluation(tmp_path: Path) -> None:
    """The right answers for single files are as many as the evaluation counts; the data set is not needed."""
    root = photographs(tmp_path / "photos")
    given = ["data=folder", f"data.root={root}", "data.image_size=32", "data.workers=0", "batch_size=5"]
    more = ["model=hornet_pico_7x7", "epochs=2", "optim.lr=1e-3", "schedule.warmup=1it", "augment=none"]
    run = hornet_train.train([*given, *more, f"run_dir={tmp_path}/run"], quiet=True)
    values = hornet_train.evaluate([f"checkpoint={run.run_dir}"], quiet=True).values
    files = sorted((root / "val").glob("*/*"))
    moved = [path.rename(tmp_path / f"{path.parent.name}-{path.name}") for path in files]
    shutil.rmtree(root)

    model = hornet_train.load(run.run_dir)
    assert repr(model) == "<LoadedModel: HorNet, 3 classes, cpu>"
    assert model.classes == ("astronaut", "chelsea", "coffee")
    answers = model.predict(moved)
    right = [
        answer["classes"][0] == path.name.split("-")[0] for answer, path in zip(answers, moved, strict=True)
    ]
    assert 100 * sum(right) / len(right) == pytest.approx(values["top1"])
    for answer in answers:
        assert sorted(answer["classes"]) == [*model.classes]
        assert answer["probabilities"] == sorted(answer["probabilities"], reverse=True)
        assert sum(answer["probabilities"]) == pytest.approx(1)
    loss = [
        -math.log(a["probabilities"][a["classes"].index(p.name.split("-")[0])])
        for a, p in zip(answers, moved, strict=True)
    ]
    assert sum(loss) / len(loss) == pytest.approx(values["loss"], abs=1e-4)

    # one or several, a path, a file's content or pixels: the same answer
    one = moved[0]
    pixels = decode(one.read_bytes(), "")
    for same in (str(one), one.read_bytes(), pixels):
        found = model.predict(same)
        assert found["classes"] == answers[0]["classes"]
        assert found["probabilities"] == pytest.approx(answers[0]["probabilities"], abs=1e-5)
    assert model.predict([]) == []
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    with pytest.raises(SampleError, match=r"bad\.jpg"):
        model.predict(tmp_path / "bad.jpg")
    with pytest.raises(ValueError, match=r"float32 \(3, 8, 8\), where pixels are uint8"):
        model.predict(torch.zeros(3, 8, 8))
    assert len(moved) > 5  # the batch: pictures are counted over all of them
    with pytest.raises(TypeError, match=f"picture {len(moved)} is a int"):
        model.predict([*moved, 1])


def test_weights_alone_need_a_name_for_their_preprocessing(tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    torch.save({"model": timm.create_model("hornet_pico_7x7").state_dict()}, file)
    with pytest.raises(ConfigError, match="data is missing, and"):
        hornet_train.load(file)
    model = hornet_train.load(file, ["data=imagenet", "precision=fp32"])
    assert (len(model.classes), model.classes[0]) == (1000, "n01440764")
    answer = model.predict(torch.zeros(3, 50, 70, dtype=torch.uint8))
    assert len(answer["classes"]) == len(answer["probabilities"]) == 5
    (tmp_path / "map.txt").write_text("7\n3\n")
    mapped = hornet_train.load(file, ["data=imagenet", f"init_map={tmp_path}/map.txt"])
    assert mapped.classes == (model.classes[7], model.classes[3])
    with pytest.raises(ConfigError, match="which a prediction does not open"):
        hornet_train.load(file, ["suite=all"])
    torch.save(timm.create_model("hornet_pico_7x7", num_classes=0).state_dict(), tmp_path / "trunk.pth")
    with pytest.raises(CheckpointError, match=r"trunk\.pth has no head, and so no classes to predict"):
        hornet_train.load(tmp_path / "trunk.pth", ["data=imagenet"])
    with pytest.raises(ConfigError, match="is the file of an evaluation's results"):
        hornet_train.load(file, ["data=imagenet", "out=x.json"])


def test_a_task_that_does_not_predict_says_so(tmp_path: Path) -> None:
    given = ["task=examples.own_task", "model=hornet_pico_7x7", "batch_size=16", "data.train_count=16"]
    run = hornet_train.train(
        [*given, "data.workers=0", "epochs=1", "schedule.warmup=0it", f"run_dir={tmp_path}"], quiet=True
    )
    with pytest.raises(ConfigError, match="task=own_task does not predict"):
        hornet_train.load(run.run_dir, ["task=examples.own_task"])


def test_a_model_s_costs_are_numbers() -> None:
    info = hornet_train.info(["model=hornet_t_gf"])
    assert (info.name, info.image_size, info.parameters) == ("hornet_tiny_gf", 224, 22_991_848)
    assert round(info.macs / 1e9, 4) == 3.8887
    assert info.table.rows


def test_overrides_are_a_list() -> None:
    with pytest.raises(ConfigError, match="are a list of texts"):
        hornet_train.info("model=hornet_s_gf")
    with pytest.raises(ConfigError, match="hornet-train replay=FILE"):
        hornet_train.train(["replay=x"])


def test_mistakes_are_our_errors(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean"):
        hornet_train.train(["optim.rl=1"])
    with pytest.raises(CheckpointError):
        hornet_train.evaluate([f"checkpoint={tmp_path}", "model=hornet_t_gf"])
    with pytest.raises(ConfigError, match="hornet-info reads no weights"):
        hornet_train.info(["model.args.pretrained=true"])
