"""Commands run in Python's UTF-8 mode, so that names of files mean the same under every locale."""

from __future__ import annotations

import codecs
import os
import sys
from pathlib import Path


def ensure_utf8_mode() -> None:
    """Start this command again in UTF-8 mode (PEP 540) where names of files are not decoded as UTF-8.

    Python does so by itself in the C locale, unless PYTHONUTF8=0 and PYTHONCOERCECLOCALE=0 forbid it, but not
    in locales such as de_DE.ISO-8859-1. There a path with an é in a config could not be opened, and classes
    would be called otherwise than in a checkpoint. The process stays the same one, and what it starts is in
    that mode too. Does nothing in a program that has imported the command.
    """
    if codecs.lookup(sys.getfilesystemencoding()).name == "utf-8" or "utf8" in sys._xoptions:
        return
    started = Path(sys.argv[0])
    of_package = started.parts[-2:-1] == ("hornet_train",) or started.parts[-3:-1] == ("hornet_train", "cli")
    if not (of_package or started.name.startswith("hornet-")):
        return
    os.environ["PYTHONUTF8"] = "1"
    os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


def escape_what_cannot_be_printed() -> None:
    r"""Let a character that stdout's encoding does not have be printed as `\xe9`, as on stderr, instead of
    ending the command."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
