"""What every command shares: exit codes, how errors are told, quiet starts."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable
from typing import NoReturn

from hornet_train.errors import UserError

USER_ERROR = 2
INTERRUPTED = 130  # 128 + SIGINT, as shells have it


def run_command(command: Callable[[list[str]], None], arguments: list[str] | None = None) -> NoReturn:
    """Run a command and exit: 0 done, 2 the user's mistake (told without a traceback), else a bug of ours.

    HORNET_DEBUG=1 shows the traceback of a user's mistake too.
    """
    # torch's DDP warns of the strides of 1x1 kernels under channels_last, where they do not matter
    warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
    # the number of workers is the user's choice, and the share of time spent waiting for data is logged
    warnings.filterwarnings("ignore", message="This DataLoader will create")
    try:
        command(sys.argv[1:] if arguments is None else arguments)
    except UserError as error:
        if os.environ.get("HORNET_DEBUG") == "1":
            raise
        complain(str(error))
        sys.exit(USER_ERROR)
    except KeyboardInterrupt:
        complain("interrupted; the same command with the same run_dir goes on from the last checkpoint")
        sys.exit(INTERRUPTED)
    sys.exit(0)


def complain(message: str) -> None:
    """To stderr, from rank 0 only."""
    if os.environ.get("RANK", "0") == "0":
        name = os.path.basename(sys.argv[0])
        name = "hornet-train" if name in ("__main__.py", "-m") else name
        sys.stderr.write(f"{name}: {message}\n")
