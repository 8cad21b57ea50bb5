"""The shards of a data set, found on this machine, at a URL or on the hub."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hornet_train.data.sources.files import Files, find_files, format_of, is_local, is_url
from hornet_train.data.sources.hub import check_split
from hornet_train.data.sources.hub_errors import hub_told
from hornet_train.data.sources.shards import Shards
from hornet_train.data.sources.tables import ArrowShards, ParquetShards
from hornet_train.data.sources.tars import TarShards
from hornet_train.errors import DataError


def open_shards(
    name: str,
    split: str,
    *,
    config_name: str | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    revision: str | None = None,
    classes: Sequence[str] | None = None,
) -> Shards:
    """The shards of one split; arguments as those of `HubSource`.

    Of shards that are far away, footers are read, and of tars the `<split>.index.json` beside them.

    Raises:
        DataError: they cannot be had, or are not of labelled images.
    """
    features = None
    if is_local(name, config_name, revision):
        files = find_files(name, split)
    else:
        files, features = _of_hub(name, split, config_name, revision)
    if files.format == "webdataset":
        if image_column or label_column:
            raise DataError(
                "data.image_column and data.label_column name columns of tables; in tars, suffixes tell "
                "the images, and labels are .cls or .json members: leave them out"
            )
        return TarShards(files.paths, files.split, classes=classes)
    if files.format == "arrow" and is_url(files.paths[0]):
        raise DataError(
            f"data.name={name}: its files are .arrow, which are streamed from this machine only: fetch them, "
            "or data.streaming=false"
        )
    kind = ParquetShards if files.format == "parquet" else ArrowShards
    return kind(
        files.paths,
        files.split,
        image_column=image_column,
        label_column=label_column,
        classes=classes,
        features=features,
    )


def _of_hub(name: str, split: str, config_name: str | None, revision: str | None) -> tuple[Files, Any]:
    """The files of a hub data set at one commit, and its features as far as its card tells them."""
    import datasets

    with hub_told(name, revision=revision):
        builder = datasets.load_dataset_builder(name, name=config_name, revision=revision)
    check_split(builder, name, split)
    urls = [str(url) for url in (builder.config.data_files or {}).get(split, ())]
    if not urls:
        raise DataError(
            f"data.name={name} is in the local cache, but not its files on the hub, which streaming reads: "
            "data.streaming=false"
        )
    kind = format_of(urls, f"data.name={name}, split {split}")
    return Files(kind, tuple(urls), split), builder.info.features
