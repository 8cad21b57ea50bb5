"""The very code of a run: the commit of its checkout, and what is changed but not committed."""

from __future__ import annotations

import hashlib
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from hornet_train.redaction import redacted
from hornet_train.track.files import write_bytes

MOST_BYTES = 1_000_000  # of a diff that is kept
MOST_NAMES = 200  # of untracked files that are listed


def git_state(file: Path) -> dict[str, Any] | None:
    """`{"commit", "dirty"}` of the checkout that tracks `file`; None without one, or without git.

    An installed copy under a virtual environment may lie in somebody else's checkout, which does not track
    it: its commit would say nothing about this code.
    """
    if _git(file.parent, "ls-files", "--error-unmatch", "--", file.name) is None:
        return None
    commit = _git(file.parent, "rev-parse", "HEAD")
    changes = _git(file.parent, "status", "--porcelain")
    return None if commit is None or changes is None else {"commit": commit, "dirty": bool(changes)}


def changes(file: Path, folder: Path | None) -> dict[str, Any]:
    """What differs from the commit, in the checkout that tracks `file`, kept beside environment.json.

    `git apply uncommitted.diff` on that commit brings the code back, but for files that git does not track,
    of which only the names are kept. Another start of a run, with other changes, has a file of its own.

    Args:
        file: in a checkout (`git_state` is not None).
        folder: where to keep them; None tells of them only.

    Returns:
        `diff`: `{"bytes", "sha256"}`, with `file` where it was kept, or `why` it was not, and
        `without_secrets` where passwords and the like were taken out; null where nothing that git tracks
        differs. `untracked`: names, from the top of the checkout, at most MOST_NAMES; `untracked_in_all`: how
        many there are, null where git does not say.
    """
    told = _git(file.parent, "ls-files", "--others", "--exclude-standard", "--full-name", "-z", "--", ":/")
    names = [name for name in (told or "").split("\0") if name]
    untracked = {"untracked": names[:MOST_NAMES], "untracked_in_all": None if told is None else len(names)}
    text, size, digest = _difference(file.parent)
    if digest is None:
        return {"diff": {"why": "git diff gave no answer"}, **untracked}
    if size == 0:
        return {"diff": None, **untracked}
    diff: dict[str, Any] = {"bytes": size, "sha256": digest}
    if text is not None:
        kept = redacted(text.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")
        if kept != text:
            text = kept
            diff = {"bytes": len(kept), "sha256": hashlib.sha256(kept).hexdigest(), "without_secrets": True}
    if text is None:
        diff["why"] = f"more than {MOST_BYTES:,} bytes are not kept"
    elif folder is not None:
        diff["file"] = _put(folder, text)
    return {"diff": diff, **untracked}


def _put(folder: Path, text: bytes) -> str:
    """Write a diff under the first name that is free or holds the same; gives the name."""
    number = 1
    while True:
        path = folder / ("uncommitted.diff" if number == 1 else f"uncommitted.{number}.diff")
        if not path.exists():
            write_bytes(path, text)
            return path.name
        if path.read_bytes() == text:
            return path.name
        number += 1


def _difference(folder: Path) -> tuple[bytes | None, int, str | None]:
    """`git diff HEAD` of the whole checkout around a folder, as `git apply` takes it.

    Returns:
        The text, None where it is too large; its bytes; its SHA-256, None where git fails.
    """
    # whatever the user's settings of git are
    plain = ("--binary", "--no-color", "--no-ext-diff", "--no-textconv", "--src-prefix=a/", "--dst-prefix=b/")
    with tempfile.TemporaryFile() as answer:  # it may be of any size
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
        return answer.read() if size <= MOST_BYTES else None, size, digest


def _git(folder: Path, *arguments: str) -> str | None:
    """What git says; None where it fails or is not there."""
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
