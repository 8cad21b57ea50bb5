"""What every test of models begins with."""

from __future__ import annotations

import sys

import pytest
import torch

import hornet_train.models  # noqa: F401 - registers


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _compiled_anew() -> None:
    """Else the sizes of earlier tests count as varying, with which a compilation takes many times as long."""
    if "torch._dynamo" in sys.modules:
        torch.compiler.reset()
