"""eval.json: the newest evaluation, and under `earlier` the results for other data, weights or settings."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hornet_train.config.key import keys_where
from hornet_train.config.schema import EvalConfig
from hornet_train.config.validate import plain
from hornet_train.errors import ConfigError
from hornet_train.file_names import as_text_tree
from hornet_train.redaction import redacted_tree
from hornet_train.track.durable_files import read_json, write_json
from hornet_train.track.output_file import check_output

EARLIER = "earlier"
# what makes it this evaluation and no other; the same one again takes the place of its result
_IDENTITY = ("checkpoint", "step", "weights", "init_map", "model", "data", "data_settings", "precision")


def data_settings(config: EvalConfig) -> dict[str, Any]:
    """Which samples a config names, and how they become the model's input; paths are absolute."""
    schema = type(config)
    paths = keys_where(schema, lambda key: key.path)
    passed_over = keys_where(
        schema, lambda key: key.training_only or key.names_option or (key.how_read and not key.preprocessing)
    )
    return {
        name: os.path.abspath(value) if f"data.{name}" in paths and value and os.path.exists(value) else value
        for name, value in redacted_tree(plain(config)["data"]).items()
        if f"data.{name}" not in passed_over
    }


def check_out(config: EvalConfig) -> Path:
    """Where the result goes: `out=`, by default eval.json beside the checkpoint.

    Raises:
        ConfigError: it cannot be written, or something else would be overwritten.
    """
    checkpoint = Path(config.checkpoint or "")
    beside = (checkpoint if checkpoint.is_dir() else checkpoint.parent) / "eval.json"
    out = Path(config.out) if config.out else beside
    check_output(f"out={out}", out, ".json")
    _kept(out)
    return out


def write_result(result: Mapping[str, Any], out: Path) -> int:
    """Write the result of an evaluation, in front of those that the file has of others.

    Returns:
        How many others it has.

    Raises:
        ConfigError: the disk refuses, or something else has come to be there.
    """
    try:
        with _alone_in(out.absolute().parent):
            mine = _identity(as_text_tree(result))
            others = [one for one in _kept(out) if _identity(one) != mine]
            write_json(out, {**result, **({EARLIER: others} if others else {})})
    except OSError as error:
        raise ConfigError([f"out={out} cannot be written ({error.strerror})"]) from error
    return len(others)


def _kept(out: Path) -> list[dict[str, Any]]:
    """The results in a file, newest first; none where there is no file.

    Raises:
        ConfigError: it holds something else.
    """
    try:
        newest = read_json(out)
    except FileNotFoundError:
        return []
    except (OSError, ValueError):
        newest = None
    earlier = newest.pop(EARLIER, []) if isinstance(newest, dict) else None
    results = [newest, *earlier] if isinstance(earlier, list) else []
    found = [one for one in results if isinstance(one, dict) and {"checkpoint", "weights"} <= one.keys()]
    if not results or len(found) < len(results):
        raise ConfigError(
            [f"out={out} is there and holds no evaluation: it would be overwritten; choose another name"]
        )
    return found


def _identity(result: Mapping[str, Any]) -> list[Any]:
    return [*(result.get(name) for name in _IDENTITY), sorted(result.get("suites", ()))]


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Let evaluations that end at the same time write to a folder one after the other."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks, where two could still lose one result
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
