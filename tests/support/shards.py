"""Writes small data sets of photographs as parquet, arrow and webdataset files."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

from PIL import Image
from skimage import data

CLASSES = ("astronaut", "coffee", "chelsea")
LABELS = [0, 1, 2, 2, 1, 0, 1, 0, 2, 1, 2, 0]


def pictures(count: int = 12) -> list[tuple[bytes, int]]:
    """`count` pairs of (JPEG file, label): crops of three photographs."""
    photographs = [Image.fromarray(getattr(data, name)()) for name in CLASSES]
    samples = []
    for i in range(count):
        label = LABELS[i % len(LABELS)]
        file = io.BytesIO()
        photographs[label].crop((5 * i, 3 * i, 5 * i + 70 + i, 3 * i + 60)).save(file, "JPEG")
        samples.append((file.getvalue(), label))
    return samples


def dataset(samples: list[tuple[bytes, int]], *, named: bool = True, path: bool = True) -> Any:
    """A `datasets.Dataset` with columns image and label; `named`: labels have type ClassLabel."""
    import datasets

    datasets.utils.disable_progress_bars()  # progress bars of writing
    label = datasets.ClassLabel(names=list(CLASSES)) if named else datasets.Value("int64")
    features = datasets.Features({"image": datasets.Image(), "label": label})
    rows = {
        "image": [{"bytes": b, "path": f"{i}.jpg" if path else None} for i, (b, _) in enumerate(samples)],
        "label": [k for _, k in samples],
    }
    return datasets.Dataset.from_dict(rows, features=features)


def write_parquet(folder: Path, split: str, samples: list[tuple[bytes, int]], **more: Any) -> list[Path]:
    """Write two shards, with three rows in a row group; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    half = (len(samples) + 1) // 2
    paths = []
    for k, part in enumerate((samples[:half], samples[half:])):
        paths.append(folder / f"{split}-{k:05d}-of-00002.parquet")
        dataset(part, **more).to_parquet(paths[-1], batch_size=3)
    return paths


def write_streams(folder: Path, *, train: int, val: int, size: int = 8) -> None:
    """Write `train` and `val` parquet shards of `size` pictures each."""
    folder.mkdir(parents=True)
    samples = pictures(max(train, val) * size)
    for split, count in (("train", train), ("validation", val)):
        for k in range(count):
            path = folder / f"{split}-{k:05d}-of-{count:05d}.parquet"
            dataset(samples[k * size : (k + 1) * size]).to_parquet(path)


def write_tar(path: Path, samples: list[tuple[bytes, int]], *, first: int = 0) -> Path:
    """Write a webdataset tar, with members <key>.jpg and <key>.cls in one folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for i, (encoded, label) in enumerate(samples, start=first):
            add(tar, f"./some/{i:04d}.jpg", encoded)
            add(tar, f"./some/{i:04d}.cls", str(label).encode())
    return path


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


def write_index(folder: Path, split: str, counts: dict[str, int]) -> None:
    """Write the index that `hornet-data pack` leaves beside its shards."""
    shards = [
        {"file": file, "samples": count, "bytes": (folder / file).stat().st_size, "sha256": ""}
        for file, count in counts.items()
    ]
    (folder / f"{split}.index.json").write_text(json.dumps({"classes": list(CLASSES), "shards": shards}))
