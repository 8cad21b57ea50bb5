"""Ctrl-C while a command is being imported: the first thing that `hornet_train` imports."""

import os
import signal
import sys
from types import FrameType

INTERRUPTED = 130  # 128 + SIGINT, as shells have it
_COMMANDS = ("hornet-train", "hornet-eval", "hornet-info", "hornet-data", "hornet-bench", "-m")


def end_at_once(_number: int, _frame: FrameType | None) -> None:
    """End the process: nothing has begun yet. A KeyboardInterrupt would pass through imports, which print it
    with a traceback or take it for something else."""
    name = os.path.basename(sys.argv[0])
    if os.environ.get("RANK", "0") == "0":
        os.write(2, f"{name if name.startswith('hornet') else 'hornet-train'}: interrupted\n".encode())
    os._exit(INTERRUPTED)


def end_at_once_on_interrupt() -> None:
    """Do so in a process of our commands; not in a program that imports this package, nor in a worker."""
    ours = (
        bool(sys.argv) and os.path.basename(sys.argv[0]) in _COMMANDS and "multiprocessing" not in sys.modules
    )
    if ours and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, end_at_once)
