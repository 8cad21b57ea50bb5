"""A command line as keys and values: what each text may be, and which options there are."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from hornet_train.errors import did_you_mean

PATHS = (
    "data.root",
    "data.name",
    "data.val_labels",
    "data.labels",
    "run_dir",
    "init_from",
    "init_map",
    "from",
    "checkpoint",
    "out",
    "plot",
)  # taken as they are typed
LISTS = ("models", "peers", "modes", "layouts", "batches", "sides", "orders")  # a,b,c is a list here


def conf_dir() -> Path:
    """The folder of the config groups: beside src/ in a checkout, inside the package when installed."""
    package = Path(__file__).resolve().parents[1]
    for place in (package / "conf", package.parents[1] / "conf"):
        if (place / "train.yaml").is_file():
            return place
    raise FileNotFoundError(
        f"conf/ is neither in {package} nor in {package.parents[1]}: a broken installation"
    )


def options(group: str) -> list[str]:
    """The names that `group=` takes."""
    return sorted(path.stem for path in (conf_dir() / group).glob("*.yaml") if not path.stem.startswith("_"))


def parse(overrides: list[str], groups: tuple[str, ...]) -> tuple[dict[str, Any], list[str]]:
    """Key -> value of the overrides that can be understood, and a fault for each that cannot."""
    parsed: dict[str, Any] = {}
    faults = []
    for text in overrides:
        key, equals, value = text.partition("=")
        key = key.lstrip("+")
        if text.startswith("-"):
            faults.append(f"unknown flag {text}: keys are given as key=value (see --help)")
        elif not equals or not key.replace(".", "").replace("_", "").isalnum():
            faults.append(f"{text!r} is not of the form key=value")
        elif key in groups:
            known = options(key)
            if value in known:
                parsed[key] = value
            else:
                faults.append(f"{key}={value}: no such option of {key}; {did_you_mean(value, known)}")
        elif key in LISTS and not value.startswith("["):
            names = [name for name in value.split(",") if name]
            parsed[key] = [int(name) if name.isdecimal() else name for name in names]
        elif key in PATHS and not value:
            faults.append(f"{key}= is empty: give it a path, or leave it out")
        elif key in PATHS and value != "null":
            parsed[key] = os.path.expanduser(value.strip("'\""))  # the shell leaves key=~/x alone
        else:
            try:
                parsed[key] = _value(text)
            except ValueError as error:
                faults.append(f"{text!r} {error}")
    return parsed, faults


def _value(text: str) -> Any:
    """The value of `key=value` in Hydra's grammar: numbers, null, true, [lists], {a: mapping}, 'text'."""
    try:
        override = OverridesParser.create().parse_override(text)
    except HydraException:
        raise ValueError(
            "has a value that cannot be read: quote it, as in key='\"a value, with a comma\"'"
        ) from None
    if override.is_sweep_override():
        raise ValueError("gives several values: --multirun runs the command once for each; or quote the text")
    return override.value()
