"""The reference outputs of the published code, and the rule that fills a model for them."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from torch import nn

REFERENCE = Path(__file__).parents[1] / "reference"


@pytest.fixture(scope="session")
def fill() -> ModuleType:
    """tests/reference/fill.py."""
    spec = importlib.util.spec_from_file_location("reference_fill", REFERENCE / "fill.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def filled(fill: ModuleType) -> Callable[..., nn.Module]:
    """Builds a registered model in eval mode, its parameters filled by the reference rule."""

    def build(name: str, **arguments: object) -> nn.Module:
        import timm

        import hornet_train.models  # noqa: F401 - registers

        model = timm.create_model(name, **arguments)
        model.load_state_dict(fill.fill_(model.state_dict()))
        return model.eval()

    return build


@pytest.fixture(scope="session")
def reference() -> Callable[[str], dict[str, np.ndarray]]:
    """Reads an npz file of reference outputs."""
    return lambda name: dict(np.load(REFERENCE / f"{name}.npz"))


@pytest.fixture(scope="session")
def published_shapes() -> dict[str, dict[str, list[int]]]:
    """Names and shapes of the published models, in their order."""
    return json.loads((REFERENCE / "state_dict_shapes.json").read_text())
