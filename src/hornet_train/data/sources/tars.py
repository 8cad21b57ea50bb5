"""Shards that are tars in the webdataset convention: consecutive members with one key are a sample."""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Iterator, Sequence
from typing import IO, Any, NamedTuple

from hornet_train.data.sources.columns import class_names
from hornet_train.data.sources.files import is_url
from hornet_train.data.sources.hub_errors import shard_told
from hornet_train.data.sources.index import read_index
from hornet_train.data.sources.shards import Encoded
from hornet_train.data.sources.source import sha256_of
from hornet_train.data.sources.tar_index import TarIndex, indexed
from hornet_train.errors import DataError
from hornet_train.images.decode import MAX_BYTES
from hornet_train.untrusted import parse_json

SUFFIXES = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff")


class Member(NamedTuple):
    """A sample of a tar: where its image lies, and its label."""

    offset: int
    size: int
    label: int
    name: str


_KEPT_WHOLE = 10**6  # bytes of a label or of a header's extension, which are read at once
_LONGEST_NAME = 4096  # bytes of a path, as Linux has it


class _Header(tarfile.TarInfo):
    """A header whose extensions (long names, pax records) are not read where they are absurd."""

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        if not (self.isreg() or self.size <= _KEPT_WHOLE):
            raise DataError(
                f"{tar.name!s}: the header at byte {self.offset:,} is to have {self.size:,} bytes"
            )
        try:
            return super()._proc_member(tar)  # type: ignore[misc, no-any-return]  # where tarfile reads them
        except ValueError as error:  # a map of holes that is none
            raise tarfile.ReadError(f"the header at byte {self.offset:,} is damaged") from error


class TarShards:
    """Tars of images (`<key>.jpg`, .png, ...) with labels (`<key>.cls`, or `<key>.json` with `label`).

    Tars on this machine are scanned once, and the positions of their images kept in the cache folder; of
    tars elsewhere the `<split>.index.json` beside them has to tell the numbers of samples.

    Attributes:
        classes: class names in label order.
        lengths: samples of each tar.
        fingerprint: of the tars' names, samples and class names.
    """

    def __init__(self, paths: Sequence[str], split: str, *, classes: Sequence[str] | None = None) -> None:
        """Count samples.

        Args:
            paths: local paths or URLs of the tars, in order.
            split: for messages and the name of the index.json.
            classes: of the training split, for tars without an index.json.

        Raises:
            DataError: a tar cannot be read, holds no such samples or is unlike the index, or is elsewhere
                and not in one.
        """
        self._paths = tuple(paths)
        told = read_index(self._paths, split)
        names = None if told is None else told.classes
        where = f"split {split} ({os.path.basename(self._paths[0])}, ...)"
        self._index: TarIndex | None = None
        if not is_url(self._paths[0]):
            self._index = scanned(self._paths)
            self.lengths = self._index.lengths
            if told is not None:
                told.check(self._paths, self.lengths)
            self.classes = class_names(self._index.labels, where, names=names, given=classes)
            facts: Any = (self._index.sizes.tobytes(), self._index.labels.tobytes())
        else:
            if told is None:
                raise DataError(
                    f"{self._paths[0]}: tars that are not on this machine need {split}.index.json beside "
                    "them, which tells their samples (hornet-data pack writes it): fetch them, or use parquet"
                )
            if absent := [path for path in self._paths if path not in told.samples]:
                raise DataError(
                    f"{absent[0]}: no {split}.index.json beside it tells its samples; pack it anew"
                )
            self.lengths = tuple(told.samples[path] for path in self._paths)
            self.classes = told.classes
            facts = ()
        files = [os.path.basename(path) for path in self._paths]
        self.fingerprint = sha256_of(repr((files, self.lengths, self.classes)).encode(), *facts)

    def read(self, shard: int, start: int) -> Iterator[Encoded]:
        """See `Shards`."""
        path = self._paths[shard]
        with shard_told(path, of_one_rank=True):
            if self._index is not None:
                yield from self._index.read(shard, start)
            else:
                yield from self._streamed(path, start)

    def _streamed(self, path: str, start: int) -> Iterator[Encoded]:
        import fsspec

        with fsspec.open(path, "rb") as opened:
            for at, member in enumerate(members(opened, path)):
                if at >= start:
                    if member.label >= len(self.classes):
                        raise DataError(
                            f"{path}: {member.name}: label {member.label} is not one of the "
                            f"{len(self.classes)} classes, from 0 on"
                        )
                    opened.seek(member.offset)  # for the next header tarfile seeks by itself
                    data = opened.read(member.size)
                    yield Encoded(data, member.label, f"{path}: {member.name}")


def scanned(paths: Sequence[str]) -> TarIndex:
    """The samples of local tars. Raises DataError where a tar or a sample in it is not whole."""
    return indexed(paths, _scan)


def _scan(path: str) -> list[Member]:
    """The samples of a local tar."""
    with shard_told(path), open(path, "rb") as opened:
        return list(members(opened, path))


def members(opened: IO[bytes], path: str) -> Iterator[Member]:
    """The samples of a tar, from its headers and label members; images are passed over.

    A key is a member's path up to the first dot of its name, what follows is its suffix.

    Args:
        opened: a file that can seek.
        path: for messages.

    Raises:
        DataError: the tar is cut off or damaged, or a sample has no image or label, or two.
        tarfile.TarError: not a tar.
    """
    end = opened.seek(0, os.SEEK_END)
    opened.seek(0)
    key: str | None = None
    image: tarfile.TarInfo | None = None
    label: int | None = None
    before = -1
    with tarfile.open(path, fileobj=opened, mode="r:", tarinfo=_Header) as tar:
        for info in tar:
            tar.members = []  # type: ignore[attr-defined]  # tarfile keeps them all
            if info.size < 0 or info.offset <= before:  # some versions of tarfile would go round forever
                raise DataError(f"{path}: is damaged: the member at byte {info.offset:,} leads back")
            if len(info.name) > _LONGEST_NAME:
                raise DataError(f"{path}: a member's name has {len(info.name):,} characters")
            before = info.offset
            blocks = -(-info.size // tarfile.BLOCKSIZE)
            if info.isreg() and info.offset_data + blocks * tarfile.BLOCKSIZE > end:
                raise DataError(f"{path}: ends within {info.name}; it is incomplete: fetch it again")
            match = re.fullmatch(r"((?:.*/)?[^./][^./]*)\.([^/]+)", info.name.removeprefix("./"))
            if not info.isfile() or match is None:
                continue
            if match[1] != key:
                if key is not None:
                    yield _whole(key, image, label, path)
                key, image, label = match[1], None, None
            suffix = match[2].lower()
            if suffix.rpartition(".")[2] in SUFFIXES:
                if image is not None:
                    raise DataError(
                        f"{path}: sample {key} has two images, {image.name} and {info.name}; remove one"
                    )
                if info.size > MAX_BYTES:
                    raise DataError(f"{path}: {info.name}: {info.size:,} bytes are no image; remove it")
                image = info
            elif suffix == "cls" or (suffix == "json" and label is None):
                if info.size > _KEPT_WHOLE:
                    raise DataError(f"{path}: {info.name}: {info.size:,} bytes are no label; remove it")
                found = _label(tar.extractfile(info), suffix, f"{path}: {info.name}")
                label = label if found is None else found
        _check_end(opened, tar.offset, path)
    if key is not None:
        yield _whole(key, image, label, path)


def _check_end(opened: IO[bytes], offset: int, path: str) -> None:
    """Raises DataError where, after the last member, there is no block of zeros, which every tar ends with.

    tarfile takes the end of the file and a damaged header alike for the end of the tar.
    """
    opened.seek(offset)
    block = opened.read(tarfile.BLOCKSIZE)
    if len(block) < tarfile.BLOCKSIZE:
        raise DataError(f"{path}: has no end mark; it is incomplete: fetch it again")
    if any(block):
        raise DataError(f"{path}: is damaged at byte {offset:,}: fetch it again")


def _label(opened: IO[bytes] | None, suffix: str, where: str) -> int | None:
    """The number in a .cls member, or the `label` of a .json member; None where that has none."""
    assert opened is not None  # of a regular file
    text = opened.read()
    try:
        value = int(text) if suffix == "cls" else parse_json(text, _KEPT_WHOLE)["label"]
    except (KeyError, TypeError):
        return None
    except ValueError as error:
        raise DataError(
            f"{where}: holds {text[:40]!r}, not a label; a label is a number from 0 on"
        ) from error
    if type(value) is not int or not 0 <= value < 2**31:
        raise DataError(f"{where}: the label {value!r} is not a number from 0 on")
    return value


def _whole(key: str, image: tarfile.TarInfo | None, label: int | None, path: str) -> Member:
    if image is None:
        raise DataError(f"{path}: sample {key} has no image ({', '.join(SUFFIXES)}); remove it or pack anew")
    if label is None:
        raise DataError(
            f"{path}: sample {key} has no label (.cls, or .json with a label); remove it or pack anew"
        )
    return Member(image.offset_data, image.size, label, image.name)
