"""What all commands share: --help and --version, exit codes, error messages, silenced library warnings."""

from __future__ import annotations

import atexit
import io
import logging
import os
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from types import TracebackType
from typing import NoReturn

from hornet_train._interrupt import INTERRUPTED, end_at_once
from hornet_train.cli.job_report import report
from hornet_train.cli.utf8_mode import ensure_utf8_mode, escape_what_cannot_be_printed
from hornet_train.errors import PeerError, UserError
from hornet_train.redaction import for_display, redacted
from hornet_train.track.text import SafeStream

USER_ERROR = 2
PREEMPTED = 75  # EX_TEMPFAIL: the run is saved; the same command continues it
LOST = 1  # another process of the run is lost; a launcher may start all of them again
_exit_code = [1]  # of this process: that of a bug, until another is known
_FOR_RANK_0 = 5.0  # seconds that the others leave rank 0 to print its message and end


def run_command(
    work: Callable[[list[str]], None],
    questions: Callable[[list[str]], list[str] | None],
    arguments: list[str] | None = None,
    *,
    after_interrupt: str = "",
) -> NoReturn:
    """Run a command and exit.

    Exit codes: 0 done, 1 another process of the run is lost, 2 the user's mistake, 75 asked to stop,
    130 Ctrl-C. Any other code, and 1 with a traceback, is a bug. A user's mistake is printed without a
    traceback, unless HORNET_DEBUG=1 asks for it.

    Args:
        work: runs the command with its overrides.
        questions: answers --help and the like and returns None, or returns the overrides for `work`.
        arguments: of the command; None: those of the command line.
        after_interrupt: a hint to print after "interrupted" on Ctrl-C.
    """
    ensure_utf8_mode()
    escape_what_cannot_be_printed()
    if signal.getsignal(signal.SIGINT) is end_at_once:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    _quiet()
    _log_to_stderr()
    sys.excepthook = _print_bug
    _exit_code[0] = 1
    _end_ranks_early()
    code, every_rank = 0, False
    try:
        overrides = questions(sys.argv[1:] if arguments is None else arguments)
        if overrides is not None:
            work(overrides)
    except UserError as error:
        if os.environ.get("HORNET_DEBUG") == "1":
            raise
        code, every_rank = USER_ERROR, error.of_one_rank
        _print_error(str(error), every_rank=every_rank)
    except Stopped as stopped:
        _print_error(str(stopped))
        code = PREEMPTED
    except PeerError as error:
        if os.environ.get("HORNET_DEBUG") == "1":
            raise
        code, every_rank = LOST, True
        _print_error(str(error), every_rank=every_rank)
    except KeyboardInterrupt:
        _print_error(f"interrupted{after_interrupt}")
        code = INTERRUPTED
    if code and not every_rank and launched_rank() != "0":
        time.sleep(_FOR_RANK_0)  # a launcher kills all others when one has ended, and rank 0 has the message
    _exit_code[0] = code
    sys.exit(code)


def _end_ranks_early() -> None:
    """Let one of several processes end before Python takes itself apart.

    Gloo's threads release tensors after a collective has returned, and need Python for that: one that is late
    would abort a process whose work is done (torch 2.14, also with destroy_process_group).
    """
    atexit.unregister(_end_now)
    atexit.register(_end_now)  # the first to be registered is the last to be called


def _end_now() -> None:
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(_exit_code[0])


class Stopped(Exception):  # noqa: N818 - not an error, but a reason to exit
    """A command stopped because it was asked to: exit code 75, with this message."""


def _quiet() -> None:
    """Silence library warnings that do not point to a problem."""
    # torch's DDP warns of the strides of 1x1 kernels under channels_last, where they do not matter
    warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
    # the name of a run may have characters that the font of the figure lacks
    warnings.filterwarnings("ignore", message="Glyph .* missing from font")
    # the number of workers is the user's choice, and the share of time spent waiting for data is logged
    warnings.filterwarnings("ignore", message="This DataLoader will create")
    # torch.compile reports that it found no CUDA on a machine without a GPU
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)


class _StderrHandler(logging.Handler):
    """Writes what the program logs while no console is there for it; notes from rank 0 only."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.WARNING or launched_rank() == "0":
            stream = SafeStream(sys.stderr or io.StringIO())  # a log file on a full disk must not end a run
            stream.write(for_display(self.format(record)) + "\n")


def _log_to_stderr() -> None:
    logger = logging.getLogger("hornet_train")
    logger.setLevel(logging.INFO)
    logger.handlers = [_StderrHandler()]


def _print_bug(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print the traceback as Python does, with secrets masked: a library's error may quote a URL."""
    sys.stderr.write(redacted("".join(traceback.format_exception(kind, error, trace))))
    report({"reason": redacted(f"{kind.__name__}: {error}")}, launched_rank())


def launched_rank() -> str:
    """The number of this process among those that torchrun started; "0" without torchrun, whatever an earlier
    launcher left in the environment."""
    return os.environ.get("RANK", "0") if os.environ.get("WORLD_SIZE", "1") != "1" else "0"


def _print_error(message: str, *, every_rank: bool = False) -> None:
    """Print a message to stderr: from rank 0, or from every rank that has it, with its number."""
    rank = launched_rank()
    name = os.path.basename(sys.argv[0])
    name = "hornet-train" if name in ("__main__.py", "-m") else name
    message = for_display(message)
    report({"reason": " ".join(message.split())}, rank)
    if rank == "0":
        sys.stderr.write(f"{name}: {message}\n")
    elif every_rank:
        sys.stderr.write(f"{name}, rank {rank}: {message}\n")
