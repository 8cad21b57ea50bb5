"""The trainings behind the tables of docs/dense.md: UperNets side by side, the same budget, several seeds.

    python scripts/make_shapes.py shapes --train 1000 --val 200 --size 128
    python scripts/segmentation_study.py shapes shapes --out runs/shapes
    python scripts/segmentation_study.py nuclei nuclei --out runs/nuclei

`shapes` trains the three fusions of the levels with `recipe=masks`. `nuclei` trains HorNet and ConvNeXt of
equal size with them, and UperNet of Hugging Face's transformers (`pip install transformers`), which runs in
the same loop on the same crops. Its folder has images/{train,val} and masks/{train,val}, 0 and 1: the 2018
Data Science Bowl, stage 1 (BBBC038). Trainings run one a core, with one thread each; what is finished
is not run again, and what was stopped goes on. More keys after the folder are for all trainings.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import mean
from typing import Any

from torch import Tensor, nn

FUSIONS = ("conv", "7x7", "gf")
WIDTHS, DEPTHS, CHANNELS = [16, 32, 64, 128], [2, 3, 4, 2], 32  # of a ConvNeXt of HorNet pico's size
STEM = 4  # stride of both backbones' stems, as published; HorNet pico's own is 2
CONVNEXT = f"{{dims:{WIDTHS},depths:{DEPTHS},patch_size:{STEM},ls_init_value:1.0}}".replace(" ", "")
PEER = "transformers"


def trainings(study: str) -> dict[str, list[str]]:
    """Name of each contender -> its keys."""
    hornet = {f"HorNet pico, {fusion}": [f"model.fusion={fusion}"] for fusion in FUSIONS}
    if study == "shapes":
        return hornet
    for keys in hornet.values():
        keys.append(f"model.args={{stem_stride:{STEM}}}")
    convnext = {
        f"ConvNeXt, {fusion}": [
            f"model.fusion={fusion}",
            "model.backbone=convnext_tiny",
            f"model.args={CONVNEXT}",
        ]
        for fusion in FUSIONS
    }
    return {**hornet, **convnext, f"ConvNeXt, {PEER}": ["model.backbone=convnext_tiny"]}


class Peer(nn.Module):
    """transformers' UperNet, which gives the logits of its heads as a `Segmenter` does."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        os.environ["HF_HUB_OFFLINE"] = "1"
        from transformers import ConvNextConfig, UperNetConfig, UperNetForSemanticSegmentation

        backbone = ConvNextConfig(
            hidden_sizes=WIDTHS,
            depths=DEPTHS,
            patch_size=STEM,
            layer_scale_init_value=1.0,
            out_features=["stage1", "stage2", "stage3", "stage4"],
        )
        self.whole = UperNetForSemanticSegmentation(
            UperNetConfig(
                backbone_config=backbone,
                num_labels=classes,
                hidden_size=CHANNELS,
                auxiliary_in_channels=WIDTHS[2],
                auxiliary_channels=CHANNELS // 2,
            )
        )

    def forward(self, images: Tensor, *, of_heads: bool = False) -> Tensor | list[Tensor]:
        if not of_heads:
            logits: Tensor = self.whole(images).logits
            return logits
        maps = self.whole.backbone(images).feature_maps
        return [self.whole.decode_head(maps), self.whole.auxiliary_head(maps)]


def train_peer(keys: Sequence[str]) -> None:
    """`hornet-train`, with transformers' model in place of ours."""
    from hornet_train.cli.train import main
    from hornet_train.tasks.segmentation.build import components

    def build_peer(_model: object, classes: int, _size: object, *, auxiliary: bool) -> Peer:
        assert auxiliary
        return Peer(classes)

    setattr(components, "build_model", build_peer)  # noqa: B010 - it builds no Segmenter, which mypy sees
    main(list(keys))


def run(name: str, keys: Sequence[str], folder: Path) -> None:
    """One training, or what is left of it."""
    program = [__file__, "peer"] if PEER in name else ["-m", "hornet_train"]
    log = folder.with_suffix(".log")
    began = time.monotonic()
    with log.open("a", encoding="utf-8") as file:
        done = subprocess.run(
            [sys.executable, *program, *keys, f"run_dir={folder}"],
            stdout=file,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if done.returncode:
        raise SystemExit(f"{folder} stopped with code {done.returncode}: see {log}")
    sys.stderr.write(f"{folder.name}: {(time.monotonic() - began) / 60:.0f} minutes\n")


def last_evaluation(folder: Path) -> dict[str, Any]:
    """That of the averaged weights."""
    lines = (folder / "metrics.jsonl").read_text("utf-8").splitlines()
    evaluations = [event for event in map(json.loads, lines) if event["event"] == "eval"]
    return [event for event in evaluations if event["weights"] == "ema"][-1]


def row(name: str, folders: Sequence[Path]) -> str:
    """Mean, least and most of each measure over the seeds."""
    found = [last_evaluation(folder) for folder in folders]
    cells = [name]
    for measure in ("miou", "boundary_iou", "aacc"):
        values = [one[measure] for one in found]
        cells.append(f"{mean(values):.1f} ({min(values):.1f} to {max(values):.1f})")
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("study", choices=("shapes", "nuclei"))
    parser.add_argument("root", help="the folder of the pictures")
    parser.add_argument("keys", nargs="*", help="of all trainings")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--at-once", type=int, default=os.cpu_count())
    given = parser.parse_intermixed_args()
    given.out.mkdir(parents=True, exist_ok=True)
    common = ["recipe=masks", f"data.root={given.root}", "data.workers=1", "dist.threads=1", *given.keys]
    contenders = trainings(given.study)
    folders = {
        (name, seed): given.out / f"{name.replace(', ', '_').replace(' ', '_')}_{seed}"
        for seed in range(given.seeds)
        for name in contenders
    }
    with ThreadPoolExecutor(given.at_once) as pool:
        waiting = [
            pool.submit(run, name, [*common, *contenders[name], f"seed={seed}"], folder)
            for (name, seed), folder in folders.items()
        ]
        for one in waiting:
            one.result()
    lines = ["| model | mIoU | boundary IoU | pixel accuracy |", "|---|---|---|---|"]
    for name in contenders:
        lines += [row(name, [folder for (of, _), folder in folders.items() if of == name])]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    train_peer(sys.argv[2:]) if sys.argv[1:2] == ["peer"] else main()
