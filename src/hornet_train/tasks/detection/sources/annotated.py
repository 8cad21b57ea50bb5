"""Pictures with annotated objects as they were read: names, sizes, classes, and what was found wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from hornet_train.data.sources.listing import preview, with_count
from hornet_train.errors import DataError
from hornet_train.tasks.detection.boxes import look_like_corners
from hornet_train.tasks.detection.objects import ObjectTable


@dataclass
class Findings:
    """Objects that were left out or mended, by what is wrong with them.

    Attributes:
        dropped, mended: what is wrong -> what the objects are called.
    """

    dropped: dict[str, list[str]] = field(default_factory=dict)
    mended: dict[str, list[str]] = field(default_factory=dict)

    def drop(self, what: str, name: str) -> None:
        """An object is left out."""
        self.dropped.setdefault(what, []).append(name)

    def mend(self, what: str, name: str) -> None:
        """An object is not as it should be, and is taken all the same."""
        self.mended.setdefault(what, []).append(name)

    def sentences(self, where: str) -> list[str]:
        """One for each kind, with the first names.

        Args:
            where: what was read.
        """
        return [
            f"{where}: {fate}{what} ({with_count(len(names), 'object')}: {preview(names)})"
            for found, fate in ((self.dropped, "left out, "), (self.mended, ""))
            for what, names in found.items()
        ]


@dataclass(frozen=True)
class Category:
    """A class as a file has it: its number there, and its name."""

    number: int
    name: str


@dataclass(frozen=True)
class Annotated:
    """Pictures and their objects, in the order of the file.

    Attributes:
        where: what was read, for messages.
        names: of the picture files.
        numbers: of the pictures, as results name them.
        sizes: (height, width) of each.
        objects: of each; labels are places in `categories`.
        categories: rising by number.
        findings: what was wrong with objects.
    """

    where: str
    names: Sequence[str]
    numbers: Sequence[int]
    sizes: Sequence[tuple[int, int]]
    objects: ObjectTable
    categories: tuple[Category, ...]
    findings: Findings

    def check_boxes(self, remedy: str) -> None:
        """Raises DataError, which ends with a remedy, where boxes are corners; see `look_like_corners`."""
        if look_like_corners(self.objects.boxes, self.objects.sizes_of_pictures(self.sizes)):
            raise DataError(
                f"{self.where}: read as left, top, width and height, many boxes reach out of their pictures; "
                f"read as left, top, right and bottom, they do not: {remedy}"
            )

    def notes(self) -> list[str]:
        """One sentence for each thing that a user should know of."""
        return self.findings.sentences(self.where)
