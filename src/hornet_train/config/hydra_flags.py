"""The flags of Hydra's own command line, which its users know, and what stands for them here."""

from __future__ import annotations

from hornet_train.errors import ConfigError

CONFIG = ("--cfg", "-c")
JOB = "job"
_OWN_CONFIGS = (
    "the configs are this program's own; group=option chooses among them (see --help), and "
    "hornet-train from=<config.yaml> takes a whole one"
)
_INSTEAD = {
    "--resolve": "it belongs to --cfg job, which prints every value as it will be used",
    "--package": "--cfg job prints the whole config",
    "-p": "--cfg job prints the whole config",
    "--info": "--cfg job prints the config, --help the options of each group",
    "-i": "--cfg job prints the config, --help the options of each group",
    "--hydra-help": "--help is about this command, and https://hydra.cc about Hydra",
    "--run": "this is what the command does: leave it out",
    "-r": "this is what the command does: leave it out",
    "--multirun": "hornet-train alone has it; of other commands a loop of the shell makes several",
    "-m": "hornet-train alone has it; of other commands a loop of the shell makes several",
    "--config-path": _OWN_CONFIGS,
    "-cp": _OWN_CONFIGS,
    "--config-name": _OWN_CONFIGS,
    "-cn": _OWN_CONFIGS,
    "--config-dir": _OWN_CONFIGS,
    "-cd": _OWN_CONFIGS,
    "--experimental-rerun": "hornet-train from=<run folder> repeats a run",
    "--shell-completion": "there is none; --help lists the keys",
    "-sc": "there is none; --help lists the keys",
}


def unknown_flag(text: str) -> str:
    """A sentence on a flag that a command does not have."""
    flag = text.partition("=")[0]
    if flag in CONFIG:
        return f"{text}: give it as `--cfg job`, which prints the config"
    return f"unknown flag {text}: {_INSTEAD.get(flag, 'keys are given as key=value (see --help)')}"


def without_config_flag(arguments: list[str]) -> list[str] | None:
    """The arguments without `--cfg job`, in any of Hydra's spellings; None if it is not among them.

    Raises:
        ConfigError: it is to print something else.
    """
    rest, wanted = [], []
    left = iter(arguments)
    for text in left:
        flag, equals, value = text.partition("=")
        if flag in CONFIG:
            wanted.append(value if equals else next(left, ""))
        elif text == f"-c{JOB}":
            wanted.append(JOB)
        else:
            rest.append(text)
    if wrong := [one for one in wanted if one != JOB]:
        raise ConfigError([f"--cfg {wrong[0]}: the config that this program prints is --cfg {JOB}"])
    return [text for text in rest if text != "--resolve"] if wanted else None
