"""The texts of --help, and the answers to --help, --cfg job and --version."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import version

from hornet_train.cli.group_lines import group_lines
from hornet_train.config.compose import to_yaml
from hornet_train.config.compose_eval import EVAL_GROUPS
from hornet_train.config.compose_info import BENCH_GROUPS, INFO_GROUPS
from hornet_train.config.compose_train import GROUPS, compose_train
from hornet_train.config.conf_files import conf_dir
from hornet_train.redaction import redacted_tree
from hornet_train.tasks.table import NAMES, find

TRAIN = """\
hornet-train [group=option ...] [key=value ...]

Trains a model, HorNet first of all, and writes checkpoints, metrics and curves to a run folder.
The same command on the same run_dir goes on where the last checkpoint stands.
from=<run folder | step folder | config.yaml> repeats a run in a new run folder: its config takes the
place of a recipe, and groups and keys change it. Differences of code, versions and machine are reported.

{groups}
The default recipe also chooses augment=digits. With other data= the default is recipe=none, the
settings that the published trainings have in common.

{keys}

Durations have a unit: 300ep (epochs), 1500it (steps), 5% (of the run).
Every key, with the options chosen: hornet-train ... --cfg job

Examples:
  # the default: a pico model on handwritten digits
  hornet-train
  # a published recipe, on as many GPUs as this machine has
  torchrun --nproc_per_node=gpu -m hornet_train recipe=hornet_t_gf_in1k data.root=/data/imagenet
  # the same on one GPU: the global batch is kept, micro-batches are added up
  hornet-train recipe=hornet_t_gf_in1k data.root=/data/imagenet precision=bf16 compile=true
  # your own class folders, root/train/<class>/ and root/val/<class>/
  hornet-train model=hornet_s_gf data=folder data.root=photos batch_size=256 optim.lr=5e-4 \\
      epochs=50 schedule.warmup=5ep
  # fine-tune from a checkpoint; the head is initialised anew where the classes are others
  hornet-train model=hornet_t_7x7 init_from=hornet_tiny_7x7.pth data=folder data.root=photos \\
      batch_size=64 optim.lr=2e-4 optim.layer_decay=0.7 epochs=30 schedule.warmup=0ep
  # resume a run that was stopped
  hornet-train run_dir=runs/mine
  # repeat a step that was skipped and dumped (guard.dump=true), in fp32 this time
  hornet-train replay=runs/mine/dumps/step_00001234_rank0.safetensors precision=fp32
  # repeat a run with another seed
  hornet-train from=runs/mine seed=1
  # any other model of timm in the same loop
  hornet-train model=timm model.name=resnet18 data=synthetic data.image_size=64 \\
      batch_size=100 epochs=2 schedule.warmup=10%
  # two processes on the CPU
  torchrun --nproc_per_node=2 -m hornet_train dist=cpu
  # Weights & Biases besides the run folder, with the largest gating product of each stage
  hornet-train log=wandb log.wandb_project=digits log.gates=true
  # a checkpoint every 500 steps, the newest five kept
  hornet-train checkpoint.every=500it checkpoint.keep=5

  --help       this text
  --cfg job    the composed config, and stop
  --multirun   a training for each combination of values (optim.lr=1e-3,2e-3 seed=0,1): one after the other,
               or as jobs of Slurm with hydra/launcher=submitit_slurm hydra.launcher.partition=gpu
  --version    the version, and stop
"""

EVALUATE = """\
hornet-eval checkpoint=<run folder | step folder | .safetensors | official .pth> [key=value ...]

Evaluates a checkpoint and writes eval.json. Model and preprocessing are those the checkpoint was
trained with, unless other groups or keys say otherwise. Each image counts once on any number of
processes.

{groups}

{keys}

Examples:
  # the best checkpoint of a run, on the images that were held out
  hornet-eval checkpoint=runs/mine
  # one checkpoint of a run, its raw weights
  hornet-eval checkpoint=runs/mine/checkpoints/step_00000600 weights=model
  # an official checkpoint; its weights tell which model it is
  hornet-eval checkpoint=hornet_tiny_gf.pth data=imagenet data.root=/data/imagenet
  # a 22K checkpoint on the 1K classes, by the map of its rows
  hornet-eval checkpoint=hornet_large_gf_22k.pth init_map=in1k_to_21k_map.pth data=imagenet \\
      data.root=/data/imagenet
  # ImageNet's val folder as it is unpacked, all images in one folder
  hornet-eval checkpoint=hornet_tiny_gf.pth data=imagenet data.root=/data/imagenet \\
      data.val_labels=/data/LOC_val_solution.csv
  # another set: ImageNet-A, its 200 classes only
  hornet-eval checkpoint=hornet_tiny_gf.pth data=imagenet_a data.root=/data/imagenet-a
  # all sets there are below one folder (imagenet/val, imagenet-a, imagenetv2-..., imagenet-c)
  hornet-eval checkpoint=hornet_tiny_gf.pth suite=all data.root=/data
  # on eight GPUs
  torchrun --nproc_per_node=8 $(which hornet-eval) checkpoint=runs/mine

  --help       this text
  --version    the version, and stop
"""


INFO = """\
hornet-info [model=<option>] [key=value ...]
hornet-info --family [image_size=<pixels>]

Tells what a model is made of and what it costs: for a HorNet part by part, with gnConv's cost beside
the paper's bound; with --family every registered HorNet beside the published figures. Nothing is
computed or downloaded. model.args takes every option of HorNet: depths dim orders scale mixers
gating isotropic img_size stem_stride layer_scale_init and so on.

{groups}

{keys}

Examples:
  # a model as it is published
  hornet-info model=hornet_s_gf
  # at another image size
  hornet-info model=hornet_s_gf image_size=384
  # the paper's ablations: order 1 everywhere; 3x3 mixers; squeeze-and-excitation in place of gating
  hornet-info model=hornet_t_7x7 model.args.orders=1
  hornet-info model=hornet_t_7x7 model.args.mixers=3x3
  hornet-info model=hornet_t_7x7 model.args.gating=se
  # any other model of timm
  hornet-info model=timm model.name=convnext_tiny

  --family     every registered HorNet, at 224 and 384 pixels or at image_size
  --help       this text
  --version    the version, and stop
"""


BENCH = """\
hornet-bench step|loop|scaling|limit [key=value ...]

  step      models beside others of timm, in turns in one process: a training step (forward, backward,
            AdamW) and an inference (HorNets fused) of each, in the fastest of its settings (layout,
            compiled or not); ratios are to the first of peers
  loop      what the training loop adds to a bare step, averaged weights to the loop's, and for how long a
            checkpoint keeps it waiting
  scaling   how the time of a step grows with batch, pixels and gnConv's order, and what processes of one
            thread each reach beside one process of as many
  limit     this machine's peaks of matrix products and copies, the step's share of each, and its ten
            costliest operators

The keys of each: hornet-bench <name> --help. Let nothing else run meanwhile.

Examples:
  # HorNet-T beside ConvNeXt-T and Swin-T
  hornet-bench step peers=convnext_tiny,swin_tiny_patch4_window7_224
  # against the same network in plain layers, fp32, figures and a plot kept
  hornet-bench step models=hornet_tiny_7x7 plain=true precision=fp32 out=step.json plot=step.png
  # quickly: small images, without compiling
  hornet-bench step models=hornet_pico_gf peers=resnet18 image_size=64 compile=false rounds=3
  # where the time of a step goes
  hornet-bench limit model=hornet_small_gf out=limit.json

  --help       this text, or a bench's keys
  --version    the version, and stop
"""

ONE_BENCH = """\
hornet-bench {name} [key=value ...]

{{groups}}

{{keys}}
"""


def answer_questions(arguments: list[str]) -> list[str] | None:
    """Answer --help, --cfg job or --version of hornet-train; the overrides where there is something to do."""
    asked = {"--cfg=job", "--cfg"} & set(arguments) and not {"--help", "-h"} & set(arguments)
    if asked:
        overrides = [a for a in arguments if a not in ("--cfg=job", "--cfg", "job")]
        composed = compose_train(overrides, find=find, names=NAMES)
        _say(to_yaml(redacted_tree(composed.tree)))
        return None
    return _answer(arguments, "hornet-train", TRAIN, GROUPS, "train", training=True)


def answer_eval_questions(arguments: list[str]) -> list[str] | None:
    """Answer --help or --version of hornet-eval."""
    more = [f"evaluation/{name}" for name in NAMES]
    return _answer(arguments, "hornet-eval", EVALUATE, EVAL_GROUPS, "eval", *more)


def answer_info_questions(arguments: list[str]) -> list[str] | None:
    """Answer --help or --version of hornet-info."""
    return _answer(arguments, "hornet-info", INFO, INFO_GROUPS, "info")


def answer_bench_questions(arguments: list[str]) -> list[str] | None:
    """Answer --help or --version of hornet-bench and of each bench."""
    name = arguments[0] if arguments else ""
    if (conf_dir() / f"bench_{name}.yaml").is_file():
        return _answer(arguments, "hornet-bench", ONE_BENCH.format(name=name), BENCH_GROUPS, f"bench_{name}")
    return _answer(arguments or ["--help"], "hornet-bench", BENCH, BENCH_GROUPS, "bench_step")


def _answer(
    arguments: list[str],
    command: str,
    text: str,
    groups: tuple[str, ...],
    *files: str,
    training: bool = False,
) -> list[str] | None:
    """Answer --help or --version; give the arguments back where neither is among them.

    Args:
        arguments: of the command line.
        command: its name.
        text: of --help, with places for the groups and the keys.
        groups: of the command.
        files: of conf/, without .yaml, whose keys are explained.
        training: whether the command trains.
    """
    if {"--help", "-h"} & set(arguments):
        lines = group_lines(groups, find=find, names=NAMES, training=training)
        _say(text.format(groups="\n".join(lines), keys="\n".join(_key_lines(files))))
    elif arguments == ["--version"]:
        _say(f"{command} {version('hornet-train')}\n")
    else:
        return arguments
    return None


def _say(text: str) -> None:
    """To stdout, from rank 0."""
    if os.environ.get("RANK", "0") == "0":
        sys.stdout.write(text)


def _key_lines(files: Iterable[str]) -> Iterator[str]:
    """The keys outside of the groups, as the files themselves explain them after their heads."""
    yield "Keys, key=value; those of groups as in model.name=hornet_tiny_gf:"
    for name in files:
        file = conf_dir() / f"{name}.yaml"
        lines = file.read_text().splitlines() if file.is_file() else []
        head = lines.index("") + 1 if "" in lines else sum(line.startswith("#") for line in lines)
        yield from (f"  {line}" for line in lines[head:])
