"""`--multirun`: several values of a key make several jobs, which one of Hydra's launchers starts."""

from __future__ import annotations

import importlib.util
import os
import shutil
import time
from collections import Counter
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
from hornet_train.config.compose import Composed
from hornet_train.config.compose_train import GROUPS, compose_train, task_and_run
from hornet_train.config.hydra_flags import unknown_flag
from hornet_train.config.key import keys_where
from hornet_train.config.overrides import FROM, TASK, texts, unreadable
from hornet_train.config.schema import Config
from hornet_train.config.sweep_paths import as_hydra_reads, as_typed, quoted
from hornet_train.config.task_schema import Find
from hornet_train.errors import ConfigError


@dataclass(frozen=True)
class JobResult:
    """What a job came to.

    Attributes:
        code: its exit code.
        reason: why it failed, its error message; empty if it did not.
        run_dir: the run folder.
        metric, value, direction: its best evaluation, of which "max" or "min" is better; None without any.
        weights, step: of that evaluation.
    """

    code: int
    reason: str = ""
    run_dir: str = ""
    metric: str | None = None
    value: float | None = None
    direction: str = "max"
    weights: str | None = None
    step: int | None = None


Job = Callable[[list[str]], JobResult]  # the overrides of `hornet-train` -> what came of it


@dataclass(frozen=True)
class Ended:
    """A job of a sweep that has ended.

    Attributes:
        overrides: as a user would type them for a single run.
        result: what it came to.
        folder: of the sweep.
    """

    overrides: list[str]
    result: JobResult
    folder: Path

    @property
    def code(self) -> int:
        """Its exit code."""
        return self.result.code


@dataclass(frozen=True)
class Planned:
    """A job of a sweep before it starts: its values of the keys that vary, as text, and its config."""

    values: str
    composed: Composed[Config]


def sweep(
    arguments: list[str],
    job: Job,
    *,
    find: Find,
    names: Sequence[str],
    held_folder: Callable[[Path], AbstractContextManager[Path]],
    check: Callable[[Sequence[Planned]], None] = lambda _: None,
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
        check: looks at the jobs before the first one starts; not called where they run on other machines.

    Raises:
        ConfigError: the config of any job is at fault, and none was started; or there is no such launcher.
    """
    of_hydra = [text for text in arguments if text.lstrip("+~").startswith(("hydra.", "hydra/"))]
    of_jobs = [text for text in arguments if text not in of_hydra]
    of_hydra = [_with_quoted_folder(text) for text in of_hydra]
    task = _task_of_first_job(of_jobs, find, names)
    not_hydras = [] if task.built_in else [text for text in of_jobs if text.startswith(f"{TASK}=")]
    paths = keys_where(task.schema.train, lambda key: key.path) | {FROM}
    of_jobs = [_as_hydra_reads(text, task, paths) for text in of_jobs if text not in not_hydras]
    _check_launcher(of_hydra)
    try:
        overrides = _parsed(of_jobs)
        planned = _planned(
            overrides,
            lambda job: [as_typed(text, paths) for text in job],
            lambda job: compose_train([*job, *not_hydras], find=find, names=names),
        )
        if twice := sorted(job for job, times in Counter(one.values for one in planned).items() if times > 1):
            raise ConfigError([f"the sweep has a job several times, {twice[0]}: give each value once"])
        if not any(text.startswith("hydra/launcher=submitit_slurm") for text in of_hydra):
            check(planned)
        folder = str(conf_files.conf_dir())
        with initialize_config_dir(version_base="1.3", config_dir=folder, job_name="hornet-train"):
            hydra = GlobalHydra.instance().hydra
            assert hydra is not None
            settings = [*_settings(of_hydra, overrides), *of_hydra]
            with ExitStack() as stack:
                if not any(text.lstrip("+").startswith("hydra.sweep.dir=") for text in settings):
                    place = Path(time.strftime("runs/sweep_%Y-%m-%d_%H-%M-%S"))
                    settings.append(f"hydra.sweep.dir={stack.enter_context(held_folder(place))}")
                returned = hydra.multirun("train", _HydraTask(job, not_hydras, paths), [*of_jobs, *settings])
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError([" ".join(str(error).split())]) from error
    return [
        Ended(
            [as_typed(text, paths) for text in one.overrides],
            one.return_value,
            Path(str(one.hydra_cfg.hydra.sweep.dir)),
        )
        for batch in returned
        for one in batch
    ]


@dataclass(frozen=True)
class _HydraTask:
    """What Hydra calls in the process of a job.

    The config that Hydra has composed is not used: `job` composes its own, by our rules.

    Attributes:
        job: what to do.
        more: overrides of each job that Hydra cannot read.
        paths: the keys that are paths.
    """

    job: Job
    more: Sequence[str]
    paths: frozenset[str]

    def __call__(self, _config: object) -> JobResult:
        hydra = HydraConfig.get()
        overrides = [*(as_typed(text, self.paths) for text in hydra.overrides.task), *self.more]
        if not any(text.startswith("run_dir=") for text in overrides):
            overrides.append(f"run_dir={hydra.runtime.output_dir}")
        return self.job(overrides)


def _task_of_first_job(overrides: Iterable[str], find: Find, names: Sequence[str]) -> ChosenTask:
    """The task by the first value of each key; a job of another task is composed as such all the same."""
    given = {key: value.partition(",")[0] for key, value in texts(list(overrides)).items()}
    return task_and_run(given, find=find, names=names)[0]


def _as_hydra_reads(text: str, task: ChosenTask, paths: frozenset[str]) -> str:
    """The override in a form that Hydra accepts: it refuses keys that it does not know, and some paths."""
    key, equals, value = text.partition("=")
    schema = task.schema.train
    key, plus = key.lstrip("+"), len(key) - len(key.lstrip("+"))
    text = as_hydra_reads(key, value) if key in paths and value else text[plus:]
    free = tuple(f"{one}." for one in keys_where(schema, lambda key: key.free))
    unknown_to_hydra = task.name != conf_files.default_options()[TASK] and key not in GROUPS
    if equals and (key == FROM or key.startswith(free) or unknown_to_hydra):
        return f"++{text}"
    return f"{'+' * plus}{text}"


def _with_quoted_folder(text: str) -> str:
    """A setting of Hydra; the folder of a sweep may have any characters, as it can in a single run. Hydra
    replaces what stands in ${}, unless the environment has it."""
    key, _, value = text.partition("=")
    if key.lstrip("+") != "hydra.sweep.dir" or value[:1] in ("'", '"'):
        return text
    if not value:
        raise ConfigError(["hydra.sweep.dir= is empty: give it a path, or leave it out"])
    return f"{key}={quoted(os.path.expanduser(os.path.expandvars(value)))}"


def _parsed(texts: Sequence[str]) -> list[Override]:
    """The overrides as Hydra reads them.

    Raises:
        ConfigError: with a sentence for each that it cannot read.
    """
    parser, found, faults = OverridesParser.create(), [], []
    for text in texts:
        try:
            found.append(parser.parse_override(text))
        except HydraException:
            malformed = unreadable(text) if "=" in text else f"{text!r} is not of the form key=value"
            faults.append(unknown_flag(text) if text.startswith("-") else malformed)
    if faults:
        raise ConfigError(faults)
    return found


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


def _planned(
    overrides: list[Override],
    typed: Callable[[list[str]], list[str]],
    compose: Callable[[list[str]], Composed[Config]],
) -> list[Planned]:
    """The jobs that the values make.

    Args:
        overrides: as Hydra reads them.
        typed: gives the overrides of a job as a user would type them.
        compose: gives the config for these.

    Raises:
        ConfigError: the config of a job is at fault; it says which job that is.
    """
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    (jobs,) = BasicSweeper.split_arguments(overrides, max_batch_size=None)
    folders = [one for one in overrides if one.get_key_element() == "run_dir"]
    if len(jobs) > 1 and any(not one.is_sweep_override() for one in folders):
        raise ConfigError(
            ["run_dir= is for a single run; a sweep writes its runs below hydra.sweep.dir=<folder>"]
        )
    varied = [one.get_key_element() for one in overrides if one.is_sweep_override()]
    planned = []
    for job in map(typed, jobs):
        values = " ".join(text for text in job if text.partition("=")[0] in varied)
        try:
            planned.append(Planned(values, compose(job)))
        except ConfigError as error:
            which = f" (of the job {values})" if values else ""
            raise ConfigError([f"{fault}{which}" for fault in error.faults]) from error
    return planned
