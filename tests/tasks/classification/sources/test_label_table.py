"""Tables of files and labels, as people write them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pictures import PHOTO

from hornet_train.errors import DataError
from hornet_train.file_names import as_text
from hornet_train.tasks.classification.sources.label_table import Columns, Row, read_label_table
from hornet_train.tasks.classification.sources.listed_files import ListedFiles

USUAL = Columns()


def rows(tmp_path: Path, content: str | bytes, columns: Columns = USUAL) -> list[tuple[str, str, object]]:
    table = tmp_path / "labels.csv"
    table.write_bytes(content if isinstance(content, bytes) else content.encode())
    return [(row.file, row.label, row.part) for row in read_label_table(table, columns)]


PAIR = [("a.jpg", "cat", None), ("b/c.PNG", "dog", None)]


@pytest.mark.parametrize(
    "content",
    [
        "a.jpg,cat\nb/c.PNG,dog\n",
        "cat,a.jpg\ndog,b/c.PNG",
        "file,label\na.jpg,cat\nb/c.PNG,dog\n",
        "\ufefffile,label\r\na.jpg,cat\r\nb/c.PNG,dog\r\n",
        "Image Name;Category\n\na.jpg; cat\n b/c.PNG ;dog\n\n",
        "breed\tfile_path\ncat\ta.jpg\ndog\tb/c.PNG\n",
        'id,filename,class\n1,"a.jpg","cat"\n2,b/c.PNG,"dog"\n',
        "file,label\na.jpg,cat\nb/c.PNG,dog\n".encode("utf-16"),
        "target\timage\rcat\ta.jpg\rdog\tb/c.PNG\r",
    ],
)
def test_delimiters_headers_encodings_and_orders_of_columns(tmp_path: Path, content: str | bytes) -> None:
    assert rows(tmp_path, content) == PAIR


def test_splits_and_texts_with_delimiters(tmp_path: Path) -> None:
    content = 'filepaths,labels,data set\n"a, b.jpg","cat; big",Train\nc.jpg,dog,VALID\nd.jpg,dog,testing\n'
    assert rows(tmp_path, content) == [
        *(("a, b.jpg", "cat; big", "train"), ("c.jpg", "dog", "val"), ("d.jpg", "dog", "test")),
    ]
    assert rows(tmp_path, "a.jpg,cat,train\nb.jpg,dog,validation\n") == [
        *(("a.jpg", "cat", "train"), ("b.jpg", "dog", "val")),
    ]
    assert rows(tmp_path, "file;species;split\n1,5.jpg;cat;train\n2,5.jpg;dog;val\n") == [
        *(("1,5.jpg", "cat", "train"), ("2,5.jpg", "dog", "val")),
    ]
    assert rows(tmp_path, "cat\t1,5.jpg\ndog\t2,5.jpg\n") == [
        ("1,5.jpg", "cat", None),
        ("2,5.jpg", "dog", None),
    ]
    named = Columns(image="id", label="class_name", split="fold")
    content = "id,class,class_name,fold\na,1,cat,train\n"
    assert rows(tmp_path, content, named) == [("a", "cat", "train")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("\n \n", "is empty"),
        ("file,label\n", "no line but that of the names"),
        ("id,breed\n1,cat\n", r"which of its columns \(id, breed\) is the image and the label\?"),
        ("just\nwords\n", "a single column"),
        (
            "file,label,class\na.jpg,1,cat\n",
            "label and class could each be the label: data.label_column=label",
        ),
        (b"file,label\na.jpg,cat\nGr\xf6b.jpg,dog\n", "line 3 is not UTF-8"),
        ('file,label\n"a.jpg,cat\nb.jpg,dog\n', "line 2: unexpected end of data"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        rows(tmp_path, content)


def test_every_damaged_line_is_named_at_once(tmp_path: Path) -> None:
    lines = ("file,label,split", '"a\nb.jpg",x,train', ",cat,train", "b.jpg,,val", "c.jpg,x", "d.jpg,x,7",
             "./e.jpg,x,val", "e.jpg,y,val")  # fmt: skip
    content = "\n".join(lines)
    with pytest.raises(DataError) as error:
        rows(tmp_path, content)
    assert str(error.value).splitlines()[1:] == [
        "  line 4: no file",
        "  line 5: no label",
        "  line 6: 2 columns, not 3",
        "  line 7: '7' is not train, val or test",
        "  line 9: 'e.jpg' was listed in line 8",
    ]
    with pytest.raises(DataError, match=r"data.label_column=lable: no such column; did you mean 'label'"):
        rows(tmp_path, "file,label\n", Columns(label="lable"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "data/b").mkdir(parents=True)
    for name in ("a.png", "b/c d.png"):
        PHOTO.resize((4, 4)).save(tmp_path / "data" / name)
    return tmp_path / "data"


def listed(root: Path, *names: str) -> ListedFiles:
    made = [Row(line, name, "xy"[line % 2], None) for line, name in enumerate(names)]
    return ListedFiles(root, made, ("x", "y"), Path("t.csv"))


def test_files_are_found_below_the_root_however_they_are_written(root: Path) -> None:
    source = listed(root, f"{root}/a.png", ".\\b\\c d.png", "b/../a.png")
    assert [source.locate(i) for i in range(3)] == [f"{root}/a.png", f"{root}/b/c d.png", f"{root}/a.png"]
    assert [source.read(i)["label"] for i in range(3)] == [0, 1, 0]
    assert source.in_order(("y", "z", "x")).labels.tolist() == [2, 0, 2]
    assert source.read(0)["image"].data == (root / "a.png").read_bytes()


def test_a_name_that_is_not_utf_8_is_given_as_it_is_shown(root: Path) -> None:
    folder = root / os.fsdecode(b"Gr\xfcn")
    folder.mkdir()
    odd, literal = folder / os.fsdecode(b"Gr\xf6b.png"), root / r"a\xe4.png"
    for content, file in enumerate((odd, root / os.fsdecode(b"a\xe4.png"), literal, folder / "a.png")):
        file.write_bytes(bytes([content]))
    table = root / "t.csv"
    table.write_text("Gr\\xfcn/Gr\\xf6b.png,x\na\\xe4.png,y\nGr\\xfcn\\a.png,x\n", encoding="utf-8")
    source = ListedFiles(root, read_label_table(table), ("x", "y"), table)
    assert [source.read(i)["image"].data for i in range(3)] == [b"\0", b"\2", b"\3"]  # the literal name first
    literal.unlink()
    source = listed(root, r"a\xe4.png", r"Gr\xfcn/./Gr\xf6b.png")
    assert [source.read(i)["image"].data for i in range(2)] == [b"\1", b"\0"]
    within = listed(folder, as_text(str(odd)))  # an absolute path, as damaged.csv has it
    assert within.locate(0) == str(odd)
    rows = [Row(line, name, "x", None) for line, name in enumerate((r"a\xe4.png", r"b\xe4.png"))]
    gone = ListedFiles(root, rows, ("x",), table, may_miss=1)
    assert (gone.missing, gone.locate(1)) == ((r"b\xe4.png",), str(root / os.fsdecode(b"b\xe4.png")))
    with pytest.raises(DataError, match="are not in"):
        listed(root, r"b\xe4.png")


def test_missing_files_are_counted_and_files_elsewhere_refused(root: Path) -> None:
    with pytest.raises(DataError, match=r"2 of 3 files are not in data.root=.* \(no.png, gone/x.png\)"):
        listed(root, "a.png", "no.png", "gone/x.png")
    (root.parent / "secret.png").write_bytes(b"")
    for away in ("../secret.png", "b/../../secret.png", str(root.parent / "secret.png"), ".."):
        with pytest.raises(DataError, match=r"1 file outside of data\.root="):
            listed(root, "a.png", away)
    with pytest.raises(DataError, match="are not in"):  # nor by backslashes
        listed(root, "a.png", "..\\secret.png")
