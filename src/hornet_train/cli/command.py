"""What every command shares: questions, exit codes, how errors are told, quiet starts, joining the others."""

from __future__ import annotations

import logging
import os
import sys
import traceback
import warnings
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn

from hornet_train._timm import import_timm
from hornet_train.errors import PeerError, UserError
from hornet_train.redaction import for_display, redacted

if TYPE_CHECKING:
    pass

USER_ERROR = 2
PREEMPTED = 75  # EX_TEMPFAIL: saved; start me again
LOST = 1  # another process of the run: start me again
INTERRUPTED = 130  # 128 + SIGINT, as shells have it


def run_command(
    work: Callable[[list[str]], None],
    questions: Callable[[list[str]], list[str] | None],
    arguments: list[str] | None = None,
    *,
    after_interrupt: str = "",
    needs_timm: bool = True,
) -> NoReturn:
    """Run a command and exit: 0 done, 1 another process is gone, 2 the user's mistake, 75 asked to stop.

    Anything else, and 1 with a traceback, is a bug of ours.

    A mistake is told without a traceback; HORNET_DEBUG=1 shows it.

    Args:
        work: does what the overrides ask for.
        questions: answers --help and the like; gives the overrides where there is something to do.
        arguments: None for those of the command line.
        after_interrupt: what to tell who has pressed Ctrl-C.
        needs_timm: whether `work` uses models; timm takes seconds to import.
    """
    _quiet()
    sys.excepthook = _tell_bug
    try:
        overrides = questions(sys.argv[1:] if arguments is None else arguments)
        if overrides is not None:
            if needs_timm:
                import_timm()
            work(overrides)
    except UserError as error:
        if os.environ.get("HORNET_DEBUG") == "1":
            raise
        _complain(str(error), every_rank=error.of_one_rank)
        sys.exit(USER_ERROR)
    except Stopped as stopped:
        _complain(str(stopped))
        sys.exit(PREEMPTED)
    except PeerError as error:
        if os.environ.get("HORNET_DEBUG") == "1":
            raise
        _complain(str(error), every_rank=True)
        sys.exit(LOST)
    except KeyboardInterrupt:
        _complain(f"interrupted{after_interrupt}")
        sys.exit(INTERRUPTED)
    sys.exit(0)


class Stopped(Exception):  # noqa: N818 - no fault, but a reason to end
    """A command was asked to stop and has: exit code 75, with this message."""


def _quiet() -> None:
    """Silence warnings of libraries about what is as it should be."""
    # torch's DDP warns of the strides of 1x1 kernels under channels_last, where they do not matter
    warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
    # a run's name may be in a script that the figure's font lacks
    warnings.filterwarnings("ignore", message="Glyph .* missing from font")
    # the number of workers is the user's choice, and the share of time spent waiting for data is logged
    warnings.filterwarnings("ignore", message="This DataLoader will create")
    # torch.compile tells that it looked for CUDA on a machine that has none
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)


def _tell_bug(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """A traceback as Python tells it, but for secrets: a library's error may quote a URL."""
    sys.stderr.write(redacted("".join(traceback.format_exception(kind, error, trace))))


def _complain(message: str, *, every_rank: bool = False) -> None:
    """To stderr, from rank 0, or from the rank that alone knows."""
    rank = os.environ.get("RANK", "0")
    name = os.path.basename(sys.argv[0])
    name = "hornet-train" if name in ("__main__.py", "-m") else name
    message = for_display(message)
    if rank == "0":
        sys.stderr.write(f"{name}: {message}\n")
    elif every_rank:
        sys.stderr.write(f"{name}, rank {rank}: {message}\n")
