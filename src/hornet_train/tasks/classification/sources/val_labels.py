"""The labels of ImageNet's flat val folder, in the file formats in circulation."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from hornet_train.data.sources.listing import preview
from hornet_train.errors import DataError
from hornet_train.untrusted import MAX_LABELS, Refused, read_text, read_within

_KAGGLE = "imageid,predictionstring"


def read_val_labels(path: Path, wnids: Sequence[str]) -> dict[str, int]:
    """Read a labels file.

    It has one of these forms, recognised by the first line:
      - `name label` or `name,label`, where the label is a wnid or its position in `wnids`;
      - Kaggle's LOC_val_solution.csv: `ImageId,PredictionString`, the latter beginning with a wnid;
      - the development kit's ILSVRC2012_validation_ground_truth.txt: line i has the ILSVRC2012_ID, from 1, of
        ILSVRC2012_val_<i>. These ids are in no order of wnids; meta.mat beside the file says what they are.

    Args:
        path: the file.
        wnids: the class names in label order.

    Returns:
        Image name without folder and extension -> label, 0 <= label < len(wnids).

    Raises:
        DataError: it, or its meta.mat, cannot be read, or lines that do not fit: all at once.
    """
    try:
        texts = read_text(
            path, MAX_LABELS, encoding="utf-8-sig"
        ).splitlines()  # Kaggle's and Excel's files may have a BOM
    except OSError as error:
        raise DataError(
            f"data.val_labels={path}: cannot be read ({error.strerror}); give the path of the labels file"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(f"data.val_labels={path}: is no text file ({error})") from error
    except Refused as error:
        raise DataError(f"data.val_labels={path}: {error}; give the path of the labels file") from error
    lines = [(number, text.strip()) for number, text in enumerate(texts, 1) if text.strip()]
    if not lines:
        raise DataError(f"data.val_labels={path}: is empty; fetch it again")
    first = lines[0][1]
    if first.isdigit():
        return _collected(path, _ground_truth(lines, wnids, path.parent / "meta.mat"))
    classes: dict[str, int] = {wnid: label for label, wnid in enumerate(wnids)}
    classes |= {str(label): label for label in range(len(wnids))}
    if first.lower().replace(" ", "") == _KAGGLE:
        pairs = ((number, *_kaggle(text)) for number, text in lines[1:])
    else:
        pairs = ((number, *_pair(text)) for number, text in lines)
    return _collected(path, ((number, name, classes.get(word), word) for number, name, word in pairs))


_Entry = tuple[int, str, int | None, str]  # line number, image name, label, the label as it is written


def _pair(text: str) -> tuple[str, str]:
    fields = text.replace(",", " ").split()
    return (fields[0], fields[1]) if len(fields) == 2 else ("", text)


def _kaggle(text: str) -> tuple[str, str]:
    name, _, boxes = text.partition(",")
    return name, (boxes.split() or [""])[0]  # `wnid x y x y` once a box, all boxes of one class


def _collected(path: Path, entries: Iterable[_Entry]) -> dict[str, int]:
    """The entries as a mapping; every line that is none is a fault."""
    labels: dict[str, int] = {}
    unknown, malformed, twice = [], [], []
    for number, name, label, word in entries:
        stem = PurePosixPath(name).stem
        if not stem:
            malformed.append(f"line {number}: {word[:60]!r}")
        elif label is None:
            unknown.append(f"line {number}: {word!r}")
        elif stem in labels:
            twice.append(f"line {number}: {stem}")
        else:
            labels[stem] = label
    faults = []
    if malformed:
        faults.append(f"{len(malformed):,} lines are not `name label` ({preview(malformed)})")
    if unknown:
        faults.append(
            f"{len(unknown):,} labels are neither a wnid of ImageNet-1K nor a number 0..999 in the wnids' "
            f"sorted order ({preview(unknown)})"
        )
    if twice:
        faults.append(f"{len(twice):,} images are named again ({preview(twice)})")
    if faults:
        raise DataError(f"data.val_labels={path}: {'; '.join(faults)}; see to these lines")
    return labels


def _ground_truth(lines: list[tuple[int, str]], wnids: Sequence[str], meta: Path) -> Iterable[_Entry]:
    labels = _ids_of(meta, wnids)
    for image, (number, text) in enumerate(lines, 1):
        yield number, f"ILSVRC2012_val_{image:08d}", labels.get(text), text


def _ids_of(meta: Path, wnids: Sequence[str]) -> dict[str, int]:
    """ILSVRC2012_ID, as text -> label, from the development kit's meta.mat."""
    import scipy.io  # type: ignore[import-untyped,unused-ignore]  # comes with scikit-learn

    if not meta.is_file():
        raise DataError(
            f"{meta} does not exist, and without it the numbers of data.val_labels are of unknown classes: "
            "put meta.mat of the development kit (ILSVRC2012_devkit_t12/data) there, or give a labels file "
            "with wnids"
        )
    try:
        data = read_within(meta, MAX_LABELS)
        _check_unpacked(data)
        synsets = scipy.io.loadmat(io.BytesIO(data), variable_names=["synsets"], squeeze_me=True)["synsets"]
        ids = {str(int(number)): str(wnid) for number, wnid in zip(*_columns(synsets), strict=True)}
    except (
        OSError,
        ValueError,
        TypeError,
        KeyError,
        MemoryError,
        NotImplementedError,
        zlib.error,
        scipy.io.matlab.MatReadError,
    ) as error:
        raise DataError(f"{meta}: is not the meta.mat of the ILSVRC2012 development kit ({error})") from error
    labels = {wnid: label for label, wnid in enumerate(wnids)}
    found = {
        number: labels[wnid] for number, wnid in ids.items() if wnid in labels
    }  # the rest are inner nodes
    if missing := sorted(set(wnids) - set(ids.values())):
        raise DataError(f"{meta}: {len(missing)} of ImageNet-1K's wnids are not in it ({preview(missing)})")
    return found


def _check_unpacked(data: bytes) -> None:
    """Raises Refused where the compressed parts of a .mat file (version 5) unpack to absurd sizes."""
    order = ">" if data[126:128] == b"MI" else "<"
    at, total = 128, 0
    while at + 8 <= len(data):
        kind, size = struct.unpack_from(f"{order}II", data, at)
        if kind == 15:  # miCOMPRESSED
            part = zlib.decompressobj().decompress(data[at + 8 : at + 8 + size], MAX_LABELS + 1 - total)
            total += len(part)
            if total > MAX_LABELS:
                raise Refused(f"it unpacks to more than {MAX_LABELS:,} bytes")
        at += 8 + size


def _columns(synsets: object) -> tuple[Iterable[int], Iterable[str]]:
    import numpy as np

    table = np.atleast_1d(np.asarray(synsets))
    if table.dtype.names is None:
        raise ValueError("`synsets` is no struct array")
    return table["ILSVRC2012_ID"], table["WNID"]
