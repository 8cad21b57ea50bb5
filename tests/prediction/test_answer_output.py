"""A file of answers has its name when it is complete, and not before."""

from __future__ import annotations

from pathlib import Path

import pytest

from hornet_train.errors import ConfigError
from hornet_train.prediction.answer_output import opened_output


def test_nothing_is_left_of_a_file_that_was_not_finished(tmp_path: Path) -> None:
    path = tmp_path / "answers.csv"
    path.write_text("older")

    def interrupted() -> None:
        with opened_output(path) as output:
            output.write("half")
            assert path.read_text() == "older"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "older"
    assert list(tmp_path.iterdir()) == [path]
    with opened_output(path) as output:
        output.write("naïve\n")
    assert path.read_bytes() == "naïve\n".encode()


def test_a_folder_that_has_gone_is_a_mistake_of_the_user(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be written: No such file"), opened_output(tmp_path / "x/y"):
        pass
