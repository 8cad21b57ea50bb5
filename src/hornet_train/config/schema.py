"""The config, typed: a frozen dataclass for each group of conf/, every field with its unit.

The defaults stand in conf/ and nowhere else. pydantic checks types and ranges and reports every fault.
"""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import BeforeValidator, Field

from hornet_train.config.data_schema import Data
from hornet_train.config.fields import (
    Count,
    Fraction,
    Free,
    Jitter,
    Length,
    Minutes,
    Momentum,
    NotNegative,
    Positive,
    RunLength,
    Share,
    group,
)
from hornet_train.errors import did_you_mean

Stage = Annotated[int, Field(ge=0, strict=True)]


@group
class Model:
    """`name`: as timm knows it. `args`: more of its constructor's arguments."""

    name: str
    drop_path: Fraction  # of the last block; the first has 0
    num_classes: Count | None  # null: as many as the data have
    grad_checkpointing: (
        bool | tuple[Stage, ...]
    )  # recompute activations in the backward pass; of these stages
    kernels: Literal[
        "auto", "plain"
    ]  # auto: passes of our own where they are faster; plain: torch's operators
    channels_last: bool  # memory format of images and kernels
    args: Free


@group
class Augment:
    """Of training images."""

    scale: tuple[Share, Share]  # random resized crop: share of the area
    ratio: tuple[Positive, Positive]  # and width / height
    hflip: Fraction  # probability
    policy: str | None  # rand-m9-mstd0.5-inc1, original, v0, 3a, augmix-m3-w3, ta_wide, three
    color_jitter: Jitter | None  # after the policy; one number stands for the first three
    color_jitter_prob: Fraction  # of the colour jitter
    grayscale: Fraction  # probability
    blur: Fraction  # probability of a Gaussian blur of 0.1 to 2 pixels
    erase: Fraction  # probability of random erasing
    mixup: NotNegative  # alpha of Beta(alpha, alpha); 0 for none
    cutmix: NotNegative
    mix_prob: Fraction  # share of the micro-batches that are mixed
    switch_prob: Fraction  # of these, the share with CutMix where both are on
    repeats: Count  # how often each image stands in a step (repeated augmentation)
    start_size: Count | None  # pixels; image size of the first epoch, growing to data.image_size
    grow_until: Length  # from the start of the run
    size_step: Count  # pixels; sizes on the way are multiples of it


@group
class Optim:
    """AdamW."""

    lr: Positive  # peak, for the whole of batch_size
    weight_decay: NotNegative
    betas: tuple[Momentum, Momentum]
    eps: Positive
    clip_grad: Positive | None  # greatest norm of the gradient; null does not clip
    layer_decay: Share | None  # rate's factor a layer towards the input
    implementation: Literal["auto", "fused", "foreach", "loop"]


@group
class CosineSchedule:
    kind: Literal["cosine"]
    warmup: Length
    min_lr: NotNegative


@group
class PolySchedule:
    kind: Literal["poly"]
    warmup: Length
    min_lr: NotNegative
    power: Positive


@group
class MultistepSchedule:
    kind: Literal["multistep"]
    warmup: Length
    milestones: tuple[Length, ...]  # from the start of the run
    gamma: Positive


Schedule = Annotated[CosineSchedule | PolySchedule | MultistepSchedule, Field(discriminator="kind")]


@group
class Ema:
    """The averaged weights."""

    enabled: bool
    decay: Momentum  # a step
    warmup: bool  # start with a small decay: min(decay, (1 + step) / (10 + step))


@group
class Dist:
    strategy: Literal["ddp", "fsdp"]  # of a training with many processes: whole models, or spread over them
    device: Literal["auto", "cpu", "cuda"]
    backend: Literal["auto", "nccl", "gloo"]
    threads: Count | None  # of each process on the CPU; null: torch's own choice
    timeout_minutes: Minutes  # without progress of any process; a collective may take one more
    find_unused_parameters: bool  # DDP's; for models with weights that a step may not use


@group
class Log:
    every: Length  # a `train` event
    gates: bool  # in `train` events the largest gating product of each stage, HorNet only
    wandb: bool
    wandb_project: str
    wandb_entity: str | None
    wandb_name: str | None  # null: the run folder's name
    tensorboard: bool


@group
class Classification:
    name: Literal["classification"]
    label_smoothing: Annotated[float, Field(ge=0, lt=1, strict=True)]


@group
class Recipe:
    """Where the settings come from. Says, and does nothing."""

    name: str
    source: str
    command: str | None  # of the source
    top1: float | None  # per cent, as published
    run_by_us: bool


@group
class Checkpoint:
    every: Length
    keep: Count  # the newest so many that were due; besides these the best, and the last
    max_minutes: Minutes | None  # of training, after which to save and end with code 75; null: no limit


@group
class Guard:
    """Steps whose loss or gradient is not finite change nothing; here is what else they lead to."""

    max_skips: Count | None  # such steps in a row, after which the run goes back; null: never
    spike: Annotated[float, Field(gt=1, strict=True)] | None  # times the mean loss, which also send it back
    window: Length  # up to the failure, at most: what is left out afterwards
    backoff: Share | None  # the learning rate's factor from then on; null: 1
    max_rollbacks: Annotated[int, Field(ge=0, strict=True)]  # after which the next failure ends the run
    dump: bool  # keep the micro-batches of such steps, for hornet-train replay=


@group
class Eval:
    every: Length
    batch_size: Count | None  # images a rank forwards at once; null: as in training


@group
class Config:
    """A training run."""

    run_dir: str | None  # null: runs/<date>_<model>_<data>
    resume: Literal["auto", "force", "restart"]
    seed: Annotated[int, Field(ge=0, lt=2**63, strict=True)]
    epochs: RunLength  # length of the run; a bare number is epochs
    batch_size: Count  # images of a step over all ranks
    micro_batch_size: Count | None  # images a rank forwards at once, at most; null: its share of batch_size
    precision: Literal["fp32", "bf16", "fp16"]
    compile: bool  # torch.compile the training step's model
    deterministic: bool  # deterministic kernels only, for bit-equal runs on a GPU
    init_from: str | None  # weights to start from: a run, a step folder, .safetensors or an official .pth
    init_map: str | None  # which row of a 22K head each class takes: a .pth or .txt of indices
    model: Model
    data: Data
    augment: Augment
    optim: Optim
    schedule: Schedule
    ema: Ema
    dist: Dist
    log: Log
    task: Classification
    recipe: Recipe
    checkpoint: Checkpoint
    guard: Guard
    eval: Eval


@group
class InfoConfig:
    """What is asked of a model."""

    image_size: Count | None  # pixels, square; null: what the model is made for
    num_classes: Count  # of its head, where model.num_classes is null
    model: Model


EvaluationSet = Literal[
    "imagenet",
    "imagenet_real",
    "imagenet_v2",
    "imagenet_v2_threshold",
    "imagenet_v2_top",
    "imagenet_a",
    "imagenet_r",
    "imagenet_sketch",
    "imagenet_c",
]


def _suite(value: object) -> object:
    if value is None or value == "all":
        return value
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, (list, tuple)) or not names:
        raise ValueError("is neither all nor a list of evaluation sets, as in [imagenet,imagenet_a]")
    for name in names:
        if name not in get_args(EvaluationSet):
            raise ValueError(
                f"no evaluation set {name!r}; {did_you_mean(str(name), get_args(EvaluationSet))}"
            )
    return tuple(dict.fromkeys(names))  # each once


@group
class EvalConfig:
    """An evaluation of a checkpoint."""

    checkpoint: str | None
    weights: Literal["ema", "model"] | None  # null: those that made it the best, else the average
    out: str | None  # null: eval.json beside the checkpoint
    init_map: str | None  # which row of the checkpoint's head each class takes: a .pth or .txt of indices
    suite: Annotated[
        tuple[EvaluationSet, ...] | Literal["all"] | None, BeforeValidator(_suite)
    ]  # sets below data.root; all: those that are there
    batch_size: Count  # images a rank forwards at once
    precision: Literal["fp32", "bf16", "fp16"]
    fuse: bool  # a HorNet's scales and norms folded into the layers beside them
    model: Model
    data: Data
    dist: Dist
