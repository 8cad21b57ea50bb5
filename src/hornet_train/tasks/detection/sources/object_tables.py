"""Pictures with objects in tables that Hugging Face's `datasets` reads: of the hub, or of files.

A row has a picture, and a column of its objects: `objects` with lists `bbox`, `category`, ..., or a list of
structs with these.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from hornet_train.data.sources.columns import (
    column_chunks,
    is_integer,
)
from hornet_train.data.sources.hub import OpenedTable, open_files, open_hub
from hornet_train.data.sources.listing import with_count
from hornet_train.data.sources.source import Fields, sha256_of
from hornet_train.data.sources.split_files import find_files, is_local
from hornet_train.data.sources.split_names import split_notes
from hornet_train.data.sources.table_rows import TableRows
from hornet_train.errors import DataError, SampleError
from hornet_train.images.damaged import DAMAGED_FILE_ERRORS
from hornet_train.images.formats import FORMATS
from hornet_train.images.orientation import orientation_of, upright_size
from hornet_train.tasks.detection.objects import ObjectTable
from hornet_train.tasks.detection.samples import IMAGE, OBJECTS, SIZE
from hornet_train.tasks.detection.sources.annotated import Annotated
from hornet_train.tasks.detection.sources.annotation_rows import Picture, annotated
from hornet_train.tasks.detection.sources.object_columns import Columns, find_categories, find_columns
from hornet_train.tasks.detection.sources.pictures import Sizes

BoxFormat = Literal["xywh", "xyxy"]
_THREADS = min(16, os.cpu_count() or 1)  # Pillow reads headers without Python's lock


class AnnotatedRows:
    """Rows of a table with a picture and its objects each; see `Pictures`."""

    def __init__(
        self,
        rows: TableRows,
        places: Any,
        objects: ObjectTable,
        sizes: Sizes,
        numbers: Any,
        notes: Sequence[str],
    ) -> None:
        """Take what was read.

        Args:
            rows: of the pictures.
            places: of these samples in the table.
            objects, sizes, numbers, notes: see `Pictures`.
        """
        self._rows, self._places = rows, np.asarray(places, dtype=np.int64)
        self.objects, self.sizes, self.notes = objects, sizes, tuple(notes)
        self.numbers = np.asarray(numbers, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._places)

    def read(self, index: int) -> Fields:
        height, width = self.sizes[index].tolist()
        stored = self._rows.read(int(self._places[index]))
        return {**stored, OBJECTS: self.objects.of(index), SIZE: (height, width)}

    def locate(self, index: int) -> str:
        return self._rows.locate(int(self._places[index]))

    @property
    def fingerprint(self) -> str:
        """Of the sizes of the pictures in bytes, and of all that is annotated."""
        return sha256_of(*self._rows.sizes(IMAGE), self._places, self.objects.digest(), self.sizes)

    def name(self, index: int) -> str:
        """See `Pictures`: its number."""
        return f"{self._places[index]:06d}"

    @property
    def folders(self) -> Sequence[Path]:
        """See `Pictures`: its storage is no folder of pictures."""
        return ()

    def part(self, places: Sequence[int]) -> AnnotatedRows:
        """See `Pictures`."""
        chosen = np.asarray(places, dtype=np.int64)
        return AnnotatedRows(
            *(self._rows, self._places[chosen], self.objects.part(chosen)),
            *(self.sizes[chosen], self.numbers[chosen], self.notes),
        )

    def relabelled(self, places: Sequence[int]) -> AnnotatedRows:
        """See `Pictures`."""
        objects = self.objects.relabelled(places)
        return AnnotatedRows(self._rows, self._places, objects, self.sizes, self.numbers, self.notes)


def open_table(
    name: str,
    split: str,
    config_name: str | None,
    revision: str | None,
    image_column: str | None,
    objects_column: str | None,
    box_format: BoxFormat,
) -> tuple[AnnotatedRows, Annotated]:
    """Open a split; the first time, it is downloaded or converted into the cache of `datasets`.

    Args:
        name: the id of a hub data set, or a folder, file, pattern or URL.
        split: `train`, `validation` and so on.
        config_name, revision: of a hub data set.
        image_column, objects_column: None: found by types and names.
        box_format: what a box's numbers are: left, top, width, height; or left, top, right, bottom.

    Raises:
        DataError: it cannot be had, has no such columns, or boxes of another format.
    """
    if is_local(name, config_name, revision):
        table = open_files(find_files(name, split), name)
    else:
        table = open_hub(name, split, config_name, revision)
    where = f"data.name={table.name}, split {table.split}"
    columns = find_columns(dict(table.rows.features), where, image_column, objects_column)
    rows = TableRows(table, files={IMAGE: columns.image}, numbers={})
    objects = _objects(table, columns, where)
    categories, places = find_categories(table.rows.features[columns.objects], columns, objects, where)
    sizes = _sizes(table, rows)
    numbers = _numbers(table, len(rows))
    pictures = [
        Picture(number, f"row {row}", size)
        for row, (number, size) in enumerate(zip(numbers, sizes, strict=True))
    ]
    annotations = list(_annotations(objects, columns.fields, numbers, places, box_format))
    read = annotated(where, pictures, categories, annotations)
    if box_format == "xywh":
        read.check_boxes("data.box_format=xyxy says so")
    notes = [*read.notes(), *split_notes(split, table.split)]
    found = AnnotatedRows(
        *(rows, range(len(rows)), read.objects, np.array(sizes, dtype=np.int32).reshape(-1, 2)),
        *(numbers, notes),
    )
    return found, read


def _objects(table: OpenedTable, columns: Columns, where: str) -> list[list[dict[str, Any]]]:
    """Of each row its objects, by the table's own names of fields."""
    found = list[list[dict[str, Any]]]()
    for chunk in column_chunks(table.rows.data.table, columns.objects):
        for value in chunk.to_pylist():
            if isinstance(value, dict):
                found.append(_of_lists(value, columns, f"{where}, row {len(found)}"))
            else:
                found.append([dict(one) for one in value or ()])
    return found


def _of_lists(value: Mapping[str, Any], columns: Columns, where: str) -> list[dict[str, Any]]:
    """The objects of a row whose fields are lists; an empty one of those that may be left out is none."""
    count = len(value.get(columns.fields["bbox"]) or ())
    lists = {}
    for key, name in columns.fields.items():
        values = value.get(name)
        if not values and (key not in ("bbox", "category_id") or not count):
            continue
        if len(values or ()) != count:
            raise DataError(
                f"{where}: {columns.objects}.{name} has {with_count(len(values or ()), 'value')} for "
                f"{with_count(count, 'box')}"
            )
        lists[name] = values
    return [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]


def _annotations(
    objects: Sequence[Sequence[Mapping[str, Any]]],
    fields: Mapping[str, str],
    numbers: Sequence[int],
    places: Mapping[Any, int],
    box_format: BoxFormat,
) -> Any:
    """The objects with COCO's keys."""
    counter = 0
    for number, row in zip(numbers, objects, strict=True):
        for one in row:
            counter += 1
            raw = {key: one[name] for key, name in fields.items() if one.get(name) is not None}
            box = raw.get("bbox")
            if isinstance(box, list) and len(box) == 4 and None not in box:
                left, top, width, height = box
                if box_format == "xyxy":
                    width, height = width - left, height - top
                raw["bbox"] = [left, top, width, height]
                raw.setdefault("area", abs(width * height))
            raw["category_id"] = places.get(raw.get("category_id"), -1)
            yield {"id": counter, "iscrowd": 0, **raw, "image_id": number}


def _sizes(table: OpenedTable, rows: TableRows) -> list[tuple[int, int]]:
    """(height, width) of each row's picture: of the columns of that name, else of the pictures' headers."""
    features = dict(table.rows.features)
    if all(is_integer(features.get(side)) for side in ("height", "width")):
        sides = [
            np.concatenate(
                [chunk.to_numpy(zero_copy_only=False) for chunk in column_chunks(_arrow(table), side)]
            )
            for side in ("height", "width")
        ]
        known = (np.nan_to_num(np.asarray(side, dtype=np.float64)).astype(np.int64) for side in sides)
        return [(int(height), int(width)) for height, width in zip(*known, strict=True)]
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(lambda row: _size(rows, row), range(len(rows))))


def _size(rows: TableRows, row: int) -> tuple[int, int]:
    """Of one picture, upright; (0, 0) for one that cannot be read, which is told when it is."""
    try:
        with Image.open(io.BytesIO(rows.read(row)[IMAGE].data), formats=tuple(FORMATS)) as image:
            return upright_size((image.height, image.width), orientation_of(image))
    except (SampleError, *DAMAGED_FILE_ERRORS):
        return 0, 0


def _numbers(table: OpenedTable, rows: int) -> list[int]:
    """Of the pictures: the column `image_id`, if it numbers them, else 1, 2, ..."""
    if is_integer(dict(table.rows.features).get("image_id")):
        chunks = column_chunks(_arrow(table), "image_id")
        found = [value for chunk in chunks for value in chunk.to_pylist()]
        if None not in found and len(set(found)) == len(found):
            return [int(value) for value in found]
    return list(range(1, rows + 1))


def _arrow(table: OpenedTable) -> Any:
    return table.rows.data.table
