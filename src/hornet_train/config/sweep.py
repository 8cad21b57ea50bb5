"""`--multirun`: several values of a key make several jobs, which one of Hydra's launchers starts."""

from __future__ import annotations

import importlib.util
import os
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path

from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from hornet_train.config import conf_files
from hornet_train.config.choose_task import ChosenTask
from hornet_train.config.compose_train import GROUPS, compose_train, task_and_run
from hornet_train.config.key import keys_where
from hornet_train.config.overrides import FROM, TASK, texts
from hornet_train.config.task_schema import Find
from hornet_train.errors import ConfigError

Job = Callable[[list[str]], int]  # the overrides of `hornet-train` -> its exit code


@dataclass(frozen=True)
class Ended:
    """A job of a sweep that has ended: its overrides and its exit code."""

    overrides: list[str]
    code: int


def sweep(
    arguments: list[str],
    job: Job,
    *,
    find: Find,
    names: Sequence[str],
    held_folder: Callable[[Path], AbstractContextManager[Path]],
) -> list[Ended]:
    """Start `job` for each combination of the given values, with the launcher that is chosen.

    The run folder of a job is `<hydra.sweep.dir>/<its values of the keys that vary>`. It is the same again
    when the command is repeated with the same hydra.sweep.dir, and when Slurm queues the job again.

    Args:
        arguments: overrides of hornet-train, some with several values, and Hydra's (`hydra/launcher=`).
        job: a function at the top of its module: launchers send it to other machines by its name.
        find: the schema of the task of a name.
        names: of this program's tasks.
        held_folder: makes the folder of the sweep where hydra.sweep.dir= does not give one: of this name, or
            with a number behind it if another sweep has it; removes it if nothing begins in it.

    Raises:
        ConfigError: the config of any job is at fault, and none was started; or there is no such launcher.
    """
    of_hydra = [text for text in arguments if text.lstrip("+~").startswith(("hydra.", "hydra/"))]
    of_jobs = [text for text in arguments if text not in of_hydra]
    of_hydra = [_with_quoted_folder(text) for text in of_hydra]
    task = _task_of_first_job(of_jobs, find, names)
    not_hydras = [] if task.built_in else [text for text in of_jobs if text.startswith(f"{TASK}=")]
    of_jobs = [_as_hydra_reads(text, task) for text in of_jobs if text not in not_hydras]
    _check_launcher(of_hydra)
    try:
        overrides = OverridesParser.create().parse_overrides(of_jobs)
        _check_jobs(overrides, lambda job: compose_train([*job, *not_hydras], find=find, names=names))
        folder = str(conf_files.conf_dir())
        with initialize_config_dir(version_base="1.3", config_dir=folder, job_name="hornet-train"):
            hydra = GlobalHydra.instance().hydra
            assert hydra is not None
            settings = [*_settings(of_hydra, overrides), *of_hydra]
            with ExitStack() as stack:
                if not any(text.lstrip("+").startswith("hydra.sweep.dir=") for text in settings):
                    place = Path(time.strftime("runs/sweep_%Y-%m-%d_%H-%M-%S"))
                    settings.append(f"hydra.sweep.dir={stack.enter_context(held_folder(place))}")
                returned = hydra.multirun("train", _HydraTask(job, not_hydras), [*of_jobs, *settings])
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError([" ".join(str(error).split())]) from error
    return [Ended(list(one.overrides), one.return_value) for batch in returned for one in batch]


@dataclass(frozen=True)
class _HydraTask:
    """What Hydra calls in the process of a job.

    The config that Hydra has composed is not used: `job` composes its own, by our rules.

    Attributes:
        job: what to do.
        more: overrides of each job that Hydra cannot read.
    """

    job: Job
    more: Sequence[str]

    def __call__(self, _config: object) -> int:
        hydra = HydraConfig.get()
        overrides = [*hydra.overrides.task, *self.more]
        if not any(text.startswith("run_dir=") for text in overrides):
            overrides.append(f"run_dir={hydra.runtime.output_dir}")
        return self.job(overrides)


def _task_of_first_job(overrides: Iterable[str], find: Find, names: Sequence[str]) -> ChosenTask:
    """The task by the first value of each key; a job of another task is composed as such all the same."""
    given = {key: value.partition(",")[0] for key, value in texts(list(overrides)).items()}
    return task_and_run(given, find=find, names=names)[0]


def _as_hydra_reads(text: str, task: ChosenTask) -> str:
    """The override in a form that Hydra accepts: it refuses keys that it does not know, and some paths."""
    key, _, value = text.partition("=")
    schema = task.schema.train
    if key in keys_where(schema, lambda key: key.path) | {FROM}:
        text = f"{key}={_quoted(value)}"
    free = tuple(f"{one}." for one in keys_where(schema, lambda key: key.free))
    unknown_to_hydra = task.name != conf_files.default_options()[TASK] and key not in GROUPS
    return f"++{text}" if key.startswith(free) or unknown_to_hydra else text


def _with_quoted_folder(text: str) -> str:
    """A setting of Hydra; the folder of a sweep may have any characters, as it can in a single run."""
    key, _, value = text.partition("=")
    whole = key.lstrip("+") == "hydra.sweep.dir" and value and not set("'\"") & set(value)
    return f"{key}='{value}'" if whole else text


def _quoted(value: str) -> str:
    """A path, or several with commas between them, so that Hydra takes any character in it.

    What is quoted stays as it is. A text with commas is one path where there is such a file or folder.
    """
    if not value or set("'\"") & set(value):
        return value
    is_one = "," not in value or os.path.exists(os.path.expanduser(os.path.expandvars(value)))
    parts = [value] if is_one else value.split(",")
    return ",".join(part if part == "null" else f"'{part}'" for part in parts)


def _settings(of_hydra: Iterable[str], overrides: Iterable[Override]) -> list[str]:
    """Hydra's settings that the command line does not give: folders, and to write nothing itself."""
    varies = {one.get_key_element().lstrip("+~"): one.is_sweep_override() for one in overrides}
    fixed = ",".join(key for key, several in varies.items() if not several)
    settings = {
        "hydra.sweep.subdir": "${hydra.job.override_dirname}",
        "hydra.job.config.override_dirname.exclude_keys": f"[{fixed}]",
        "hydra.output_subdir": "null",
        "hydra.job_logging.root.handlers": "[]",
        "~hydra.job_logging.handlers.file": "",
    }
    if "hydra/launcher=submitit_slurm" in of_hydra:
        settings["+hydra.launcher.additional_parameters.requeue"] = "true"
    given = {text.partition("=")[0].lstrip("+") for text in of_hydra}
    return [
        f"{key}={value}" if value else key for key, value in settings.items() if key.lstrip("+") not in given
    ]


def _check_launcher(of_hydra: Iterable[str]) -> None:
    """Raises ConfigError where a launcher of submitit is chosen that cannot work here."""
    for text in of_hydra:
        if not text.startswith("hydra/launcher=submitit"):
            continue
        if importlib.util.find_spec("submitit") is None or not _has_plugin():
            raise ConfigError([f"{text} needs hydra-submitit-launcher: pip install 'hornet-train[slurm]'"])
        if text == "hydra/launcher=submitit_slurm" and shutil.which("sbatch") is None:
            raise ConfigError(
                [f"{text}: there is no sbatch here; start it on a machine of the Slurm cluster"]
            )


def _has_plugin() -> bool:
    package = importlib.util.find_spec("hydra_plugins")
    places = package.submodule_search_locations if package is not None else None
    return any((Path(place) / "hydra_submitit_launcher").is_dir() for place in places or ())


def _check_jobs(overrides: list[Override], compose: Callable[[list[str]], object]) -> None:
    """Raises ConfigError where the config of any job is at fault, and says which job that is."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    (jobs,) = BasicSweeper.split_arguments(overrides, max_batch_size=None)
    folders = [one for one in overrides if one.get_key_element() == "run_dir"]
    if len(jobs) > 1 and any(not one.is_sweep_override() for one in folders):
        raise ConfigError(
            ["run_dir= is for a single run; a sweep writes its runs below hydra.sweep.dir=<folder>"]
        )
    varied = [one.get_key_element() for one in overrides if one.is_sweep_override()]
    for job in jobs:
        try:
            compose(job)
        except ConfigError as error:
            values = " ".join(text for text in job if text.partition("=")[0] in varied)
            which = f" (of the job {values})" if values else ""
            raise ConfigError([f"{fault}{which}" for fault in error.faults]) from error
