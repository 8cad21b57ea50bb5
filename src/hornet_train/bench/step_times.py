"""Training steps and inference of several models, each in its fastest setting, taking turns."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hornet_train.bench.timing import ratio, take_turns, wait_for
from hornet_train.engine.precision import PrecisionName, autocast, loss_scaler
from hornet_train.errors import ConfigError
from hornet_train.images.size import Size, brief, height_width
from hornet_train.models.compiled_block import compile_blocks
from hornet_train.models.layers import lay_out
from hornet_train.models.structure import fuse, smallest_blocks
from hornet_train.optim.groups import parameter_groups
from hornet_train.optim.optimizers import adamw, set_learning_rate
from hornet_train.run.process import keep_compiled_code

Mode = Literal["train", "inference"]
Layout = Literal["contiguous", "channels_last"]
_COMPILED = {False: "eager", True: "compiled", "blocks": "blocks compiled", "graphs": "compiled, CUDA graphs"}
Compiling = bool | Literal["blocks", "graphs", "all"]
_TRIALS = 2  # timed calls of each setting, of which the fastest counts
_LEARNING_RATE = 1e-4


@dataclass(frozen=True)
class Contender:
    """A model that takes part, built again for each setting.

    Attributes:
        name: in tables and files.
        build: builds the model, on the CPU.
        runtime: for inference, makes of the fused model and images what runs them in place of torch.
    """

    name: str
    build: Callable[[], nn.Module]
    runtime: Callable[[nn.Module, Tensor], Callable[[Tensor], Tensor]] | None = None


@dataclass(frozen=True)
class Setting:
    """How a model is run: memory format, and whether it, or each of its blocks, is compiled.

    With "graphs" the whole model is, and its kernels are started together, as CUDA graphs. A model in another
    runtime is as that has it.
    """

    channels_last: bool
    compiled: bool | Literal["blocks", "graphs"]
    exported: bool = False

    def __str__(self) -> str:
        if self.exported:
            return "as exported"
        layout = "channels-last" if self.channels_last else "contiguous"
        return f"{layout}, {_COMPILED[self.compiled]}"


@dataclass(frozen=True)
class Case:
    """The work that every model does.

    Attributes:
        mode: a forward pass under no_grad, or forward, backward and an AdamW update.
        batch_size: images in a call.
        image_size: pixels.
        precision: of the forward pass.
        device: on which the model runs.
    """

    mode: Mode
    batch_size: int
    image_size: Size
    precision: PrecisionName
    device: torch.device


@dataclass(frozen=True)
class Measured:
    """The figures of one model in one mode.

    Attributes:
        setting: the fastest of those tried.
        tried: setting -> seconds of its fastest trial.
        seconds: of the call in each round, in the fastest setting.
        ratio: how many times as fast as the reference: median, smallest and largest over the rounds.
        images: in a call.
    """

    name: str
    mode: Mode
    setting: Setting
    tried: dict[str, float]
    seconds: list[float]
    ratio: tuple[float, float, float]
    images: int

    @property
    def images_per_second(self) -> float:
        return self.images / median(self.seconds)

    def as_json(self) -> dict[str, Any]:
        return {
            "model": self.name,
            "mode": self.mode,
            "setting": str(self.setting),
            "images_per_second": self.images_per_second,
            "ratio": self.ratio[0],
            "ratio_least": self.ratio[1],
            "ratio_greatest": self.ratio[2],
            "seconds": self.seconds,
            "tried": self.tried,
        }


def measure(
    contenders: Sequence[Contender],
    case: Case,
    *,
    rounds: int,
    compiling: Compiling,
    layouts: Sequence[Layout],
    say: Callable[[str], None],
) -> list[Measured]:
    """Find the fastest setting of each model, then time all of them in turns.

    Args:
        contenders: the first is the reference of the ratios.
        rounds: timed calls of each.
        compiling: what to try of torch.compile beside eager mode: the whole model (True), its blocks, both
            ("all"), or the whole model with CUDA graphs.
        layouts: memory formats to try.
        say: called with a line about what is being done.

    Raises:
        ConfigError: a model cannot run on images of this size, or there are no CUDA graphs.
    """
    if compiling == "graphs" and case.device.type != "cuda":
        raise ConfigError(["compile=graphs needs a GPU: CUDA graphs start all its kernels at once"])
    calls: dict[str, Callable[[], object]] = {}
    settings: dict[str, Setting] = {}
    tried: dict[str, dict[str, float]] = {}
    for contender in contenders:
        say(f"{case.mode}: the fastest setting of {contender.name}")
        tried[contender.name] = {}
        best: float | None = None
        alone = [Setting(channels_last=False, compiled=False, exported=True)]
        for setting in alone if contender.runtime else _settings(compiling, layouts):
            call = build_step(contender, setting, case)
            seconds = _fastest(call, case, contender, setting)
            tried[contender.name][str(setting)] = seconds
            if best is None or seconds < best:
                best, calls[contender.name], settings[contender.name] = seconds, call, setting
    say(f"{case.mode}: {rounds} rounds")
    taken = take_turns(calls, rounds, device=case.device)
    reference = taken[contenders[0].name]
    return [
        Measured(
            name,
            case.mode,
            settings[name],
            tried[name],
            seconds,
            ratio(seconds, reference),
            case.batch_size,
        )
        for name, seconds in taken.items()
    ]


def _settings(compiling: Compiling, layouts: Sequence[Layout]) -> Iterator[Setting]:
    tried: dict[Compiling, tuple[bool | Literal["blocks", "graphs"], ...]]
    tried = {
        False: (False,),
        True: (False, True),
        "blocks": (False, "blocks"),
        "graphs": (False, "graphs"),
        "all": (False, "blocks", True),
    }
    for compiled, layout in itertools.product(tried[compiling], layouts):
        yield Setting(layout == "channels_last", compiled)


def build_step(contender: Contender, setting: Setting, case: Case) -> Callable[[], object]:
    """A function that does the work of `case` once when called; a HorNet is fused for inference."""
    if contender.runtime is not None and case.mode != "inference":
        raise ValueError(f"{contender.name} infers, and does not train")
    torch.manual_seed(0)
    layout = torch.channels_last if setting.channels_last else torch.contiguous_format
    model = lay_out(contender.build().to(case.device), layout)
    images = random_images(case).contiguous(memory_format=layout)
    if case.mode == "inference":
        fuse(model, case.image_size)
    if contender.runtime is not None:
        run = contender.runtime(model.eval(), images)
        return lambda: run(images)
    if setting.compiled:
        keep_compiled_code()
    if setting.compiled == "blocks":
        compile_blocks(smallest_blocks(model))
    network: Any = model
    if setting.compiled is True:
        network = torch.compile(model)
    elif setting.compiled == "graphs":
        network = torch.compile(model, mode="reduce-overhead")
    # what CUDA graphs gave before may now be written over
    begin = torch.compiler.cudagraph_mark_step_begin if setting.compiled == "graphs" else _nothing
    if case.mode == "inference":
        model.eval()

        @torch.no_grad()
        def infer() -> object:
            begin()
            with autocast(case.precision, case.device):
                return network(images)

        return infer
    model.train()
    labels = torch.randint(10, (case.batch_size,), device=case.device)
    groups = parameter_groups(model.named_parameters(), weight_decay=0.05)
    optimizer = adamw(groups, betas=(0.9, 0.999), eps=1e-8)
    set_learning_rate(optimizer, _LEARNING_RATE)
    scaler = loss_scaler(case.precision, case.device)

    def train() -> object:
        begin()
        with autocast(case.precision, case.device):
            logits = network(images)
        loss = F.cross_entropy(logits.float(), labels)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)
        return loss

    return train


def _nothing() -> None:
    pass


def random_images(case: Case) -> Tensor:
    """A batch of random images, (B, 3, H, W) in channels_last memory."""
    shape = (case.batch_size, 3, *height_width(case.image_size))
    return torch.randn(shape, device=case.device).contiguous(memory_format=torch.channels_last)


def _fastest(call: Callable[[], object], case: Case, contender: Contender, setting: Setting) -> float:
    """Seconds of the fastest of `_TRIALS` calls, after one that compiles and warms up."""
    try:
        call()
    except (RuntimeError, ValueError, AssertionError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConfigError(
            f"{contender.name} ({setting}) cannot be run on {case.batch_size} images of "
            f"{brief(case.image_size)} pixels: {first}"
        ) from error
    seconds = []
    for _ in range(_TRIALS):
        begin = time.perf_counter()
        call()
        wait_for(case.device)
        seconds.append(time.perf_counter() - begin)
    return min(seconds)
