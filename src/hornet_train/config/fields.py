"""The kinds of values that a config holds, and the decorator of its groups."""

from __future__ import annotations

from typing import Annotated, TypeVar

from pydantic import BeforeValidator, ConfigDict, Field, PlainSerializer
from pydantic.dataclasses import dataclass
from typing_extensions import dataclass_transform

from hornet_train.config.duration import Duration

C = TypeVar("C")


@dataclass_transform(frozen_default=True)
def group(cls: type[C]) -> type[C]:
    """A frozen dataclass that takes no unknown key and no infinite number."""
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
RunLength = Annotated[Duration, BeforeValidator(_run_length), PlainSerializer(str)]
RGB = tuple[Number, Number, Number]
HalfTurn = Annotated[float, Field(ge=0, le=0.5, strict=True)]
Jitter = Annotated[tuple[NotNegative, NotNegative, NotNegative, HalfTurn], BeforeValidator(_jitter)]
