"""The data group as sources: labels mean the same in training and in evaluation."""

from __future__ import annotations

from pathlib import Path

import pytest
from configs import compose_train
from pictures import PHOTO

from hornet_train.data.sources.source import Shards
from hornet_train.tasks.classification.build import open_data

ORDER = ("n03", "n01", "n02")  # as the published labels, not sorted


@pytest.mark.parametrize("training", [True, False])
def test_the_22k_order_is_that_of_both_splits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, training: bool
) -> None:
    for split in ("train", "val"):
        for wnid in ORDER:
            folder = tmp_path / split / wnid
            folder.mkdir(parents=True)
            PHOTO.resize((8, 8)).save(folder / f"{wnid}.png")
    monkeypatch.setattr(open_data, "imagenet_22k_wnids", lambda: ORDER)
    config = compose_train(["data=imagenet22k", "data.val=true", f"data.root={tmp_path}"]).config
    sources = open_data.open_data(config.data, training=training)
    assert sources.classes == ORDER
    for source in (sources.train, sources.val):
        if source is None:
            assert not training
            continue
        assert not isinstance(source, Shards)
        assert {Path(source.locate(i)).stem: source.read(i)["label"] for i in range(3)} == {
            wnid: label for label, wnid in enumerate(ORDER)
        }
