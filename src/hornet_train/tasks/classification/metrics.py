"""The metrics of classification: top-1 and top-5 accuracy."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from hornet_train.track.metric_table import MetricInfo, MetricTable

METRICS = MetricTable((MetricInfo("top1", "top-1", percent=True), MetricInfo("top5", "top-5", percent=True)))


def topk_correct(logits: Tensor, labels: Tensor, ks: Sequence[int] = (1, 5)) -> dict[str, Tensor]:
    """How many rows have a right label among the k largest logits, as 0-d sums on the device.

    Args:
        logits: (B, classes).
        labels: (B,), class ids; or (B, K), any of which is right. An id out of range (-1, say) never is.
        ks: each is clipped to the number of classes; the name stays: `top5` of 3 classes is every valid row.

    A row with a NaN counts as wrong: `topk` would put NaN first and call class 0 right by chance.
    """
    most = min(max(ks), logits.shape[1])
    ranked = logits.topk(most, dim=1).indices.unsqueeze(2)  # (B, most, 1)
    right = labels[:, None, None] if labels.ndim == 1 else labels[:, None, :]  # (B, 1, K)
    hits = (ranked == right).any(dim=2)
    hits &= ~logits.isnan().any(dim=1, keepdim=True)
    return {f"top{k}": hits[:, :k].any(dim=1).sum() for k in ks}
