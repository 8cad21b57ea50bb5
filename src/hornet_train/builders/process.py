"""Process-wide settings of torch."""

from __future__ import annotations

import os

import torch

from hornet_train.config.schema import Dist
from hornet_train.data.malloc import keep_freed_memory
from hornet_train.data.sources.cache import cache_folder
from hornet_train.untrusted import only_ours


def set_up_process(dist: Dist, device: torch.device, *, deterministic: bool) -> None:
    """Process-wide settings of torch."""
    if device.type == "cpu":
        keep_freed_memory()
    if dist.threads is not None:
        torch.set_num_threads(dist.threads)
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS needs to be deterministic
        torch.use_deterministic_algorithms(True)
    # fp32 means fp32: torch would round the convolutions' inputs to TF32, and not the matrix products'
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = not deterministic


def keep_compiled_code() -> None:
    """Let torch.compile keep its code in the user's own cache folder, and not in `/tmp/torchinductor_<user>`,
    which anybody may have made before."""
    place = cache_folder() / "inductor"
    if only_ours(place):
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(place))
