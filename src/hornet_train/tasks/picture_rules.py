"""Rules of configs that the tasks on whole pictures share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hornet_train.config.task_schema import NoData


def preprocessing_rules(
    scale: Sequence[int] | None, mean: Sequence[float], std: Sequence[float]
) -> Iterator[str]:
    """A sentence for each rule that `data.scale`, `data.mean` and `data.std` break."""
    if scale is not None and scale[0] > scale[1]:
        yield f"data.scale={list(scale)}: the shorter side comes first"
    for name, values in (("mean", mean), ("std", std)):
        if len(values) != 3:
            yield f"data.{name}={list(values)}: three values, of red, green and blue"
    if min(std) <= 0:
        yield f"data.std={list(std)}: a standard deviation is above 0"


def table_rules(name: str | None, train_split: str, val_split: str | None) -> Iterator[str]:
    """A sentence for each rule that a table of `data=hub` breaks."""
    if name is None:
        yield NoData("data.name is missing: data.name=<id of a hub data set, or a local folder>")
    if val_split == train_split:
        yield f"data.val_split={val_split}: the training images; data.val_split=null holds none out"
