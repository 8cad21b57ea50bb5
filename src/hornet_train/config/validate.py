"""What a config must fulfil: types and ranges from the schema, and the rules that every task shares."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from hornet_train.config.bench_schema import Bench
from hornet_train.config.key import keys_where
from hornet_train.config.schema import Config, Data, EvalConfig, InfoConfig, MultistepSchedule
from hornet_train.errors import did_you_mean
from hornet_train.redaction import MARK

_ABSENT = ("unexpected_keyword_argument", "missing", "missing_argument")  # of the tree, or of the schema

T = TypeVar("T", bound=Config | EvalConfig | InfoConfig | Bench)


def typed(kind: type[T], tree: Mapping[str, Any]) -> tuple[T | None, dict[str, str]]:
    """The tree as a typed config; or None, and for each key of a wrong type or range a sentence."""
    try:
        return TypeAdapter(kind).validate_python(tree), {}
    except ValidationError as error:
        found: dict[str, list[ErrorDetails]] = {}
        for detail in error.errors(include_url=False):
            found.setdefault(_key(tree, detail), []).append(detail)
        inner = {key.rpartition(".")[0] for key in found}  # a list is at fault only because of an element
        return None, {key: _sentence(key, details) for key, details in found.items() if key not in inner}


def plain(config: Config | EvalConfig | InfoConfig | Bench) -> dict[str, Any]:
    """A config as the mapping that config.yaml holds, where each value is written in one way only."""
    tree: dict[str, Any] = TypeAdapter(type(config)).dump_python(config, mode="json", by_alias=True)
    return tree


def _sentence(key: str, details: Sequence[ErrorDetails]) -> str:
    """What is wrong with a value; of a union it is something for each kind of value that would do."""
    choices = [one for detail in details for one in _choices(detail)]
    if len(details) > 1 and choices:
        value = details[0]["input"]
        lists = "; or a list" if any(detail["type"] == "tuple_type" for detail in details) else ""
        return f"{key}={value}: {did_you_mean(str(value), choices)}{lists}"
    detail = details[-1]
    value, context = detail["input"], detail.get("ctx", {})
    match detail["type"]:
        case "unexpected_keyword_argument":
            return f"unknown key {key}"
        case "missing" | "missing_argument":
            return f"{key} is missing"
        case "literal_error":
            return f"{key}={value}: {did_you_mean(str(value), choices)}"
        case "union_tag_invalid":
            tag, chosen = context["discriminator"].strip("'"), str(context["tag"])
            return f"{key}.{tag}={chosen}: {did_you_mean(chosen, _quoted(context['expected_tags']))}"
        case _ if value is None:
            return f"{key} is missing: give it a value"
        case "value_error":
            return f"{key}={value}: {context['error']}"
        case _:
            return f"{key}={value}: {detail['msg'][0].lower()}{detail['msg'][1:]}"


def _choices(detail: ErrorDetails) -> list[str]:
    """The words that a value may be, where it may be some words only."""
    if detail["type"] in ("bool_parsing", "bool_type"):
        return ["true", "false"]
    return _quoted(detail["ctx"]["expected"]) if detail["type"] == "literal_error" else []


def _key(tree: Mapping[str, Any], detail: ErrorDetails) -> str:
    """The dotted key of pydantic's location, without the tags of unions, which are no keys of the tree."""
    node: Any = tree
    key, location = [], detail["loc"]
    for part in location:
        if isinstance(node, Mapping) and part in node:
            node = node[str(part)]
        elif isinstance(node, list) and isinstance(part, int) and part < len(node):
            node = node[part]
        elif part is not location[-1] or detail["type"] not in _ABSENT:
            continue
        key.append(str(part))
    return ".".join(key)


def _quoted(text: str) -> list[str]:
    return re.findall(r"'([^']*)'", text)


def accumulation(batch_size: int, micro_batch_size: int | None, world_size: int) -> tuple[int, int]:
    """(micro-batch size, micro-batches per step and rank) for a global batch shared by `world_size` ranks.

    A rank's share is batch_size / world_size. A `micro_batch_size` above the share means the share (a rank
    cannot forward more than it has); None means the share too.

    Raises:
        ValueError: where the sizes do not divide, naming the nearest that do.
    """
    if batch_size % world_size:
        below = batch_size // world_size * world_size
        near = [size for size in (below, below + world_size) if size > 0]
        raise ValueError(
            f"batch_size={batch_size} cannot be shared by {world_size} processes; "
            f"the nearest that can: {' or '.join(f'batch_size={size}' for size in near)}"
        )
    share = batch_size // world_size
    micro = min(micro_batch_size or share, share)
    if share % micro:
        below = max(size for size in range(1, micro) if share % size == 0)
        above = min(size for size in range(micro + 1, share + 1) if share % size == 0)
        raise ValueError(
            f"micro_batch_size={micro_batch_size} does not divide {share}, the images of each process "
            f"(batch_size={batch_size}, {world_size} process{'es' * (world_size > 1)}); "
            f"the nearest that do: micro_batch_size={below} or micro_batch_size={above}"
        )
    return micro, share // micro


def shared_rules(config: Config, world_size: int) -> Iterator[str]:
    """A sentence for each rule across the fields that every task has, where a training config breaks it."""
    try:
        accumulation(config.batch_size, config.micro_batch_size, world_size)
    except ValueError as error:
        yield str(error)
    if config.epochs.unit == "%":
        yield f"epochs={config.epochs}: the length of a run is given in epochs (300) or steps (1500it)"
    elif config.epochs.value <= 0:
        yield f"epochs={config.epochs}: a run has at least one step"
    warmup = config.schedule.warmup
    if warmup.unit == config.epochs.unit and warmup.value > config.epochs.value:
        yield (
            f"schedule.warmup={warmup} is longer than the run, epochs={config.epochs}; schedule.warmup=5% is "
            "shorter than any"
        )
    if config.schedule.kind != "multistep" and config.schedule.min_lr > config.optim.lr:
        yield f"schedule.min_lr={config.schedule.min_lr} is above the peak, optim.lr={config.optim.lr}"
    if config.dist.device == "cpu" and config.dist.backend == "nccl":
        yield "dist.backend=nccl needs GPUs, and dist.device=cpu has none: dist.backend=gloo"
    if config.dist.strategy == "fsdp":
        if world_size == 1:
            yield "dist=fsdp needs several processes: torchrun --nproc_per_node=2 -m hornet_train ..."
        if config.precision == "fp16":
            yield "precision=fp16 with dist=fsdp: take bf16, which needs no loss scale"
    if isinstance(config.schedule, MultistepSchedule):
        for one, other in pairwise(config.schedule.milestones):
            if one.unit == other.unit and one.value >= other.value:
                yield f"schedule.milestones: {one} comes before {other}, in rising order"
    if keys_where(type(config.data), lambda key: key.evaluation_only):
        yield (
            f"data={config.data.source} is for evaluation only: hornet-eval checkpoint=<run folder> "
            f"data={config.data.source} data.root=<its folder>"
        )
    if config.init_map is not None and config.init_from is None:
        yield f"init_map={config.init_map} says which rows of a head to take, but init_from= gives no weights"


def without_secrets(data: Data) -> Iterator[str]:
    """A sentence for each value of a stored data group from which a password or token was left out."""
    for name, value in vars(data).items():
        if isinstance(value, str) and MARK in value:
            yield f"data.{name}={value} is kept without its secrets: give data.{name}= as it was"
