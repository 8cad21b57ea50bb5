"""Process-wide settings of torch."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from hornet_train.config.schema import Dist
from hornet_train.data.memory import keep_freed_memory
from hornet_train.data.sources.cache import cache_folder
from hornet_train.engine.distributed import World, choose_device, distributed
from hornet_train.engine.out_of_memory import is_out_of_memory
from hornet_train.errors import ConfigError, OutOfMemory
from hornet_train.run.single_images import SINGLE_VALUE
from hornet_train.untrusted import only_user_can_write

CUBLAS, REPRODUCIBLE = "CUBLAS_WORKSPACE_CONFIG", (":4096:8", ":16:8")  # the values that cuBLAS documents


def set_up_process(dist: Dist, device: torch.device, *, deterministic: bool) -> None:
    """Process-wide settings of torch, before it has used the device.

    Raises:
        ConfigError: `deterministic`, and the environment asks cuBLAS for what is not.
    """
    if device.type == "cpu":
        keep_freed_memory()
    if dist.threads is not None:
        torch.set_num_threads(dist.threads)
    if deterministic or torch.are_deterministic_algorithms_enabled():  # by an earlier run of this process
        _choose_algorithms(device, deterministic)
    # fp32 means fp32: torch would round the convolutions' inputs to TF32, and not the matrix products'
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = not deterministic  # it times algorithms, and takes the day's fastest


def _choose_algorithms(device: torch.device, deterministic: bool) -> None:
    """Have torch take deterministic algorithms only, and raise where it has none; or let it be again."""
    if deterministic and device.type == "cuda":
        chosen = os.environ.setdefault(CUBLAS, REPRODUCIBLE[0])  # read when cuBLAS starts
        if chosen not in REPRODUCIBLE:
            raise ConfigError(
                [f"deterministic=true needs {CUBLAS}={' or '.join(REPRODUCIBLE)}, not {chosen}: unset it"]
            )
        # switches that add up in the order of arrival; torch leaves NVLS out by itself, not its trees
        os.environ.setdefault("NCCL_NVLS_ENABLE", "0")
    torch.use_deterministic_algorithms(deterministic)  # the compiler's too: it times no kernels to choose
    torch.backends.cudnn.deterministic = deterministic
    torch.backends.mkldnn.deterministic = deterministic  # type: ignore[assignment]
    # NaN in all new memory is for code that reads what it has not written, and takes time
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def keep_compiled_code() -> None:
    """Let torch.compile keep its code in the user's own cache folder, and not in `/tmp/torchinductor_<user>`,
    which anybody may have made before."""
    place = cache_folder() / "inductor"
    if only_user_can_write(place):
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(place))


@contextmanager
def torch_errors_in_words() -> Iterator[None]:
    """Raise a user's error in place of torch's where torch cannot do what the config asks for.

    Raises:
        ConfigError: an operator has no deterministic algorithm, DDP waits for gradients that do not come, or
            batch norm gets a single value for each channel.
        OutOfMemory: the memory of the device, or of this process, is not enough.
    """
    try:
        yield
    except (RuntimeError, ValueError) as error:
        if is_out_of_memory(error):
            reason = str(error).partition(". ")[0]
            raise OutOfMemory(
                f"{reason}: smaller batches or images take less, precision=bf16, too"
            ) from error
        words = _in_words(str(error))
        if words is None:
            raise
        fault = ConfigError([words])
        fault.of_one_rank = isinstance(error, ValueError)  # others may have more images at a time
        raise fault from error


def _in_words(message: str) -> str | None:
    """What a message of torch means for the config; None for all others."""
    missing = re.search(r"(\S+) does not have a deterministic implementation", message)
    if missing is not None:
        return (
            f"deterministic=true: torch {torch.__version__} has no deterministic {missing[1]}, which "
            "this training needs: choose another model, or deterministic=false"
        )
    if SINGLE_VALUE in message:
        return (
            "batch_size and micro_batch_size leave an image alone in a micro-batch, where the model's "
            "batch norm has a single value a channel: give larger ones; or, if this is in the last step "
            "of an epoch, another batch_size, or data.drop_last=true, which leaves that step out"
        )
    if "Expected to have finished reduction in the prior iteration" in message:
        return (
            "dist.find_unused_parameters=false, but the model has weights that a step did not use, for whose "
            "gradients the other processes wait: dist.find_unused_parameters=true"
        )
    return None


def chosen_device(dist: Dist) -> torch.device:
    """The device that the config names for this process.

    Raises:
        ConfigError: there is none.
    """
    try:
        return choose_device(dist.device)
    except ValueError as error:
        fault = ConfigError([f"dist.device={dist.device}: {error}"])
        fault.of_one_rank = True
        raise fault from error


@contextmanager
def joined(dist: Dist, *, deterministic: bool = False) -> Iterator[World]:
    """Set this process up and join the group that torchrun started, if any.

    Raises:
        ConfigError: there is no such device, or it cannot do what is asked of it deterministically.
    """
    device = chosen_device(dist)
    if device.type == "cpu" and dist.backend == "nccl":
        raise ConfigError(["dist.backend=nccl needs GPUs, and torch sees none: dist.backend=gloo"])
    set_up_process(dist, device, deterministic=deterministic)
    with (
        distributed(device, backend=dist.backend, timeout_minutes=dist.timeout_minutes) as world,
        torch_errors_in_words(),
    ):
        yield world
