"""The exact code of a run: the git commit of its checkout, and the uncommitted changes."""

from __future__ import annotations

import hashlib
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from hornet_train.redaction import redacted
from hornet_train.track.durable_files import write_bytes

MAX_DIFF_BYTES = 1_000_000  # a larger diff is not stored
MAX_UNTRACKED = 200  # names of untracked files in the list


def git_state(file: Path) -> dict[str, Any] | None:
    """`{"commit", "dirty"}` of the checkout that tracks `file`; None if there is none, or no git.

    A package installed in a virtual environment may be inside of another checkout, which does not track it.
    The commit of that checkout would say nothing about this code.
    """
    if _git(file.parent, "ls-files", "--error-unmatch", "--", file.name) is None:
        return None
    commit = _git(file.parent, "rev-parse", "HEAD")
    changes = _git(file.parent, "status", "--porcelain")
    return None if commit is None or changes is None else {"commit": commit, "dirty": bool(changes)}


def uncommitted_changes(file: Path, folder: Path | None) -> dict[str, Any]:
    """The differences from the commit, in the checkout that tracks `file`; the diff is stored in a file.

    `git apply uncommitted.diff` on that commit restores the code, except untracked files, of which only the
    names are stored. A run that is started again with other changes gets a further file.

    Args:
        file: in a checkout (`git_state` is not None).
        folder: where to store the diff; None does not store it.

    Returns:
        `diff`: `{"bytes", "sha256"}`, with the name `file` if it was stored, or else the reason `why` not,
        and `without_secrets` if secrets were redacted; null if there are no differences in tracked files.
        `untracked`: names from the top of the checkout, at most MAX_UNTRACKED. `untracked_in_all`: their
        number, null if git fails.
    """
    answer = _git(file.parent, "ls-files", "--others", "--exclude-standard", "--full-name", "-z", "--", ":/")
    names = [name for name in (answer or "").split("\0") if name]
    count = None if answer is None else len(names)
    untracked = {"untracked": names[:MAX_UNTRACKED], "untracked_in_all": count}
    text, size, digest = _git_diff(file.parent)
    if digest is None:
        return {"diff": {"why": "git diff gave no answer"}, **untracked}
    if size == 0:
        return {"diff": None, **untracked}
    diff: dict[str, Any] = {"bytes": size, "sha256": digest}
    if text is not None:
        safe = redacted(text.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")
        if safe != text:
            text = safe
            diff = {"bytes": len(safe), "sha256": hashlib.sha256(safe).hexdigest(), "without_secrets": True}
    if text is None:
        diff["why"] = f"more than {MAX_DIFF_BYTES:,} bytes are not kept"
    elif folder is not None:
        diff["file"] = _store_diff(folder, text)
    return {"diff": diff, **untracked}


def _store_diff(folder: Path, text: bytes) -> str:
    """Write a diff under the first name that is free or has the same content; returns the name."""
    number = 1
    while True:
        path = folder / ("uncommitted.diff" if number == 1 else f"uncommitted.{number}.diff")
        if not path.exists():
            write_bytes(path, text)
            return path.name
        if path.read_bytes() == text:
            return path.name
        number += 1


def _git_diff(folder: Path) -> tuple[bytes | None, int, str | None]:
    """`git diff HEAD` of the checkout that contains a folder, for `git apply`.

    Returns:
        The diff, None if it is too large; its size in bytes; its SHA-256, None if git fails.
    """
    # independent of the user's git settings
    plain = ("--binary", "--no-color", "--no-ext-diff", "--no-textconv", "--src-prefix=a/", "--dst-prefix=b/")
    with tempfile.TemporaryFile() as answer:  # it may be too large for memory
        try:
            subprocess.run(
                ["git", "--no-optional-locks", "diff", "HEAD", *plain],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=answer,
                stderr=subprocess.DEVNULL,
                timeout=60,
                check=True,
            )
        except (OSError, subprocess.SubprocessError):
            return None, 0, None
        size = answer.seek(0, 2)
        answer.seek(0)
        digest = hashlib.file_digest(answer, "sha256").hexdigest()
        answer.seek(0)
        return answer.read() if size <= MAX_DIFF_BYTES else None, size, digest


def _git(folder: Path, *arguments: str) -> str | None:
    """The output of a git command; None if it fails or git is not installed."""
    try:
        answer = subprocess.run(
            ["git", "--no-optional-locks", *arguments],
            cwd=folder,
            capture_output=True,
            text=True,
            errors="replace",  # names that are not UTF-8
            timeout=20,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.removesuffix("\n")
