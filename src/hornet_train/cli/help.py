"""What the commands say of themselves: --help, --cfg job, --version."""

from __future__ import annotations

import os
import sys
from importlib.metadata import version

from hornet_train.config.compose import (
    BENCH_GROUPS,
    EVAL_GROUPS,
    EVALUATION_ONLY,
    GROUPS,
    INFO_GROUPS,
    compose_train,
    to_yaml,
)
from hornet_train.config.overrides import conf_dir, options
from hornet_train.redaction import redacted_tree

TRAIN = """\
hornet-train [group=option ...] [key=value ...]

Trains a model, HorNet first of all, and writes checkpoints, metrics and curves to a run folder.
The same command on the same run_dir goes on where the last checkpoint stands.
from=<run folder | step folder | config.yaml> repeats a run in a new run folder, with its config as the
base in place of a recipe; groups and keys change it. What differs from then is said.

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
  # fine-tune from a checkpoint; a head for other classes is made anew
  hornet-train model=hornet_t_7x7 init_from=hornet_tiny_7x7.pth data=folder data.root=photos \\
      batch_size=64 optim.lr=2e-4 optim.layer_decay=0.7 epochs=30 schedule.warmup=0ep
  # go on with a run that was stopped, from where it stood
  hornet-train run_dir=runs/mine
  # look into a step that was skipped, with guard.dump=true; would fp32 have helped?
  hornet-train replay=runs/mine/dumps/step_00001234_rank0.safetensors precision=fp32
  # once more what that run did, with another seed
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
        asked_of = [a for a in arguments if a not in ("--cfg=job", "--cfg", "job")]
        _say(to_yaml(redacted_tree(compose_train(asked_of).tree)))
        return None
    return _answer(arguments, "hornet-train", TRAIN, GROUPS, "train.yaml")


def answer_eval_questions(arguments: list[str]) -> list[str] | None:
    """Answer --help or --version of hornet-eval."""
    return _answer(arguments, "hornet-eval", EVALUATE, EVAL_GROUPS, "eval.yaml")


def answer_info_questions(arguments: list[str]) -> list[str] | None:
    """Answer --help or --version of hornet-info."""
    return _answer(arguments, "hornet-info", INFO, INFO_GROUPS, "info.yaml")


def answer_bench_questions(arguments: list[str]) -> list[str] | None:
    """Answer --help or --version of hornet-bench and of each bench."""
    name = arguments[0] if arguments else ""
    if (conf_dir() / f"bench_{name}.yaml").is_file():
        text, file = ONE_BENCH.format(name=name), f"bench_{name}.yaml"
        return _answer(arguments, "hornet-bench", text, BENCH_GROUPS, file)
    return _answer(arguments or ["--help"], "hornet-bench", BENCH, BENCH_GROUPS, "bench_step.yaml")


def _answer(
    arguments: list[str], command: str, text: str, groups: tuple[str, ...], file: str
) -> list[str] | None:
    """Say what --help or --version ask for; give the arguments back where neither is among them."""
    if {"--help", "-h"} & set(arguments):
        _say(
            text.format(groups=_groups(groups, EVALUATION_ONLY if groups == GROUPS else ()), keys=_keys(file))
        )
    elif arguments == ["--version"]:
        _say(f"{command} {version('hornet-train')}\n")
    else:
        return arguments
    return None


def _say(text: str) -> None:
    """To stdout, from rank 0."""
    if os.environ.get("RANK", "0") == "0":
        sys.stdout.write(text)


def _groups(groups: tuple[str, ...], refused: tuple[str, ...]) -> str:
    """Each group with its options but for those that are refused, wrapped; the default in brackets."""
    defaults = _defaults()
    lines = ["Groups, group=option; the default in [brackets]:"]
    for group in groups:
        line = f"  {group:<9}"
        for option in sorted(set(options(group)) - set(refused)):
            name = f"[{option}]" if option == defaults[group] else option
            if len(line) + len(name) > 100:
                lines.append(line)
                line = " " * 11
            line += f" {name}"
        lines.append(line)
    return "\n".join(lines)


def _defaults() -> dict[str, str]:
    """group -> option of train.yaml's defaults list."""
    lines = (conf_dir() / "train.yaml").read_text().splitlines()
    pairs = [line.strip("- ").split(": ") for line in lines if line.startswith("  - ") and ": " in line]
    return {pair[0]: pair[1] for pair in pairs}


def _keys(file: str) -> str:
    """The keys outside of the groups, as the file itself explains them."""
    lines = (conf_dir() / file).read_text().splitlines()
    start = lines.index("") + 1
    title = "Keys, key=value; those of groups as in model.name=hornet_tiny_gf:"
    return "\n".join([title, *(f"  {line}" for line in lines[start:])])
