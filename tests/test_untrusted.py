"""Files from untrusted sources, and calls that the program may not make."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import ROOT

from hornet_train import untrusted
from hornet_train.untrusted import (
    Refused,
    may_cache_code,
    only_user_can_write,
    open_nofollow,
    parse_json,
    read_within,
)

SOURCES = sorted((ROOT / "src").rglob("*.py"))


def test_a_file_is_read_within_its_limit(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    assert read_within(tmp_path / "a", 5) == b"12345"
    with pytest.raises(Refused, match="5 bytes, and 4 is the limit"):
        read_within(tmp_path / "a", 4)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/zero")
    for name in ("pipe", "link"):
        with pytest.raises(OSError, match="not a regular file"):
            read_within(tmp_path / name, 5)
    with pytest.raises(OSError, match="null"):
        read_within("a\0b", 5)
    with pytest.raises(FileNotFoundError):
        read_within(tmp_path / "none", 5)


@pytest.mark.parametrize("text", ["[" * 10**6, '{"a":' * 10**5, "9" * 5000, b"\xff", "[1", " " * 300])
def test_a_text_that_is_no_json_is_a_value_error(text: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse_json(text, 10**7 if len(text) != 300 else 299)


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "link").symlink_to("mine")
    for mode in ("w", "a+", "ab"):
        with pytest.raises(OSError, match="it is a link"):
            open_nofollow(tmp_path / "link", mode)
    assert (tmp_path / "mine").read_text() == "mine"
    with open_nofollow(tmp_path / "new", "w") as file:
        file.write("x")


def test_code_is_cached_only_where_nobody_else_can_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    assert only_user_can_write(tmp_path / "made")
    assert (tmp_path / "made").stat().st_mode & 0o777 == 0o700
    assert not only_user_can_write(shared)
    may_cache_code.cache_clear()
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(shared))
    assert not may_cache_code()
    monkeypatch.setattr(untrusted.os, "getuid", lambda: 12345)
    assert only_user_can_write(tmp_path / "made") == (os.stat(tmp_path / "made").st_uid == 0)
    may_cache_code.cache_clear()


def calls() -> Iterator[tuple[Path, str, ast.Call]]:
    """(file, name of the function, call) for each call in the program."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                yield path, ast.unparse(node.func), node


def test_the_program_has_no_way_to_run_what_it_reads() -> None:
    assert len(SOURCES) > 100
    loads = []
    for path, name, node in calls():
        words = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        where = f"{path.relative_to(ROOT)}:{node.lineno}: {name}"
        assert name not in ("eval", "exec", "compile", "__import__", "os.system", "os.popen"), where
        assert name.rpartition(".")[2] not in ("instantiate", "extractall", "unpack_archive", "hub_load"), (
            where
        )
        assert name not in ("pickle.load", "pickle.loads", "dill.loads", "joblib.load", "marshal.loads"), (
            where
        )
        assert name not in ("tar.extract", "yaml.unsafe_load", "yaml.full_load", "json.load"), where
        assert words.get("shell", "False") == "False", where
        assert "trust_remote_code" not in words, where
        assert words.get("allow_pickle", "False") == "False", where
        if name == "torch.load":
            loads.append((path.name, words["weights_only"]))
        if name == "yaml.load":
            assert words["Loader"] == "_Plain", where
        if name == "json.loads":  # elsewhere `parse_json`, which ends
            assert path.name in ("untrusted.py", "cache.py", "ranks.py"), where
    assert loads == [("unpickling.py", "True")]
