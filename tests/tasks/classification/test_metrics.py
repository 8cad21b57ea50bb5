"""Top-k counts."""

from __future__ import annotations

import torch

from hornet_train.tasks.classification.metrics import topk_correct


def test_topk_counts() -> None:
    logits = torch.tensor([[3.0, 2, 1], [1, 3, 2], [1, 2, 3], [float("nan"), 0, 0], [5, 1, 0]])
    labels = torch.tensor([0, 2, 0, 0, -1])
    counts = topk_correct(logits, labels, ks=(1, 2, 5))
    assert {name: int(count) for name, count in counts.items()} == {"top1": 1, "top2": 2, "top5": 3}
    assert all(count.ndim == 0 for count in counts.values())
