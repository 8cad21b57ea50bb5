"""What the commands say of themselves: --help, --cfg job, --version."""

from __future__ import annotations

import sys
from importlib.metadata import version

from hornet_train.config.compose import EVAL_GROUPS, GROUPS, compose_train, conf_dir, options

TRAIN_EXAMPLES = (
    ("the default: a pico model on handwritten digits", "hornet-train"),
    (
        "a published recipe, on as many GPUs as this machine has",
        "torchrun --nproc_per_node=gpu -m hornet_train recipe=hornet_t_gf_in1k data.root=/data/imagenet",
    ),
    (
        "the same on one GPU: the global batch is kept, micro-batches are added up",
        "hornet-train recipe=hornet_t_gf_in1k data.root=/data/imagenet precision=bf16 compile=true",
    ),
    (
        "your own class folders, root/train/<class>/ and root/val/<class>/",
        "hornet-train model=hornet_s_gf data=folder data.root=photos epochs=50 schedule.warmup=5ep batch_size=256 optim.lr=5e-4",
    ),
    (
        "fine-tune from a checkpoint; a head of other classes is made anew",
        "hornet-train model=hornet_t_7x7 init_from=hornet_tiny_7x7.pth data=folder data.root=photos epochs=30 schedule.warmup=0ep optim.layer_decay=0.7 batch_size=64 optim.lr=2e-4",
    ),
    ("go on with a run that was stopped, from where it stood", "hornet-train run_dir=runs/mine"),
    (
        "any other model of timm in the same loop",
        "hornet-train model=timm model.name=resnet18 data=synthetic data.image_size=64 batch_size=100 epochs=2 schedule.warmup=10%",
    ),
    ("two processes on the CPU", "torchrun --nproc_per_node=2 -m hornet_train dist=cpu"),
    ("Weights & Biases besides the run folder", "hornet-train log=wandb log.wandb_project=digits"),
    ("a checkpoint every 500 steps, five kept", "hornet-train checkpoint.every=500it checkpoint.keep=5"),
)
EVAL_EXAMPLES = (
    ("the best checkpoint of a run, on the images it was held out from", "hornet-eval checkpoint=runs/mine"),
    (
        "an official checkpoint; the model is told from its weights",
        "hornet-eval checkpoint=hornet_tiny_gf.pth data=imagenet data.root=/data/imagenet",
    ),
    (
        "one checkpoint of a run, its raw weights",
        "hornet-eval checkpoint=runs/mine/checkpoints/step_00000600 weights=model",
    ),
    (
        "each image once on eight GPUs",
        "torchrun --nproc_per_node=8 $(which hornet-eval) checkpoint=runs/mine",
    ),
)
FLAGS = """\
  --help       this text
  --cfg job    the composed config, and stop
  --version    the version, and stop"""


def answer_questions(arguments: list[str]) -> list[str] | None:
    """Answer --help, --cfg job or --version on stdout; the overrides where there is something to do."""
    if {"--help", "-h"} & set(arguments):
        sys.stdout.write(_train_help())
    elif "--version" in arguments:
        sys.stdout.write(f"hornet-train {version('hornet-train')}\n")
    elif "--cfg" in arguments:
        at = arguments.index("--cfg")
        rest = arguments[:at] + arguments[at + 1 :]
        if rest[at : at + 1] == ["job"]:
            del rest[at]
        sys.stdout.write(compose_train(rest).yaml())
    else:
        return arguments
    return None


def _train_help() -> str:
    return "\n".join(
        [
            "hornet-train [group=option ...] [key=value ...]",
            "",
            "Trains a model, HorNet first of all, and writes checkpoints, metrics and curves to a run folder.",
            "The same command on the same run_dir goes on where the last checkpoint stands.",
            "",
            *_groups(GROUPS),
            "",
            *_keys("train.yaml"),
            "",
            "Durations have a unit: 300ep (epochs), 1500it (steps), 5% (of the run).",
            "Every key, with the options chosen: hornet-train ... --cfg job",
            "",
            *_examples(TRAIN_EXAMPLES),
            "",
            FLAGS,
            "",
        ]
    )


def eval_help() -> str:
    """The text of `hornet-eval --help`."""
    return "\n".join(
        [
            "hornet-eval checkpoint=<run folder | step folder | .safetensors | official .pth> [key=value ...]",
            "",
            "Evaluates a checkpoint and writes eval.json. Model and preprocessing are what the checkpoint was",
            "trained with, unless other groups or keys say otherwise. Each image counts once on any number of",
            "processes.",
            "",
            *_groups(EVAL_GROUPS),
            "",
            *_keys("eval.yaml"),
            "",
            *_examples(EVAL_EXAMPLES),
            "",
            FLAGS.replace("  --cfg job    the composed config, and stop\n", ""),
            "",
        ]
    )


def _groups(groups: tuple[str, ...]) -> list[str]:
    """Each group with its options, wrapped; the default in brackets."""
    defaults = _defaults()
    lines = ["Groups, group=option; the default in [brackets]:"]
    for group in groups:
        names = [f"[{name}]" if name == defaults.get(group) else name for name in options(group)]
        line = f"  {group:<9}"
        for name in names:
            if len(line) + len(name) > 100:
                lines.append(line)
                line = " " * 11
            line += f" {name}"
        lines.append(line)
    return lines


def _defaults() -> dict[str, str]:
    """group -> option of train.yaml's defaults list."""
    lines = (conf_dir() / "train.yaml").read_text().splitlines()
    pairs = [line.strip("- ").split(": ") for line in lines if line.startswith("  - ") and ": " in line]
    return {group: option for group, option in pairs}


def _keys(file: str) -> list[str]:
    """The keys outside of the groups, as the file itself explains them."""
    lines = (conf_dir() / file).read_text().splitlines()
    start = lines.index("") + 1
    return ["Keys, key=value; keys of groups as in optim.lr=1e-3:", *(f"  {line}" for line in lines[start:])]


def _examples(examples: tuple[tuple[str, str], ...]) -> list[str]:
    return ["Examples:", *(line for what, command in examples for line in (f"  # {what}", f"  {command}"))]
