"""Which pictures a command line means."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from hornet_train.errors import DataError
from hornet_train.prediction.picture_list import STDIN, PictureList, find_pictures


def never() -> bytes:
    raise AssertionError("standard input is read although nobody asked for it")


def located(found: PictureList) -> list[str]:
    return [found.locate(index) for index in range(len(found))]


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """a.jpg, B.PNG, deep/c.webp and things that are no pictures, in the current folder's photos/."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.jpg", "B.PNG", "deep/c.webp"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(path)
    for name in ("clip.mp4", "notes.txt", ".a.jpg", "deep/@eaDir/c.jpg"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"no picture")
    return tmp_path


def test_files_folders_and_patterns_in_the_order_given(photos: Path) -> None:
    folder = ["photos/B.PNG", "photos/a.jpg", "photos/deep/c.webp"]
    found = find_pictures(["photos"], never)
    assert located(found) == folder
    assert found.notes == ["2 other files in the folders passed over: 1 video (.mp4), 1 .txt"]
    assert located(find_pictures(["photos/deep/c.webp", "photos/"], never)) == [folder[2], *folder[:2]]
    assert located(find_pictures(["photos/*.jpg"], never)) == ["photos/a.jpg"]
    assert located(find_pictures(["photos/**"], never)) == folder
    twice = find_pictures(["photos/a.jpg", "./photos/a.jpg"], never)
    assert located(twice) == ["photos/a.jpg"]
    assert twice.notes == ["1 picture given more than once: each is answered once"]


def test_a_name_with_the_signs_of_a_pattern_is_a_file_where_there_is_one(photos: Path) -> None:
    (photos / "photos/a.jpg").rename(photos / "photos/a[1].jpg")
    assert located(find_pictures(["photos/a[1].jpg"], never)) == ["photos/a[1].jpg"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("list.txt", "photos/a.jpg\n\nphotos/B.PNG\n"),
        ("list.csv", "label,path\ncat,photos/a.jpg\ndog,photos/B.PNG\n"),
        ("list.csv", "\ufeffFile_Name;\nphotos/a.jpg\n"),  # a byte order mark; one column
        ("list.csv", "photos/a.jpg,cat\nphotos/B.PNG,dog\n"),
        ("list.tsv", "path\tlabel\nphotos/a.jpg\tcat\nphotos/B.PNG\tdog\n"),
        ("photos/list.csv", "path\na.jpg\nB.PNG\n"),  # from the list's own folder on
    ],
)
def test_lists_of_paths(photos: Path, name: str, content: str) -> None:
    (photos / name).write_text(content, encoding="utf-8")
    if ";" in content:
        with pytest.raises(DataError, match=r"list\.csv has no column of paths: call it path"):
            find_pictures([name], never)
        return
    assert located(find_pictures([name], never)) == ["photos/a.jpg", "photos/B.PNG"]


def test_what_a_list_names_and_is_not_there_is_found_out_when_it_is_read(photos: Path) -> None:
    (photos / "list.txt").write_text("photos/a.jpg\ngone.jpg\n")
    assert located(find_pictures(["list.txt"], never)) == ["photos/a.jpg", "gone.jpg"]


def test_standard_input_is_a_picture_or_paths(photos: Path) -> None:
    content = (photos / "photos/a.jpg").read_bytes()
    found = find_pictures([STDIN, "photos/a.jpg"], lambda: content)
    assert located(found) == [STDIN, "photos/a.jpg"]
    assert found.read(0)["image"].data == content
    for paths in (b"photos/a.jpg\nphotos/B.PNG\n", b"photos/a.jpg\0photos/B.PNG\0"):
        assert located(find_pictures([STDIN], lambda: paths)) == ["photos/a.jpg", "photos/B.PNG"]  # noqa: B023
    for nothing, message in ((b"", "is empty"), (b"\x80\x00\xff", "neither a picture nor a list")):
        with pytest.raises(DataError, match=message):
            find_pictures([STDIN], lambda: nothing)  # noqa: B023


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "no pictures are given"),
        (["gone.jpg"], r"gone\.jpg: cannot be read \(No such file"),
        (["*.tiff"], r"\*\.tiff: no file matches"),
        (["photos/clip.mp4"], r"clip\.mp4 is a video, .* ffmpeg"),
        (["photos/deep/@eaDir"], None),
        (["empty"], "there are no pictures in empty"),
        (["data.bin"], r"data\.bin is no picture: JPEG, PNG"),
    ],
)
def test_what_is_no_picture_is_refused(photos: Path, given: list[str], message: str | None) -> None:
    (photos / "empty").mkdir()
    (photos / "data.bin").write_bytes(b"anything")
    if message is None:
        assert len(find_pictures(given, never)) == 1  # a folder that is named itself is searched
        return
    with pytest.raises(DataError, match=message):
        find_pictures(given, never)


def test_a_link_that_leads_back_is_refused(photos: Path) -> None:
    os.symlink(photos / "photos", photos / "photos/deep/back")
    with pytest.raises(DataError, match=r"once more, by a symbolic link"):
        find_pictures(["photos"], never)


def test_names_of_files_to_be_written_are_never_the_same(photos: Path) -> None:
    Image.new("RGB", (8, 8)).save(photos / "photos/a.png")
    Image.new("RGB", (8, 8)).save(photos / "photos/deep/a.png")
    found = find_pictures(["photos"], never)
    assert dict(zip(located(found), found.names(), strict=True)) == {
        "photos/B.PNG": "B",
        "photos/a.jpg": "a.jpg",
        "photos/a.png": "a.png",
        "photos/deep/a.png": "deep/a",
        "photos/deep/c.webp": "deep/c",
    }
    assert find_pictures(["photos/deep/c.webp"], never).names() == ["c"]
