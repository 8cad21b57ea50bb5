"""The tasks by name: one lazy row each. `task=` also takes a user's own: a module or a file with a KIT."""

from __future__ import annotations

import sys
import traceback
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from hornet_train._timm import import_timm
from hornet_train.config.conf_files import conf_dir
from hornet_train.config.task_schema import TaskSchema
from hornet_train.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from hornet_train.tasks.stored_files import DataFiles

KIT = "KIT"  # the name of the kit in a user's own module


@dataclass(frozen=True)
class _Row:
    """Where parts of a task are: module:name.

    Attributes:
        schema: its module imports no torch.
        files: what it knows of data sets on disk, without models and timm.
        kit: all of it.
    """

    schema: str
    files: str
    kit: str


_ROWS = {
    "classification": _Row(
        schema="hornet_train.tasks.classification.rules:SCHEMA",
        files="hornet_train.tasks.classification.layout.data_files:FILES",
        kit="hornet_train.tasks.classification.build.kit:KIT",
    ),
    "segmentation": _Row(
        schema="hornet_train.tasks.segmentation.rules:SCHEMA",
        files="hornet_train.tasks.segmentation.layout.data_files:FILES",
        kit="hornet_train.tasks.segmentation.build.kit:KIT",
    ),
    "detection": _Row(
        schema="hornet_train.tasks.detection.rules:SCHEMA",
        files="hornet_train.tasks.detection.layout.data_files:FILES",
        kit="hornet_train.tasks.detection.build.kit:KIT",
    ),
}
NAMES = tuple(_ROWS)


def find(name: str) -> TaskSchema:
    """The schema of the task that `task=` names.

    Raises:
        ConfigError: there is none.
    """
    if name in _ROWS:
        schema: TaskSchema = _import(_ROWS[name].schema)
        return schema
    found: TaskSchema = _own_kit(name).schema
    return found


def files_of(name: str) -> DataFiles:
    """What a task knows of data sets on disk.

    Raises:
        ConfigError: there is no such task.
    """
    files: DataFiles = _import(_ROWS[name].files) if name in _ROWS else _own_kit(name)
    return files


def kit_of(name: str) -> Any:
    """The kit of a task that `find` knows.

    Raises:
        ConfigError: there is none.
    """
    return _import(_ROWS[name].kit) if name in _ROWS else _own_kit(name)


def _import(place: str) -> Any:
    module, _, name = place.partition(":")
    return vars(import_module(module))[name]


def _own_kit(name: str) -> Any:
    """The kit of a user's own module or file."""
    import_timm()
    from hornet_train.tasks.kit import Kit

    try:
        module = _own_module(name)
    except ConfigError:
        raise
    except Exception as error:  # whatever the user's own code raises; HORNET_DEBUG=1 shows all of it
        raise ConfigError([f"task={name} cannot be imported: {_where(error)}"]) from error
    kit = vars(module).get(KIT)
    if kit is None:
        raise ConfigError([f"task={name}: {module.__file__} has no {KIT} (see examples/own_task.py)"])
    if not isinstance(kit, Kit):
        raise ConfigError([f"task={name}: {KIT} is {kit!r}, not an instance of a class derived from {Kit}"])
    if missing := [one for one in ("schema", "metrics") if not hasattr(kit, one)]:
        raise ConfigError(
            [f"task={name}: the class of {KIT} has no `{missing[0]}` (see examples/own_task.py)"]
        )
    if not kit.metrics.rows:
        raise ConfigError([f"task={name}: {KIT}.metrics is empty: its first row chooses the best checkpoint"])
    return kit


def _where(error: Exception) -> str:
    """An error with the line that raised it."""
    if isinstance(error, SyntaxError):
        return f"SyntaxError: {error}"
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({last.filename}, line {last.lineno})"


def _own_module(name: str) -> ModuleType:
    """A module by its dotted name or by the path of its file.

    It is looked for on Python's path, in the working directory, and in this program's checkout, if it runs
    from one, where examples/ lies. These stay on the path: workers find the module there, too.

    Raises:
        ConfigError: there is no such module, or another one of that name.
    """
    file = Path(name).expanduser() if name.endswith(".py") else None
    if file is not None:
        if not file.is_file():
            raise ConfigError([f"task={name}: there is no such file"])
        _look_in(file.resolve().parent)
        module = import_module(file.stem)
        if module.__file__ is None or Path(module.__file__).resolve() != file.resolve():
            raise ConfigError([f"task={name}: Python has another module {file.stem!r}: rename the file"])
        return module
    checkout = conf_dir().parent  # an installed conf/ lies in the package, which is no place to look in
    for place in (Path.cwd(), *([checkout] if (checkout / "pyproject.toml").is_file() else [])):
        if not _is_there(name):
            _look_in(place)
    if not _is_there(name):
        raise ConfigError(
            [
                f"task={name}: no such task; {did_you_mean(name, NAMES)} (or one of your own, a module or "
                "file with a KIT: task=my_task.py, see examples/own_task.py)"
            ]
        )
    return import_module(name)


def _is_there(name: str) -> bool:
    """Whether Python finds a module of that name, without importing it."""
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):  # of a package that is not there, or no name at all
        return False


def _look_in(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
