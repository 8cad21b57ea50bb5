"""Which options a model of timm takes, where it was given one that it does not have."""

from __future__ import annotations

import difflib
import inspect
import re
import sys
from collections.abc import Collection

from timm.models import model_entrypoint

_UNEXPECTED = re.compile(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'")


def unknown_option(name: str, error: Exception, hidden: Collection[str]) -> str | None:
    """What to say of an option that a model does not have, with those that it has, similar ones first.

    Args:
        name: of the model, as timm knows it.
        error: what its constructor raised.
        hidden: options that are not to be listed.

    Returns:
        None if the error is another one, or the constructor does not say what it takes.
    """
    found = _UNEXPECTED.search(str(error)) if isinstance(error, TypeError) else None
    if found is None:
        return None
    kind = vars(sys.modules[model_entrypoint(name).__module__]).get(found[1])
    if not isinstance(kind, type):
        return None
    parameters = inspect.signature(kind).parameters.values()
    named = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    options = [one.name for one in parameters if one.kind in named and one.name not in hidden]
    near = difflib.get_close_matches(found[2], options, n=3, cutoff=0.6)
    hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else "."
    listed = ", ".join([*near, *(one for one in options if one not in near)])
    return f"model.args.{found[2]}: {name} has no such option{hint} It takes {listed}"
