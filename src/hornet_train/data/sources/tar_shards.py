"""Shards that are tars in the webdataset convention, on this machine or behind a URL."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hornet_train.data.sources.source import Encoded, Fields
from hornet_train.data.sources.split_files import is_url
from hornet_train.data.sources.storage_errors import file_errors
from hornet_train.data.sources.tar_index import TarIndex, scan_tars
from hornet_train.data.sources.tar_members import SampleRule, tar_samples


class TarShards:
    """Tars whose samples are what a rule says; tars on this machine are scanned once.

    Attributes:
        paths: of the tars.
        lengths: samples of each tar.
        index: where the samples of tars on this machine lie; None for tars behind URLs.
    """

    def __init__(self, paths: Sequence[str], rule: SampleRule, lengths: Sequence[int] | None = None) -> None:
        """Count samples.

        Args:
            paths: local paths or URLs of the tars, in order.
            rule: what a sample is made of.
            lengths: samples of each tar where these are behind URLs: nobody reads them through for that.

        Raises:
            DataError: a local tar cannot be read, or a sample in it is not what the rule asks for.
            ValueError: tars behind URLs, and no `lengths`.
        """
        self.paths = tuple(paths)
        self._rule = rule
        self.index: TarIndex | None = None
        if not is_url(self.paths[0]):
            self.index = scan_tars(self.paths, rule)
            self.lengths = self.index.lengths
        elif lengths is None:
            raise ValueError("the lengths of tars behind URLs have to be known")
        else:
            self.lengths = tuple(lengths)

    def read(self, shard: int, start: int) -> Iterator[Fields]:
        """See `Shards`."""
        path = self.paths[shard]
        with file_errors(path, of_one_rank=True):
            if self.index is not None:
                yield from self.index.read(shard, start)
            else:
                yield from self._streamed(path, start)

    def _streamed(self, path: str, start: int) -> Iterator[Fields]:
        import fsspec

        rule = self._rule
        with fsspec.open(path, "rb") as opened:
            for at, sample in enumerate(tar_samples(opened, path, rule)):
                if at < start:
                    continue
                fields: Fields = {}
                for field, member in zip(rule.files, sample.files, strict=True):
                    opened.seek(member.offset)  # for the next header tarfile seeks by itself
                    fields[field] = Encoded(opened.read(member.size), f"{path}: {member.name}")
                yield fields | dict(zip(rule.numbers, sample.numbers, strict=True))
