"""hornet-train from=: a run once more, beside the one that it repeats."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import torch
from helpers import TINY
from processes import final


def sums(folder: Path) -> dict[str, str]:
    """Every file of a folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_run_is_repeated_beside_it_and_what_differs_is_reported(
    command: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    code, _, err = command("hornet-train", *TINY, "augment=paper", "seed=5", f"run_dir={one}")
    assert code == 0, err
    record = one / "environment.json"
    content = json.loads(record.read_text())
    content["packages"]["timm"], content["world_size"] = "0.1", 8
    record.write_text(json.dumps(content))
    before = sums(one)

    code, out, err = command("hornet-train", f"from={one}", f"run_dir={two}")
    assert code == 0, err
    assert f"repeating {one}/config.yaml" in out
    warnings = [line for line in err.splitlines() if line.startswith("warning")]
    assert [line.partition(": ")[2] for line in warnings] == [
        f"since {one}: world_size 8 -> 1; results may differ",
        f"since {one}: timm 0.1 -> {json.loads((two / 'environment.json').read_text())['packages']['timm']}; "
        "results may differ",
    ]
    assert sums(one) == before
    torch.testing.assert_close(final(two), final(one), rtol=0, atol=0)

    code, out, _ = command("hornet-train", f"from={one}", f"run_dir={two}")  # the same command goes on
    assert code == 0
    assert "complete at step 6" in out


def test_other_images_are_no_repetition(command: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    short = (*TINY, "epochs=1it", "schedule.warmup=0it")
    assert command("hornet-train", *short, f"run_dir={one}")[0] == 0
    step = one / "checkpoints" / "step_00000001"
    config = (one / "config.yaml").read_text()
    (one / "config.yaml").write_text(config.replace("source_size: 24", "source_size: 28"))
    code, _, err = command("hornet-train", f"from={one}", f"run_dir={two}")
    assert code == 2
    assert f"{one} was trained on other images" in err
    assert "train: 40 images, " in err
    assert not two.exists()
    code, _, err = command("hornet-train", f"from={step}", "data.source_size=28", f"run_dir={two}")
    assert code == 0, err
    assert f"other images than in {one} (train: 40 images, " in err
    (step / "data.json").write_text("{}")
    code, _, err = command("hornet-train", f"from={step}", f"run_dir={tmp_path}/three")
    assert code == 0, err
    assert "whether these are the images of the run that is repeated is not known" in err
    assert "data.json is damaged" in err
