"""The config that every task shares: a frozen dataclass for each group of conf/, each field with its unit.

A task declares subclasses of `Config` and `EvalConfig`, with its own `data`, `augment`, `task` and `recipe`.
The defaults stand in conf/ and nowhere else. pydantic checks types and ranges and reports every fault.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hornet_train.config.fields import (
    Count,
    Fraction,
    Free,
    ImageSize,
    Length,
    Minutes,
    Momentum,
    NotNegative,
    Positive,
    RunLength,
    Share,
    group,
)
from hornet_train.config.key import Key

Stage = Annotated[int, Field(ge=0, strict=True)]
FilePath = Annotated[str | None, Key(path=True)]
NeutralPath = Annotated[str | None, Key(path=True, neutral=True)]


@group
class Model:
    """The backbone, or another model of timm."""

    name: Annotated[str, Key(names_option=True)]  # as timm knows it
    drop_path: Annotated[  # rate of the last block; the first has 0
        Fraction, Key(training_only=True, no_cost=True)
    ]
    num_classes: Count | None  # null: as many as the data have
    in_chans: Annotated[Count, Key(absent=(3,))]  # channels of its images; 1: grey
    grad_checkpointing: Annotated[  # recompute activations in the backward pass; true, or in these stages
        bool | tuple[Stage, ...], Key(neutral=True, training_only=True, no_cost=True)
    ]
    kernels: Annotated[  # auto: our own kernels where they are faster; plain: torch's operators alone
        Literal["auto", "plain"], Key(no_cost=True)
    ]
    channels_last: Annotated[bool, Key(no_cost=True)]  # memory format of images and kernels
    args: Annotated[Free, Key(free=True)]  # more arguments of the model's constructor


@group
class Data:
    """What the loader of every task reads. A task adds where its samples are and their preprocessing."""

    workers: Annotated[  # reading processes of each rank
        int, Field(ge=0, le=256, strict=True), Key(neutral=True, how_read=True)
    ]
    prefetch: Annotated[Count, Key(neutral=True, how_read=True)]  # batches that each worker prepares ahead
    drop_last: Annotated[  # leave out the shorter last step of an epoch
        bool, Key(training_only=True, how_read=True)
    ]
    max_bad: Annotated[  # largest share of unreadable training samples; others are read in their place
        Fraction, Key(neutral=True, training_only=True, how_read=True)
    ]
    on_bad: Annotated[  # an unreadable sample of an evaluation; null: hornet-eval ends, a training skips it
        Literal["error", "skip"] | None, Key(neutral=True, how_read=True)
    ]
    source: Annotated[str, Key(names_option=True)]  # kind of storage


@group
class Augment:
    """Random changes of training samples; their keys are the task's own."""


@group
class Optim:
    """AdamW."""

    lr: Positive  # peak learning rate, for a step of batch_size images
    weight_decay: NotNegative
    betas: tuple[Momentum, Momentum]
    eps: Positive
    clip_grad: Positive | None  # largest norm of the gradient; null: no clipping
    layer_decay: Share | None  # learning-rate multiplier per layer, towards the input
    layer_decay_by: Annotated[Literal["layers", "stages"], Key(absent=("layers",))]
    layer_decay_depth: Annotated[Count | None, Key(absent=(None,))]  # see `structure.stage_ids`, `layer_ids`
    implementation: Literal["auto", "fused", "foreach", "loop"]


@group
class CosineSchedule:
    """Linear warmup, then half a cosine down to min_lr."""

    kind: Annotated[Literal["cosine"], Key(names_option=True)]
    warmup: Length
    min_lr: NotNegative


@group
class PolySchedule:
    """Linear warmup, then a polynomial down to min_lr."""

    kind: Annotated[Literal["poly"], Key(names_option=True)]
    warmup: Length
    min_lr: NotNegative
    power: Positive


@group
class MultistepSchedule:
    """Linear warmup, then a constant rate that is multiplied by gamma at each milestone."""

    kind: Annotated[Literal["multistep"], Key(names_option=True)]
    warmup: Length
    milestones: tuple[Length, ...]  # from the start of the run
    gamma: Positive


Schedule = Annotated[CosineSchedule | PolySchedule | MultistepSchedule, Field(discriminator="kind")]


@group
class Ema:
    """The averaged weights."""

    enabled: bool
    decay: Momentum  # per step
    warmup: bool  # start with a small decay: min(decay, (1 + step) / (10 + step))


@group
class Dist:
    """Processes and devices."""

    strategy: Literal["ddp", "fsdp"]  # of a training on several processes: a full model in each, or sharded
    device: Literal["auto", "cpu", "cuda"]
    backend: Literal["auto", "nccl", "gloo"]
    threads: Count | None  # CPU threads of each process; null: torch's own choice
    timeout_minutes: Minutes  # without progress of any process; a collective may take one minute more
    find_unused_parameters: bool  # DDP's option, for models with weights that some steps do not use


@group
class Log:
    """Where the metrics go, and how often."""

    every: Length  # between two `train` events
    gates: bool  # `train` events also have the largest gating product of each stage; HorNet only
    wandb: bool
    wandb_project: str
    wandb_entity: str | None
    wandb_name: str | None  # null: the run folder's name
    tensorboard: bool


@group
class Task:
    """The task, and settings of its loss."""

    name: str  # as `task=` takes it


@group
class Recipe:
    """Where the settings come from. It is shown and stored, and changes nothing."""

    name: str
    source: str
    command: str | None  # of the source
    published: dict[str, float]  # metric -> the published result; empty where there is none
    run_by_us: bool


@group
class Checkpoint:
    """When to save."""

    every: Length
    keep: Count  # how many of the newest scheduled ones are kept, besides the best and the last
    max_minutes: Minutes | None  # of training, then save and end with exit code 75; null: no limit


@group
class Guard:
    """A step whose loss or gradient is not finite never updates the weights. This is what else happens."""

    max_skips: Count | None  # such steps in a row before the run goes back to a checkpoint; null: never
    spike: (
        Annotated[float, Field(gt=1, strict=True)] | None
    )  # a loss so many times the mean also sends it back
    window: Length  # the longest stretch before the failure that is left out after going back
    backoff: Share | None  # multiplies the learning rate after going back; null: 1
    max_rollbacks: Annotated[int, Field(ge=0, strict=True)]  # a failure after so many of them ends the run
    dump: bool  # save the micro-batches of such steps, for hornet-train replay=


@group
class Eval:
    """Evaluation during training."""

    every: Length
    batch_size: Count | None  # images a rank forwards at once; null: as in training


@group
class Config:
    """A training run."""

    run_dir: Annotated[FilePath, Key(neutral=True)]  # null: runs/<date>_<model>_<data>
    resume: Annotated[Literal["auto", "force", "restart"], Key(neutral=True)]
    seed: Annotated[int, Field(ge=0, lt=2**63, strict=True)]
    epochs: RunLength  # length of the run; a bare number is epochs
    batch_size: Count  # images of a step over all ranks
    micro_batch_size: Annotated[  # images a rank forwards at once, at most; null: its share of batch_size
        Count | None, Key(neutral=True)
    ]
    precision: Literal["fp32", "bf16", "fp16"]
    compile: (
        bool | Literal["blocks"]
    )  # torch.compile the model of the training step, or each block of it once
    deterministic: bool  # deterministic kernels only, for bit-equal runs on a GPU
    init_from: NeutralPath  # initial weights: a run, a step folder, .safetensors or an official .pth
    init_map: NeutralPath  # which row of a 22K head each class takes: a .pth or .txt of indices
    model: Model
    data: Data
    augment: Augment
    optim: Optim
    schedule: Schedule
    ema: Ema
    dist: Annotated[Dist, Key(neutral=True)]
    log: Annotated[Log, Key(neutral=True)]
    task: Task
    recipe: Annotated[Recipe, Key(neutral=True)]
    checkpoint: Annotated[Checkpoint, Key(neutral=True)]
    guard: Annotated[Guard, Key(neutral=True)]
    eval: Annotated[Eval, Key(neutral=True)]


@group
class InfoConfig:
    """What hornet-info is asked about a model."""

    image_size: ImageSize | None  # pixels, square or [height,width]; null: what the model is made for
    num_classes: Count  # of its head, where model.num_classes is null
    model: Model


@group
class EvalConfig:
    """An evaluation of a checkpoint."""

    checkpoint: FilePath
    weights: Literal["ema", "model"] | None  # null: the best in training, else the averaged ones
    out: FilePath  # null: eval.json beside the checkpoint
    init_map: FilePath  # which row of the checkpoint's head each class takes: a .pth or .txt of indices
    batch_size: Count  # images a rank forwards at once
    precision: Literal["fp32", "bf16", "fp16"]
    fuse: bool  # fold a HorNet's scales and norms into the layers beside them
    model: Model
    data: Data
    dist: Dist
