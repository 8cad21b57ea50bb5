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

import os
import sys
from collections.abc import Sequence

from side_by_side import Contender, compare, parser
from torch import Tensor, nn

FUSIONS = ("conv", "7x7", "gf")
WIDTHS, DEPTHS, CHANNELS = [16, 32, 64, 128], [2, 3, 4, 2], 32  # of a ConvNeXt of HorNet pico's size
STEM = 4  # stride of both backbones' stems, as published; HorNet pico's own is 2
CONVNEXT = f"{{dims:{WIDTHS},depths:{DEPTHS},patch_size:{STEM},ls_init_value:1.0}}".replace(" ", "")


def trainings(study: str) -> dict[str, Contender]:
    """Name of each contender -> its training."""
    stem = [] if study == "shapes" else [f"model.args={{stem_stride:{STEM}}}"]
    found = {f"HorNet pico, {fusion}": Contender([f"model.fusion={fusion}", *stem]) for fusion in FUSIONS}
    if study == "shapes":
        return found
    other = "model.backbone=convnext_tiny"
    for fusion in FUSIONS:
        keys = [f"model.fusion={fusion}", other, f"model.args={CONVNEXT}"]
        found[f"ConvNeXt, {fusion}"] = Contender(keys)
    return {**found, "ConvNeXt, transformers": Contender([other], script=__file__)}


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


def main() -> None:
    given = parser(str(__doc__), ("shapes", "nuclei")).parse_intermixed_args()
    common = ["recipe=masks", f"data.root={given.root}", "data.workers=1", "dist.threads=1"]
    measures = {"mIoU": "miou", "boundary IoU": "boundary_iou", "pixel accuracy": "aacc"}
    compare(trainings(given.study), common, given, measures)


if __name__ == "__main__":
    train_peer(sys.argv[2:]) if sys.argv[1:2] == ["peer"] else main()
