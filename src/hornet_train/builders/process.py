"""Process-wide settings of torch."""

from __future__ import annotations

import os

import torch

from hornet_train.config.schema import Dist


def set_up_process(dist: Dist, *, deterministic: bool) -> None:
    """Process-wide settings of torch."""
    if dist.threads is not None:
        torch.set_num_threads(dist.threads)
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS needs to be deterministic
        torch.use_deterministic_algorithms(True)
    # large tensors in huge pages: a CPU's step else waits for the kernel to clear pages, a fifth of its time
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    # fp32 means fp32: torch would round the convolutions' inputs to TF32, and not the matrix products'
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = not deterministic
