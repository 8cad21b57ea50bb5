"""Hydra's multirun: a command line with several values of a key is several jobs, started by a launcher."""

from __future__ import annotations

import importlib.util
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from hornet_train.config.compose import FREE, compose_train
from hornet_train.config.overrides import PATHS, conf_dir
from hornet_train.errors import ConfigError

Job = Callable[[list[str]], int]  # the overrides of `hornet-train` -> its exit code


@dataclass(frozen=True)
class Ended:
    """A job of a sweep that has come to its end."""

    overrides: list[str]
    code: int


def sweep(arguments: list[str], job: Job) -> list[Ended]:
    """Start `job` for each combination of the values that are given, by the launcher that is chosen.

    The run folder of a job is `<hydra.sweep.dir>/<its values of the keys that vary>`: the same again when the
    command is given again with the same hydra.sweep.dir, and when Slurm queues the job again.

    Args:
        arguments: overrides of hornet-train, some with several values, and Hydra's (`hydra/launcher=`).
        job: a function at the top of its module: launchers send it to other machines by its name.

    Raises:
        ConfigError: any job's config is at fault; none was started. Or the launcher is not to be had.
    """
    of_hydra = [text for text in arguments if text.lstrip("+~").startswith(("hydra.", "hydra/"))]
    of_jobs = [_as_hydra_reads(text) for text in arguments if text not in of_hydra]
    _check_launcher(of_hydra)
    try:
        overrides = OverridesParser.create().parse_overrides(of_jobs)
        _check_jobs(overrides)
        with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir()), job_name="hornet-train"):
            hydra = GlobalHydra.instance().hydra
            assert hydra is not None
            settings = [*_settings(of_hydra, overrides), *of_hydra]
            returned = hydra.multirun("train", _Task(job), [*of_jobs, *settings])
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError([" ".join(str(error).split())]) from error
    return [Ended(list(one.overrides), one.return_value) for batch in returned for one in batch]


@dataclass(frozen=True)
class _Task:
    """What Hydra calls in a job's process. The config that it composed is left aside: `job` has our rules."""

    job: Job

    def __call__(self, _config: object) -> int:
        hydra = HydraConfig.get()
        overrides = list(hydra.overrides.task)
        if not any(text.startswith("run_dir=") for text in overrides):
            overrides.append(f"run_dir={hydra.runtime.output_dir}")
        return self.job(overrides)


def _as_hydra_reads(text: str) -> str:
    """A free mapping's key may be new to Hydra, and a path may have what its grammar does not take."""
    key, _, value = text.partition("=")
    if any(key.startswith(f"{free}.") for free in FREE):
        return f"++{text}"
    if key in PATHS and value not in ("", "null") and not set("'\",") & set(value):
        return f"{key}='{value}'"
    return text


def _settings(of_hydra: Iterable[str], overrides: Iterable[Override]) -> list[str]:
    """What Hydra is told unless the command line does: names of folders, and to write nothing itself."""
    varies = {
        one.get_key_element().lstrip("+~"): one.is_sweep_override() for one in overrides
    }  # the last counts
    fixed = ",".join(key for key, several in varies.items() if not several)
    settings = {
        "hydra.sweep.dir": time.strftime("runs/sweep_%Y-%m-%d_%H-%M-%S"),
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
    """Raises ConfigError where a launcher of submitit is asked for and cannot work here."""
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


def _check_jobs(overrides: list[Override]) -> None:
    """Raises ConfigError where any job's config is at fault, with the job that shows it first."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    (jobs,) = BasicSweeper.split_arguments(overrides, max_batch_size=None)
    folders = [one for one in overrides if one.get_key_element() == "run_dir"]
    if len(jobs) > 1 and any(not one.is_sweep_override() for one in folders):
        raise ConfigError(["run_dir= is of one run: hydra.sweep.dir=<folder> for those of a sweep"])
    varied = [one.get_key_element() for one in overrides if one.is_sweep_override()]
    for job in jobs:
        try:
            compose_train(job)
        except ConfigError as error:
            values = " ".join(text for text in job if text.partition("=")[0] in varied)
            told = f" (of the job {values})" if values else ""
            raise ConfigError([f"{fault}{told}" for fault in error.faults]) from error
