"""The members of a tar in the webdataset convention: consecutive members with one key are a sample.

Which members make up a sample, and which of them are files and which are numbers, is a task's matter: it
brings a `SampleRule`.
"""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Callable, Iterator
from typing import IO, NamedTuple, Protocol

from hornet_train.errors import DataError

READ_AT_ONCE = 10**6  # bytes of a member that a rule may read, or of a header's extension
_LONGEST_NAME = 4096  # bytes of a path, as Linux has it


class Member(NamedTuple):
    """A file in a tar.

    Attributes:
        name: its path in the tar.
        suffix: what follows the first dot of its name, in lower case.
        offset, size: where its content begins in the tar, and how long it is, in bytes.
    """

    name: str
    suffix: str
    offset: int
    size: int


class TarSample(NamedTuple):
    """What a rule makes of a sample's members, in the order of its `files` and `numbers`."""

    files: tuple[Member, ...]
    numbers: tuple[int, ...]


class Collector(Protocol):
    """Takes the members of one sample, in the order in which they stand in the tar."""

    def add(self, member: Member, content: Callable[[], bytes]) -> None:
        """One member. `content` reads it, before the next one is added.

        Raises:
            DataError: a sample cannot hold it.
        """

    def done(self) -> TarSample:
        """The sample.

        Raises:
            DataError: a member is missing.
        """


class SampleRule(Protocol):
    """Which members of a tar make up a sample.

    Attributes:
        name: distinguishes a cached scan from that of another rule; to be changed when the rule changes.
        files: names of the fields that are members' contents.
        numbers: names of the fields that are integers of at most 64 bits.
    """

    @property
    def name(self) -> str: ...
    @property
    def files(self) -> tuple[str, ...]: ...
    @property
    def numbers(self) -> tuple[str, ...]: ...

    def begin(self, key: str, path: str) -> Collector:
        """For the members of key `key` in the tar at `path`, which messages name."""


def tar_samples(opened: IO[bytes], path: str, rule: SampleRule) -> Iterator[TarSample]:
    """The samples of a tar, from its headers and what the rule reads; the other members are skipped.

    A key is a member's path up to the first dot of its name, what follows is its suffix.

    Args:
        opened: a file that can seek.
        path: for messages.
        rule: what a sample is made of.

    Raises:
        DataError: the tar is cut off or damaged, or a sample is not what the rule asks for.
        tarfile.TarError: not a tar.
    """
    end = opened.seek(0, os.SEEK_END)
    opened.seek(0)
    key: str | None = None
    sample: Collector | None = None
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
            if sample is None or match[1] != key:
                if sample is not None:
                    yield sample.done()
                key = match[1]
                sample = rule.begin(key, path)
            member = Member(info.name, match[2].lower(), info.offset_data, info.size)
            sample.add(member, lambda info=info: _content(tar, info))  # type: ignore[misc]
        _check_end(opened, tar.offset, path)
    if sample is not None:
        yield sample.done()


class _Header(tarfile.TarInfo):
    """A header whose extensions (long names, pax records) are not read where they are absurd."""

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        if not (self.isreg() or self.size <= READ_AT_ONCE):
            raise DataError(
                f"{tar.name!s}: the header at byte {self.offset:,} is to have {self.size:,} bytes"
            )
        try:
            return super()._proc_member(tar)  # type: ignore[misc, no-any-return]  # where tarfile reads them
        except ValueError as error:  # a map of holes that is none
            raise tarfile.ReadError(f"the header at byte {self.offset:,} is damaged") from error


def _content(tar: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(info)
    assert file is not None  # of a regular file
    return file.read()


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
