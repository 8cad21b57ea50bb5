"""The forms in which answers are written: a table, JSON lines, CSV, COCO's JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Any, Protocol

from hornet_train.errors import ConfigError
from hornet_train.file_names import as_text
from hornet_train.tasks.predictor_types import Answer, Answers

_WIDEST = 60  # characters of the column of files


class AnswerFormat(Protocol):
    """Answers as text. `entry` is called on whichever process has the answer, all else on the main one."""

    def begin(self) -> str:
        """What comes before all answers."""

    def entry(self, where: str, answer: Answer | None, fault: str) -> Any:
        """The answer for a picture in a form that can be sent.

        Args:
            where: the picture's path.
            answer: None where it could not be read.
            fault: what is wrong with it then.
        """

    def text(self, entry: Any) -> str:
        """An entry, in the order of the pictures."""

    def end(self) -> str:
        """What comes after all answers."""


class TableFormat:
    """A line a picture: its path and the answer in a few words."""

    def __init__(self, answers: Answers, longest: int) -> None:
        """`longest`: characters of the longest path."""
        self._answers, self._width = answers, min(longest, _WIDEST)

    def begin(self) -> str:
        """See `AnswerFormat`."""
        return ""

    def entry(self, where: str, answer: Answer | None, fault: str) -> str:
        """See `AnswerFormat`."""
        words = f"cannot be read: {fault}" if answer is None else self._answers.line(answer)
        return f"{as_text(where):<{self._width}}  {words}\n"

    def text(self, entry: str) -> str:
        """See `AnswerFormat`."""
        return entry

    def end(self) -> str:
        """See `AnswerFormat`."""
        return ""


class JsonLinesFormat:
    """A JSON object a line: `file` and the answer's own keys, or `error`."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers

    def begin(self) -> str:
        """See `AnswerFormat`."""
        return ""

    def entry(self, where: str, answer: Answer | None, fault: str) -> str:
        """See `AnswerFormat`."""
        found = {"error": fault} if answer is None else self._answers.record(answer)
        return json.dumps({"file": as_text(where), **found}, ensure_ascii=False, allow_nan=False) + "\n"

    def text(self, entry: str) -> str:
        """See `AnswerFormat`."""
        return entry

    def end(self) -> str:
        """See `AnswerFormat`."""
        return ""


class CsvFormat:
    """Rows of `file`, the columns of the task, and `error`; a picture in which nothing is found has one."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers

    def begin(self) -> str:
        """See `AnswerFormat`."""
        return _csv([("file", *self._answers.columns, "error")])

    def entry(self, where: str, answer: Answer | None, fault: str) -> str:
        """See `AnswerFormat`."""
        rows = [] if answer is None else self._answers.rows(answer)
        empty = ("",) * len(self._answers.columns)
        return _csv([(as_text(where), *row, fault) for row in rows or [empty]])

    def text(self, entry: str) -> str:
        """See `AnswerFormat`."""
        return entry

    def end(self) -> str:
        """See `AnswerFormat`."""
        return ""


class CocoFormat:
    """A data set in COCO's JSON whose annotations are what was found, each with its `score`.

    Pictures, annotations and categories are numbered from 1 on, the categories in the order of the classes.
    Pictures that could not be read stand under `damaged` alone.
    """

    def __init__(self, answers: Answers, classes: Sequence[str]) -> None:
        """Raises ConfigError where the answers are not objects."""
        if not answers.objects:
            raise ConfigError(
                ["--format coco is for the boxes of a detector: jsonl and csv are for all tasks"]
            )
        self._answers = answers
        self._numbers = {name: number for number, name in enumerate(classes, start=1)}
        self._images: list[str] = []
        self._damaged: list[str] = []
        self._annotations = 0

    def begin(self) -> str:
        """See `AnswerFormat`."""
        categories = [{"id": number, "name": name} for name, number in self._numbers.items()]
        return '{"categories": ' + _json(categories) + ',\n"annotations": ['

    def entry(self, where: str, answer: Answer | None, fault: str) -> tuple[str, dict[str, Any]]:
        """See `AnswerFormat`."""
        found = {"error": fault} if answer is None else self._answers.record(answer)
        return as_text(where), found

    def text(self, entry: tuple[str, dict[str, Any]]) -> str:
        """See `AnswerFormat`."""
        where, found = entry
        if "error" in found:
            self._damaged.append(_json({"file_name": where, "reason": found["error"]}))
            return ""
        image = len(self._images) + 1
        size = {"height": found["height"], "width": found["width"]}
        self._images.append(_json({"id": image, "file_name": where, **size}))
        parts = []
        for one in found["objects"]:
            left, top, right, bottom = one["box"]
            width, height = round(right - left, 2), round(bottom - top, 2)
            self._annotations += 1
            annotation = {
                "id": self._annotations,
                "image_id": image,
                "category_id": self._numbers[one["class"]],
                "bbox": [left, top, width, height],
                "area": one["area"],
                "iscrowd": 0,
                "score": one["score"],
                **({"segmentation": one["mask"]} if "mask" in one else {}),
            }
            parts.append(("," if self._annotations > 1 else "") + "\n" + _json(annotation))
        return "".join(parts)

    def end(self) -> str:
        """See `AnswerFormat`."""
        damaged = ',\n"damaged": [' + ", ".join(self._damaged) + "]" if self._damaged else ""
        return '],\n"images": [\n' + ",\n".join(self._images) + "]" + damaged + "}\n"


def format_of_answers(name: str, answers: Answers, classes: Sequence[str], longest: int) -> AnswerFormat:
    """The format of a name.

    Args:
        name: of `wanted.FORMATS`.
        classes: names, in the order of the model's outputs.
        longest: characters of the longest path.

    Raises:
        ConfigError: the format is for another task.
    """
    if name == "table":
        return TableFormat(answers, longest)
    if name == "jsonl":
        return JsonLinesFormat(answers)
    return CsvFormat(answers) if name == "csv" else CocoFormat(answers, classes)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _csv(rows: Sequence[Sequence[Any]]) -> str:
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(rows)
    return file.getvalue()
