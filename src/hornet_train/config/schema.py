"""The config, typed: a frozen dataclass for each group of conf/, every field with its unit.

The defaults stand in conf/ and nowhere else. pydantic checks types and ranges and reports every fault.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, ConfigDict, Field, PlainSerializer
from pydantic.dataclasses import dataclass
from typing_extensions import dataclass_transform

from hornet_train.config.duration import Duration

C = TypeVar("C")


@dataclass_transform(frozen_default=True)
def _frozen(cls: type[C]) -> type[C]:
    return dataclass(frozen=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))(cls)  # type: ignore[return-value]


def _duration(value: object) -> object:
    return value if isinstance(value, Duration) else Duration.parse(str(value))


def _run_length(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool):
        value = f"{value}ep"  # the key is called `epochs`
    return _duration(value)


def _jitter(value: object) -> object:
    if isinstance(value, int | float) and not isinstance(value, bool):
        if value < 0:
            raise ValueError("a strength is 0 or more")
        return value, value, value, 0.0
    if isinstance(value, list | tuple) and len(value) in (3, 4):
        return (*value, 0.0)[:4]
    raise ValueError("one strength, or 3 or 4: brightness, contrast, saturation, hue (at most 0.5)")


Fraction = Annotated[float, Field(ge=0, le=1, strict=True)]
Share = Annotated[float, Field(gt=0, le=1, strict=True)]
Positive = Annotated[float, Field(gt=0, strict=True)]
NotNegative = Annotated[float, Field(ge=0, strict=True)]
Momentum = Annotated[float, Field(ge=0, lt=1, strict=True)]
Count = Annotated[int, Field(ge=1, strict=True)]
Number = Annotated[float, Field(strict=True)]
Length = Annotated[Duration, BeforeValidator(_duration), PlainSerializer(str)]
RGB = tuple[Number, Number, Number]
HalfTurn = Annotated[float, Field(ge=0, le=0.5, strict=True)]
Jitter = Annotated[tuple[NotNegative, NotNegative, NotNegative, HalfTurn], BeforeValidator(_jitter)]


@_frozen
class Model:
    """`name`: as timm knows it. `args`: more of its constructor's arguments."""

    name: str
    drop_path: Fraction  # of the last block; the first has 0
    num_classes: Count | None  # null: as many as the data have
    grad_checkpointing: bool  # recompute activations in the backward pass
    channels_last: bool  # memory format of images and kernels
    args: dict[str, Any]


@_frozen
class _Images:
    image_size: Count  # pixels, square
    mean: RGB  # of RGB in 0..1
    std: RGB
    crop_pct: Share  # crop / short side of evaluations below 384 pixels
    interpolation: Literal["bicubic", "bilinear"]
    workers: Annotated[int, Field(ge=0, le=256, strict=True)]  # reading processes of each rank
    prefetch: Count  # batches ready in each worker
    drop_last: bool  # leave out the shorter last step of an epoch
    max_bad: Fraction  # share of the training images that may be damaged; others stand in for these
    on_bad: Literal["error", "skip"]  # of an evaluation that meets a damaged image


@_frozen
class DigitsData(_Images):
    """scikit-learn's handwritten digits."""

    source: Literal["digits"]


@_frozen
class FolderData(_Images):
    """Class folders under root/train and root/val."""

    source: Literal["folder"]
    root: str | None
    classes: Literal["any", "imagenet_1k", "imagenet_22k"]  # checked against what is on the disk
    val: bool  # false: there is no root/val and the run evaluates nothing


@_frozen
class HubData(_Images):
    """What Hugging Face's `datasets` reads: of the hub, or parquet, arrow and webdataset files."""

    source: Literal["hub"]
    name: str | None  # id of a hub data set, or a local folder, file or pattern
    config: str | None  # of a hub data set that has several
    revision: str | None  # branch, tag or commit of a hub data set; null: the newest
    train_split: str
    val_split: str | None  # null: nothing is held out and the run evaluates nothing
    image_column: str | None  # null: the one whose type tells
    label_column: str | None


@_frozen
class SyntheticData(_Images):
    """Coloured gratings made on the fly."""

    source: Literal["synthetic"]
    train_count: Count
    val_count: Count
    num_classes: Count
    source_size: Count  # pixels, square, before the transforms


Data = Annotated[DigitsData | FolderData | HubData | SyntheticData, Field(discriminator="source")]


@_frozen
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


@_frozen
class Optim:
    """AdamW."""

    lr: Positive  # peak, for the whole of batch_size
    weight_decay: NotNegative
    betas: tuple[Momentum, Momentum]
    eps: Positive
    clip_grad: Positive | None  # greatest norm of the gradient; null does not clip
    layer_decay: Share | None  # rate's factor a layer towards the input
    implementation: Literal["auto", "fused", "foreach", "loop"]


@_frozen
class CosineSchedule:
    kind: Literal["cosine"]
    warmup: Length
    min_lr: NotNegative


@_frozen
class PolySchedule:
    kind: Literal["poly"]
    warmup: Length
    min_lr: NotNegative
    power: Positive


@_frozen
class MultistepSchedule:
    kind: Literal["multistep"]
    warmup: Length
    milestones: tuple[Length, ...]  # from the start of the run
    gamma: Positive


Schedule = Annotated[CosineSchedule | PolySchedule | MultistepSchedule, Field(discriminator="kind")]


@_frozen
class Ema:
    """The averaged weights."""

    enabled: bool
    decay: Momentum  # a step
    warmup: bool  # start with a small decay: min(decay, (1 + step) / (10 + step))


@_frozen
class Dist:
    device: Literal["auto", "cpu", "cuda"]
    backend: Literal["auto", "nccl", "gloo"]
    threads: Count | None  # of each process on the CPU; null: torch's own choice
    timeout_minutes: Positive  # of a collective
    find_unused_parameters: bool  # DDP's; for models with weights that a step may not use


@_frozen
class Log:
    every: Length  # a `train` event
    gates: bool  # in `train` events the largest gating product of each stage, HorNet only
    wandb: bool
    wandb_project: str
    wandb_entity: str | None
    wandb_name: str | None  # null: the run folder's name
    tensorboard: bool


@_frozen
class Classification:
    name: Literal["classification"]
    label_smoothing: Annotated[float, Field(ge=0, lt=1, strict=True)]


@_frozen
class Recipe:
    """Where the settings come from. Says, and does nothing."""

    name: str
    source: str
    command: str | None  # of the source
    top1: float | None  # per cent, as published
    run_by_us: bool


@_frozen
class Checkpoint:
    every: Length
    keep: Count  # the newest so many; besides these the best


@_frozen
class Eval:
    every: Length
    batch_size: Count | None  # images a rank forwards at once; null: as in training


@_frozen
class Config:
    """A training run."""

    run_dir: str | None  # null: runs/<date>_<model>_<data>
    resume: Literal["auto", "force", "restart"]
    seed: Annotated[int, Field(ge=0, lt=2**63, strict=True)]
    epochs: Annotated[
        Duration, BeforeValidator(_run_length), PlainSerializer(str)
    ]  # length of the run; a bare number is epochs
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
    eval: Eval


@_frozen
class InfoConfig:
    """What is asked of a model."""

    image_size: Count | None  # pixels, square; null: what the model is made for
    num_classes: Count  # of its head, where model.num_classes is null
    model: Model


@_frozen
class EvalConfig:
    """An evaluation of a checkpoint."""

    checkpoint: str | None
    weights: Literal["ema", "model"] | None  # null: those that made it the best, else the average
    out: str | None  # null: eval.json beside the checkpoint
    init_map: str | None  # which row of the checkpoint's head each class takes: a .pth or .txt of indices
    batch_size: Count  # images a rank forwards at once
    precision: Literal["fp32", "bf16", "fp16"]
    model: Model
    data: Data
    dist: Dist
