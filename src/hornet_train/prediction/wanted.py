"""What is to be done with pictures, in plain values; imports no torch, so that mistakes are told at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from hornet_train.errors import ConfigError
from hornet_train.tasks.asked import Asked
from hornet_train.track.output_file import check_output

FORMATS = ("table", "jsonl", "csv", "coco")
HEATMAPS = ("layercam", "eigencam")
FEATURE_SUFFIXES = (".npy", ".parquet")
SUFFIXES = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".json": "coco", ".txt": "table"}


@dataclass(frozen=True)
class PicturesAsked:
    """Which pictures of answers are wanted; None: not.

    Attributes:
        masks, overlays, heatmaps: folders, with a PNG for each picture.
        heatmap_method: of `HEATMAPS`.
        sheet: a PNG with the first pictures and what is said of them.
    """

    masks: Path | None = None
    overlays: Path | None = None
    heatmaps: Path | None = None
    heatmap_method: str = HEATMAPS[0]
    sheet: Path | None = None


@dataclass(frozen=True)
class Prediction:
    """What is to be done with pictures.

    Attributes:
        asked: of the answers.
        form: of `FORMATS`; None: by the suffix of `out`, else a table.
        out: a file; None: standard output.
        overwrite: whether files that exist may be replaced.
        drawn: pictures of the answers.
        features: a file for the vector of each picture; None: they are not wanted.
    """

    asked: Asked = field(default_factory=Asked)
    form: str | None = None
    out: Path | None = None
    overwrite: bool = False
    drawn: PicturesAsked = field(default_factory=PicturesAsked)
    features: Path | None = None

    @property
    def format(self) -> str:
        """The format of the answers, of `FORMATS`.

        Raises:
            ConfigError: the suffix of the file says none.
        """
        if self.form is not None or self.out is None:
            return self.form or FORMATS[0]
        if (suffix := self.out.suffix.lower()) not in SUFFIXES:
            raise ConfigError(
                [f"--out={self.out}: its suffix is none of {', '.join(SUFFIXES)}: add --format"]
            )
        return SUFFIXES[suffix]

    def check_files(self) -> None:
        """Make sure that all files can be written; changes nothing.

        Raises:
            ConfigError: one cannot, or is there already.
        """
        vectors = self.features
        if vectors is not None and vectors.suffix.lower() not in FEATURE_SUFFIXES:
            either = " nor ".join(FEATURE_SUFFIXES)
            raise ConfigError([f"--features={vectors}: its suffix is neither {either}"])
        files = [("--out", self.out, ""), ("--sheet", self.drawn.sheet, ".png"), ("--features", vectors, "")]
        _ = self.format
        for flag, path, suffix in files:
            if path is None:
                continue
            check_output(f"{flag}={path}", path, suffix or path.suffix.lower())
            if path.exists() and not self.overwrite:
                raise ConfigError([f"{flag}={path} exists: choose another, or --overwrite"])
        named = {flag: path.resolve() for flag, path, _ in files if path is not None}
        if len(set(named.values())) < len(named):
            raise ConfigError([f"{', '.join(named)}: two of them are one file"])
