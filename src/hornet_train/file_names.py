"""Names of files as text that can be stored and shown everywhere.

A file system's names are bytes. Python decodes them, usually as UTF-8, and keeps each byte that does not fit
as a lone surrogate, with which the file is found again (PEP 383). Such a str cannot be encoded, though: JSON,
CSV, figures and terminals refuse it. So a path stays as it is for as long as a file is to be opened with it,
in config.yaml too, where YAML escapes it; what is stored or shown for people goes through `as_text`. Names of
classes are made of those of folders by it where these are listed: a class has the same name everywhere.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

_SURROGATES = re.compile("[\ud800-\udfff]+")
_ESCAPES = re.compile(r"(?:\\x[89a-f][0-9a-f])+")  # of bytes beyond ASCII: only these does `as_text` escape


def as_text(name: str) -> str:
    r"""A name whose bytes that are no UTF-8 are written as `\xf6`; other names are unchanged.

    Under a locale that is not UTF-8 Python keeps all other characters as surrogates too: here they become the
    same text as elsewhere.
    """
    return _SURROGATES.sub(_escaped, name)


def file_name(text: str) -> str:
    r"""The inverse of `as_text`: `\xf6` is the byte F6 again; a text without such an escape is unchanged.

    A file may really be called so, with a backslash in its name: look for that one first.
    """
    return _ESCAPES.sub(lambda found: os.fsdecode(bytes.fromhex(found[0].replace("\\x", ""))), text)


def as_text_tree(tree: Any) -> Any:
    """`as_text` for every str in a tree of mappings and lists, their keys too."""
    if isinstance(tree, str):
        return as_text(tree)
    if isinstance(tree, Mapping):
        return {as_text_tree(key): as_text_tree(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [as_text_tree(value) for value in tree]
    return tree


def shell_join(words: Iterable[str]) -> str:
    """A command line for bash and zsh, in which names that are not UTF-8 are found too."""
    return " ".join(
        shlex.quote(word) if (text := as_text(word)) == word else "$'" + text.replace("'", "\\'") + "'"
        for word in words
    )


def _escaped(found: re.Match[str]) -> str:
    try:
        encoded = found[0].encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # not of a file's name, but of a damaged text
        encoded = found[0].encode("utf-8", "backslashreplace")
    return encoded.decode("utf-8", "backslashreplace")
