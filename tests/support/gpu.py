"""Marks and devices for tests on a GPU."""

from __future__ import annotations

import pytest
import torch

from hornet_train.engine.distributed import World

# for a module's pytestmark, or for the marks of a pytest.param
NEEDS_GPU = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
DEVICES = ["cpu", pytest.param("cuda:0", marks=NEEDS_GPU)]
GPU = World(rank=0, size=1, device=torch.device("cuda", 0))
