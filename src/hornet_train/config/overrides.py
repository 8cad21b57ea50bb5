"""A command line as keys and values: which text each key has, and what the text means."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from itertools import pairwise
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from hornet_train.config.conf_files import options
from hornet_train.config.hydra_flags import unknown_flag
from hornet_train.config.key import keys_where
from hornet_train.errors import ConfigError, did_you_mean

TASK = "task"  # its options are the tasks: those of conf/, and a user's own
RUN_DIR = "run_dir"
FROM = "from"  # the run to repeat; a path, and no key of a config
_SOME = "?"  # in place of a path at fault, which is not missing besides


def texts(overrides: list[str]) -> dict[str, str]:
    """Key -> text, for what is of the form key=value; the last one counts."""
    pairs = (text.partition("=") for text in overrides if not text.startswith("-"))
    return {key.lstrip("+"): value for key, equals, value in pairs if equals}


def path_value(key: str, text: str) -> str | None:
    """The text of a path as the path: without quotes around it, `~`, `$NAME` and `${NAME}` replaced; None for
    null.

    Raises:
        ConfigError: the environment has no variable of that name.
    """
    if text == "null":
        return None
    whole = text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text
    path = os.path.expanduser(os.path.expandvars(whole))
    if missing := re.search(r"\$\{([^}]*)\}?", path):
        raise ConfigError([f"{key}={text}: the environment has no variable {missing[1]}; write the path out"])
    return path


def parse(overrides: list[str], groups: Collection[str], schema: type) -> tuple[dict[str, Any], list[str]]:
    """Key -> value of the overrides that can be understood, and a fault for each that cannot.

    Args:
        overrides: the command line.
        groups: keys whose values are options of conf/.
        schema: of the config; it says which keys are paths and which are lists.
    """
    paths = keys_where(schema, lambda key: key.path) | {FROM}
    lists = keys_where(schema, lambda key: key.comma_list)
    parsed: dict[str, Any] = {}
    faults = []
    for before, text in pairwise(["", *overrides]):
        key, equals, value = text.partition("=")
        key = key.lstrip("+")
        if before.startswith("-") and not equals and not text.startswith("-"):
            continue  # the value of a flag that is at fault itself
        if text.startswith("-"):
            faults.append(unknown_flag(text))
        elif not equals or not key.replace(".", "").replace("_", "").isalnum():
            faults.append(f"{text!r} is not of the form key=value")
        elif key == TASK:
            parsed[key] = value
        elif key in groups:
            known = options(key)
            if value in known:
                parsed[key] = value
            else:
                faults.append(f"{key}={value}: no such option of {key}; {did_you_mean(value, known)}")
        elif key in lists and not value.startswith("["):
            names = [name for name in value.split(",") if name]
            parsed[key] = [int(name) if name.isdecimal() else name for name in names]
        elif key in paths and not value:
            parsed[key] = _SOME
            faults.append(f"{key}= is empty: give it a path, or leave it out")
        elif key in paths:
            try:
                parsed[key] = path_value(key, value)
            except ConfigError as error:
                parsed[key] = _SOME
                faults += error.faults
        else:
            try:
                parsed[key] = _value(text)
            except ValueError as error:
                faults.append(str(error))
    return parsed, faults


def _value(text: str) -> Any:
    """The value of `key=value` in Hydra's grammar: numbers, null, true, [lists], {a: mapping}, 'text'."""
    try:
        override = OverridesParser.create().parse_override(text)
    except HydraException:
        raise ValueError(unreadable(text)) from None
    if override.is_sweep_override():
        raise ValueError(
            f"{text!r} gives several values: a list is in brackets, [1,2]; --multirun runs the command once "
            "for each; or quote the text"
        )
    return override.value()


def unreadable(text: str) -> str:
    """A sentence on an override that is not in Hydra's grammar."""
    return f"{text!r} has a value that cannot be read: quote it, as in key='\"a value, with a comma\"'"
