"""What an evaluation of several parts comes to."""

from __future__ import annotations

from hornet_train.tasks.classification.results import summary
from hornet_train.tasks.classification.suites.corruptions import ALEXNET


def test_what_could_not_be_read_is_reported_also_of_corruptions_beyond_mce() -> None:
    part = {"top1": 50.0, "top5": 80.0, "loss": 2.0, "count": 10.0}
    parts = {f"{name}/{severity}": dict(part) for name in (*ALEXNET, "spatter") for severity in range(1, 6)}
    parts["spatter/1"]["bad"] = 1.0
    parts["fog/3"]["bad"] = 2.0
    content = summary("imagenet_c", parts)
    assert content["bad"] == 3
    assert content["count"] == 10 * 5 * len(ALEXNET)
