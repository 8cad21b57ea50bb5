"""The texts of --help, and the answers to --help, --cfg job and --version."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version

from hornet_train.cli.command import launched_rank
from hornet_train.cli.group_lines import group_lines
from hornet_train.cli.show_config import bench_config, evaluation_config, info_config, training_config
from hornet_train.config.compose_eval import EVAL_GROUPS
from hornet_train.config.compose_info import BENCH_GROUPS, INFO_GROUPS
from hornet_train.config.compose_train import GROUPS
from hornet_train.config.conf_files import conf_dir
from hornet_train.config.hydra_flags import without_config_flag
from hornet_train.tasks.table import NAMES, find

TRAIN = """\
hornet-train [group=option ...] [key=value ...]

Trains a model, HorNet first of all, and writes checkpoints, metrics and curves to a run folder.
The same command with the same run_dir resumes from the last checkpoint.
from=<run folder | step folder | config.yaml> repeats a run in a new run folder: its config is used in
place of a recipe, and groups and keys change it. Differences in code, versions and machine are reported.

{groups}
The default recipe also chooses augment=digits. With any other data= the default is recipe=none, the
settings that the published trainings have in common.

{keys}

Durations have a unit: 300ep (epochs), 1500it (steps), 5% (of the run).
All keys and their values, for the options chosen: hornet-train ... --cfg job

Examples:
  # the default: a pico model on handwritten digits
  hornet-train
  # a published recipe, on as many GPUs as this machine has
  torchrun --nproc_per_node=gpu -m hornet_train recipe=hornet_t_gf_in1k data.root=/data/imagenet
  # the same on one GPU: same global batch, by gradient accumulation
  hornet-train recipe=hornet_t_gf_in1k data.root=/data/imagenet precision=bf16 compile=true
  # your own class folders, root/train/<class>/ and root/val/<class>/
  hornet-train model=hornet_s_gf data=folder data.root=photos batch_size=256 optim.lr=5e-4 \\
      epochs=50 schedule.warmup=5ep
  # class folders without a split: a fifth of each class is held out; batch size and rate suit their number
  hornet-train model=hornet_t_7x7 data=folder data.root=photos data.val_share=0.2 schedule.warmup=5%
  # a table of files and labels
  hornet-train model=hornet_t_7x7 data=csv data.file=labels.csv data.root=photos data.val_share=0.2
  # fine-tune from a checkpoint; for other classes the head is initialised again
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
  # log to Weights & Biases too, with the largest gating product of each stage
  hornet-train log=wandb log.wandb_project=digits log.gates=true
  # a checkpoint every 500 steps, of which the newest five are kept
  hornet-train checkpoint.every=500it checkpoint.keep=5

  --help       print this text
  --cfg job    print the composed config
  --multirun   a training for each combination of values (optim.lr=1e-3,2e-3 seed=0,1): one after the other,
               or as Slurm jobs with hydra/launcher=submitit_slurm hydra.launcher.partition=gpu; at the end
               a table, the best first, and ranking.csv in the folder of the sweep (hydra.sweep.dir=<folder>)
  --version    print the version
"""

EVALUATE = """\
hornet-eval checkpoint=<run folder | step folder | .safetensors | official .pth> [key=value ...]

Evaluates a checkpoint and writes eval.json, which keeps the results of other evaluations.
Model and preprocessing are those of the training, unless groups or keys change them. Each image counts
exactly once, on any number of processes.

{groups}

{keys}

Examples:
  # the best checkpoint of a run, on its held-out images
  hornet-eval checkpoint=runs/mine
  # a certain checkpoint of a run, its raw weights in place of the averaged ones
  hornet-eval checkpoint=runs/mine/checkpoints/step_00000600 weights=model
  # an official checkpoint; the model is recognised by its weights
  hornet-eval checkpoint=hornet_tiny_gf.pth data=imagenet data.root=/data/imagenet
  # a 22K checkpoint on the 1K classes; the map says which row of the head is which class
  hornet-eval checkpoint=hornet_large_gf_22k.pth init_map=in1k_to_21k_map.pth data=imagenet \\
      data.root=/data/imagenet
  # ImageNet's val folder as unpacked, with all images in one folder
  hornet-eval checkpoint=hornet_tiny_gf.pth data=imagenet data.root=/data/imagenet \\
      data.val_labels=/data/LOC_val_solution.csv
  # another set: ImageNet-A, predicting among its 200 classes only
  hornet-eval checkpoint=hornet_tiny_gf.pth data=imagenet_a data.root=/data/imagenet-a
  # every set found below one folder (imagenet/val, imagenet-a, imagenetv2-..., imagenet-c)
  hornet-eval checkpoint=hornet_tiny_gf.pth suite=all data.root=/data
  # on eight GPUs
  torchrun --nproc_per_node=8 $(which hornet-eval) checkpoint=runs/mine

  --help       print this text
  --cfg job    print the composed config
  --version    print the version
"""


INFO = """\
hornet-info [model=<option>] [key=value ...]
hornet-info --family [image_size=<pixels or [height,width]>]

Prints the parts of a model with their parameters and MACs: for a HorNet also gnConv's cost and the
paper's bound on it; with --family all registered HorNets, with the published figures. The model is not run,
and nothing is downloaded. model.args takes every option of HorNet: depths dim orders scale mixers
gating isotropic img_size stem_stride layer_scale_init and so on.

{groups}

{keys}

Examples:
  # a model as published
  hornet-info model=hornet_s_gf
  # at another image size
  hornet-info model=hornet_s_gf image_size=384
  hornet-info model=hornet_s_gf 'image_size=[192,352]'
  # the paper's ablations: order 1 everywhere; 3x3 mixers; squeeze-and-excitation in place of gating
  hornet-info model=hornet_t_7x7 model.args.orders=1
  hornet-info model=hornet_t_7x7 model.args.mixers=3x3
  hornet-info model=hornet_t_7x7 model.args.gating=se
  # any other model of timm
  hornet-info model=timm model.name=convnext_tiny

  --family     all registered HorNets, at 224 and 384 pixels or at image_size
  --help       print this text
  --version    print the version
"""


BENCH = """\
hornet-bench step|loop|scaling|limit|heads|detectors|service [key=value ...]

  step      speed of models compared with other models of timm, in turns in one process: a training step
            (forward, backward, AdamW) and inference (HorNets fused), each model in its fastest setting
            (memory format, compiled or not); ratios are to the first of peers
  loop      overhead of the training loop over a bare step, overhead of averaged weights, and how long
            the loop waits for a checkpoint
  scaling   how the time of a step grows with batch size, image size and gnConv's order; several
            one-thread processes against one process with as many threads
  limit     this machine's peak rates of matrix products and copies, how close a step comes to them, and
            its ten most expensive operators
  heads     the decode head of UperNet and its fusion of the levels, by a 3x3 convolution or gnConv (HorFPN)
  detectors Mask R-CNN on ResNet-50 beside torchvision's, RoIAlign alone, and the layers of HorFPN beside the
            3x3 convolutions
  service   hornet-predict --serve of a model with random weights, to one client and to several

Keys of a benchmark: hornet-bench <name> --help. Run nothing else meanwhile.

Examples:
  # HorNet-T beside ConvNeXt-T and Swin-T
  hornet-bench step peers=convnext_tiny,swin_tiny_patch4_window7_224
  # against the same network in plain layers, in fp32; write the figures and a plot
  hornet-bench step models=hornet_tiny_7x7 plain=true precision=fp32 out=step.json plot=step.png
  # a quick look: small images, no compilation
  hornet-bench step models=hornet_pico_gf peers=resnet18 image_size=64 compile=false rounds=3
  # where the time of a step goes
  hornet-bench limit model=hornet_small_gf out=limit.json
  # HorFPN's fusion, and our head beside that of Hugging Face's transformers, if it is installed
  hornet-bench heads peer=true
  # two pictures as large as COCO's, RoIAlign left out
  hornet-bench detectors image_size=[800,1216] batch_size=2 parts=detector,pyramid

  --help       print this text, or the keys of a benchmark
  --version    print the version
"""

ONE_BENCH = """\
hornet-bench {name} [key=value ...]

{{groups}}

{{keys}}
"""


def answer_questions(arguments: list[str]) -> list[str] | None:
    """Answer --help, --cfg job or --version of hornet-train and return None; else return the arguments."""
    return _answer(arguments, "hornet-train", TRAIN, GROUPS, "train", config=training_config, training=True)


def answer_eval_questions(arguments: list[str]) -> list[str] | None:
    """Answer --help, --cfg job or --version of hornet-eval and return None; else return the arguments."""
    more = [f"evaluation/{name}" for name in NAMES]
    return _answer(arguments, "hornet-eval", EVALUATE, EVAL_GROUPS, "eval", *more, config=evaluation_config)


def answer_info_questions(arguments: list[str]) -> list[str] | None:
    """Answer --help, --cfg job or --version of hornet-info and return None; else return the arguments."""
    return _answer(arguments, "hornet-info", INFO, INFO_GROUPS, "info", config=info_config)


def answer_bench_questions(arguments: list[str]) -> list[str] | None:
    """Answer --help, --cfg job or --version of hornet-bench and return None; else return the arguments."""
    name = arguments[0] if arguments else ""
    if not (conf_dir() / f"bench_{name}.yaml").is_file():
        return _answer(arguments or ["--help"], "hornet-bench", BENCH, BENCH_GROUPS, "bench_step")
    left = _answer(
        arguments[1:],
        "hornet-bench",
        ONE_BENCH.format(name=name),
        BENCH_GROUPS,
        f"bench_{name}",
        config=lambda overrides: bench_config(name, overrides),
    )
    return None if left is None else [name, *left]


def _answer(
    arguments: list[str],
    command: str,
    text: str,
    groups: tuple[str, ...],
    *files: str,
    config: Callable[[list[str]], str] | None = None,
    training: bool = False,
) -> list[str] | None:
    """Answer --help, --cfg job or --version and return None; else return the arguments.

    Args:
        arguments: of the command line.
        command: its name.
        text: of --help, with the fields {groups} and {keys}.
        groups: that the command takes.
        files: of conf/, without .yaml, whose keys --help lists with their comments.
        config: gives what --cfg job prints for the other arguments.
        training: whether the command trains.
    """
    if {"--help", "-h"} & set(arguments):
        lines = group_lines(groups, find=find, names=NAMES, training=training)
        _print(text.format(groups="\n".join(lines), keys="\n".join(_key_lines(files))))
    elif arguments == ["--version"]:
        _print(f"{command} {version('hornet-train')}\n")
    elif config is not None and (overrides := without_config_flag(arguments)) is not None:
        _print(config(overrides))
    else:
        return arguments
    return None


def _print(text: str) -> None:
    """Write to stdout, from rank 0 only."""
    if launched_rank() == "0":
        sys.stdout.write(text)


def _key_lines(files: Iterable[str]) -> Iterator[str]:
    """The keys outside of the groups: the lines of these files with their comments, without their heads."""
    yield "Keys, key=value; keys of groups as in model.name=hornet_tiny_gf:"
    for name in files:
        file = conf_dir() / f"{name}.yaml"
        lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
        head = lines.index("") + 1 if "" in lines else sum(line.startswith("#") for line in lines)
        yield from (f"  {line}" for line in lines[head:])
