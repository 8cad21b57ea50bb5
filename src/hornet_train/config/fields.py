"""The kinds of values that a config holds, and the decorator of its groups."""

from __future__ import annotations

import math
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, PlainSerializer
from pydantic.dataclasses import dataclass
from typing_extensions import dataclass_transform

from hornet_train.config.duration import Duration

C = TypeVar("C")


@dataclass_transform(frozen_default=True)
def group(cls: type[C]) -> type[C]:
    """A frozen dataclass that takes no unknown key and no infinite number."""
    return dataclass(frozen=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))(cls)  # type: ignore[return-value]


def _duration(value: object, *, of_run: bool = False) -> object:
    if value is None or isinstance(value, Duration):
        return value
    return Duration.parse(str(value), of_run=of_run)


def _run_length(value: object) -> object:
    return _duration(value, of_run=True)


def _jitter(value: object) -> object:
    if isinstance(value, int | float) and not isinstance(value, bool):
        if value < 0:
            raise ValueError("a strength is 0 or more")
        return value, value, value, 0.0
    if isinstance(value, list | tuple) and len(value) in (3, 4):
        return (*value, 0.0)[:4]
    raise ValueError("one strength, or 3 or 4: brightness, contrast, saturation, hue (at most 0.5)")


def _image_size(value: Any) -> int | tuple[int, int]:
    sides = list(value) if isinstance(value, list | tuple) else [value, value]
    if len(sides) != 2 or not all(type(side) is int and side >= 1 for side in sides):
        text = ", not text" if isinstance(value, str) else ""
        raise ValueError(f"pixels are one number for a square, or [height,width], as in [192,352]{text}")
    height, width = sides
    return height if height == width else (height, width)


def _per_channel(value: Any) -> Any:
    return [value] if isinstance(value, int | float) and not isinstance(value, bool) else value


def _only_finite(value: Any) -> Any:
    """`value`, a mapping whose keys are free; config.yaml and JSON would not keep inf and nan."""
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    for part in parts:
        _only_finite(part)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} is not a finite number")
    return value


Fraction = Annotated[float, Field(ge=0, le=1, strict=True)]
Share = Annotated[float, Field(gt=0, le=1, strict=True)]
Positive = Annotated[float, Field(gt=0, strict=True)]
NotNegative = Annotated[float, Field(ge=0, strict=True)]
Momentum = Annotated[float, Field(ge=0, lt=1, strict=True)]
Minutes = Annotated[float, Field(gt=0, le=525_600, strict=True)]  # at most a year
Count = Annotated[int, Field(ge=1, strict=True)]
Number = Annotated[float, Field(strict=True)]
Length = Annotated[Duration, BeforeValidator(_duration), PlainSerializer(str)]
RunLength = Annotated[Duration, BeforeValidator(_run_length), PlainSerializer(str)]
Free = Annotated[dict[str, Any], AfterValidator(_only_finite)]
RGB = tuple[Number, Number, Number]
PerChannel = Annotated[tuple[Number, ...], Field(min_length=1), BeforeValidator(_per_channel)]
ImageSize = Annotated[int | tuple[int, int], BeforeValidator(_image_size)]  # a square in one way: the number
HalfTurn = Annotated[float, Field(ge=0, le=0.5, strict=True)]
Jitter = Annotated[tuple[NotNegative, NotNegative, NotNegative, HalfTurn], BeforeValidator(_jitter)]
