"""Names of files as text, whatever their bytes are."""

from __future__ import annotations

import os
import subprocess

import pytest

from hornet_train.errors import ConfigError, SampleError
from hornet_train.file_names import as_text, as_text_tree, file_name, shell_join
from hornet_train.redaction import for_display


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Grün/é.jpg", "Grün/é.jpg"),
        (os.fsdecode(b"Gr\xfcn/Gr\xf6b.jpg"), r"Gr\xfcn/Gr\xf6b.jpg"),
        ("Caf\udcc3\udca9", "Café"),  # under an ASCII locale
        ("\ud800\udcf6", r"\ud800\udcf6"),  # of no file's name
        ("back\\slash", "back\\slash"),
    ],
)
def test_a_name_becomes_text(name: str, text: str) -> None:
    assert as_text(name) == as_text(as_text(name)) == text
    assert as_text_tree({name: [name, 1, (None,)]}) == {text: [text, 1, [None]]}
    text.encode()


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (r"Gr\xfcn/Gr\xf6b.jpg", b"Gr\xfcn/Gr\xf6b.jpg"),
        (r"\xc3\xa9\xe4", b"\xc3\xa9\xe4"),
        ("Grün/é.jpg", "Grün/é.jpg".encode()),
        (r"a\x41\xF6\n\xf", rb"a\x41\xF6\n\xf"),  # not of `as_text`: no byte beyond ASCII, or in capitals
    ],
)
def test_the_text_becomes_the_name_again(text: str, name: bytes) -> None:
    assert os.fsencode(file_name(text)) == name
    assert file_name(as_text(os.fsdecode(name))) == os.fsdecode(name)


def test_messages_are_text() -> None:
    path = os.fsdecode(b"/d/Gr\xf6b.jpg")
    errors = [SampleError(path, "damaged"), ConfigError([f"{path} is not there"])]
    for shown in (*map(str, errors), for_display(path), errors[0].where):
        assert r"/d/Gr\xf6b.jpg" in shown


def test_a_command_with_such_a_name_can_be_given_again() -> None:
    words = ["printf", "%s|", os.fsdecode(b"a 'r\xfcn' \xe4"), "two words", "plain"]
    done = subprocess.run(["bash", "-c", shell_join(words)], capture_output=True, check=True)
    assert done.stdout == b"a 'r\xfcn' \xe4|two words|plain|"
