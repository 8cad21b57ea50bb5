"""The measures of an evaluation against a slow reference in numpy, at float64."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from hornet_train.engine.distributed import World
from hornet_train.images.normalize import Normalize
from hornet_train.models.spec import ModelSpec
from hornet_train.tasks.classification.mixing import Mixer
from hornet_train.tasks.classification.task import Classification

TASK = Classification(
    model=ModelSpec("resnet18", 12, channels_last=False),
    normalize=Normalize((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    mixer=Mixer(12),
    erasing=False,
)


class Fixed(nn.Module):
    """Gives the same logits to any images."""

    def __init__(self, logits: np.ndarray) -> None:
        super().__init__()
        self.logits = torch.from_numpy(logits).float()

    def forward(self, images: Tensor) -> Tensor:
        return self.logits[: len(images)]


def reference(logits: np.ndarray, accepted: Sequence[set[int]], outputs: Sequence[int]) -> dict[str, float]:
    sums = {"count": 0.0, "loss": 0.0, "top1": 0.0, "top5": 0.0}
    for scores, right in zip(logits.astype(np.float32).astype(np.float64), accepted, strict=True):
        among = scores[list(outputs)]
        share = np.exp(among - among.max())
        share /= share.sum()
        order = list(np.argsort(-among))
        sums["count"] += 1
        sums["loss"] -= np.log(sum(share[label] for label in right))
        sums["top1"] += order[0] in right
        sums["top5"] += any(label in right for label in order[:5])
    return sums


@settings(deadline=None, max_examples=60)
@given(data=st.data(), seed=st.integers(0, 2**32 - 1), batch=st.integers(1, 7), restricted=st.booleans())
def test_sums_of_a_batch(data: st.DataObject, seed: int, batch: int, restricted: bool) -> None:
    rng = np.random.default_rng(seed)
    logits = 3 * rng.standard_normal((batch, 12))
    outputs = list(rng.permutation(12)[: data.draw(st.integers(2, 12))]) if restricted else list(range(12))
    accepted = [
        set(rng.permutation(len(outputs))[: rng.integers(1, 1 + min(4, len(outputs)))].tolist())
        for _ in range(batch)
    ]
    task = dataclasses.replace(TASK, rows=torch.tensor(outputs)) if restricted else TASK
    images = torch.zeros(batch, 3, 4, 4, dtype=torch.uint8)
    padded = torch.full((batch, 4), -1)
    for row, right in zip(padded, accepted, strict=True):
        row[: len(right)] = torch.tensor(list(right))
    several = _sums(task, logits, images, padded)
    for name, value in reference(logits, accepted, outputs).items():
        assert abs(float(several[name]) - value) <= 1e-4 * max(1.0, value), name
    one = [next(iter(right)) for right in accepted]
    single = _sums(task, logits, images, torch.tensor(one))
    for name, value in reference(logits, [{label} for label in one], outputs).items():
        assert abs(float(single[name]) - value) <= 1e-4 * max(1.0, value), name


def _sums(
    task: Classification, logits: np.ndarray, images: torch.Tensor, labels: torch.Tensor
) -> dict[str, float]:
    """What the tally of one batch comes to, times the number of samples."""
    tally = task.tally(torch.device("cpu"))
    tally.update(Fixed(logits), {"image": images, "label": labels})
    tally.merge(World(0, 1, torch.device("cpu")))
    found, count = tally.result(), tally.count
    return {
        "count": count,
        "loss": found["loss"] * count,
        **{key: found[key] * count / 100 for key in ("top1", "top5")},
    }


@pytest.mark.parametrize("channels_last", [True, False])
def test_kernels_are_laid_out_beside_those_for_volumes(channels_last: bool) -> None:
    """LambdaNets have 3-D convolutions, which have no channels_last of images."""
    model = ModelSpec("lambda_resnet26t", 4, channels_last=channels_last).build()
    assert {p.ndim for p in model.parameters()} >= {1, 4, 5}
    laid_out = [p.is_contiguous(memory_format=torch.channels_last) for p in model.parameters() if p.ndim == 4]
    assert all(laid_out) if channels_last else not all(laid_out)
