"""The exceptions that a user can see. Each message says what is wrong and what to do.

A command turns a `UserError` into exit code 2 and its message, without a traceback (`HORNET_DEBUG=1`
shows it). Any other exception that reaches the user is a bug.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path

from hornet_train.file_names import as_text


class UserError(Exception):
    """Something the user can fix: a problem of the config, the data or a checkpoint.

    Attributes:
        of_one_rank: whether it may be raised on one rank only, which then has to print it, not rank 0.
    """

    of_one_rank = False

    def __init__(self, message: str) -> None:
        super().__init__(as_text(message))  # it may quote names of files


class DataError(UserError):
    """A data set cannot be used as configured: a folder is missing, a file damaged, classes do not match."""


class SampleError(DataError):
    """One sample cannot be read; only the process that reads it knows.

    Attributes:
        where: the path, or a description of the place.
        reason: what is wrong, in a few words.
        remedy: what to do.
    """

    of_one_rank = True

    def __init__(self, where: str, reason: str, remedy: str = "fetch it again or remove it") -> None:
        super().__init__(f"{where}: {reason}; {remedy}")
        self.where = as_text(where)
        self.reason = as_text(reason)
        self.remedy = remedy

    def __reduce__(self) -> tuple[type[SampleError], tuple[str, str, str]]:
        return SampleError, (self.where, self.reason, self.remedy)  # for pickling, in a worker process


class PictureTooLarge(SampleError):  # noqa: N818 - what it is, like OutOfMemory
    """A picture has more pixels, or its file more bytes, than are decoded."""


class PeerError(Exception):
    """Another process of the run is gone: killed, crashed or disconnected. This one has no error itself."""

    def __init__(self, rank: int, reason: str) -> None:
        super().__init__(f"rank {rank} has lost the other processes of this run ({reason})")


class Preempted(Exception):  # noqa: N818 - not an error, but a reason to end
    """The run was asked to stop.

    Attributes:
        reason: a signal's name, or the limit that is reached.
        saved: whether everything up to here is in a checkpoint; if not, nothing was trained yet.
        run_dir: the run folder, where it is known.
    """

    def __init__(self, reason: str, *, saved: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.saved = saved
        self.run_dir: Path | None = None


class CheckpointError(UserError):
    """A checkpoint is damaged, missing, or made for something else."""


class ExportError(UserError):
    """What was exported says something else than the model, and was removed."""


class OutOfMemory(UserError):  # noqa: N818 - as torch and operating systems call it
    """The memory of a GPU or of the machine is not enough; the other processes may have enough of it."""

    of_one_rank = True


class DivergenceError(UserError):
    """The loss or gradient of a training is not finite, or the loss jumps, again and again."""


class ConfigError(UserError):
    """One or more faults of a config, all reported at once.

    Attributes:
        faults: one sentence for each, with the key, its value and the remedy.
    """

    def __init__(self, faults: Sequence[str] | str) -> None:
        self.faults = (faults,) if isinstance(faults, str) else tuple(faults)
        if len(self.faults) == 1:
            super().__init__(self.faults[0])
        else:
            lines = "\n".join(f"  - {fault}" for fault in self.faults)
            super().__init__(f"{len(self.faults)} faults in the config:\n{lines}")

    def __reduce__(self) -> tuple[type[ConfigError], tuple[tuple[str, ...]]]:
        return ConfigError, (self.faults,)  # for pickling, from rank 0 to the others


def did_you_mean(word: str, options: Iterable[str], *, most: int = 12) -> str:
    """A sentence that suggests the most similar of `options`, or lists the options if none is similar.

    Args:
        most: the greatest number of options to list.
    """
    options = sorted(options)
    completions = [option for option in options if word and option.startswith(word)]
    near = completions
    if len(completions) != 1:
        near = difflib.get_close_matches(word, options, n=1, cutoff=0.6)
    if not near:  # a key given without its group: `lr` for `optim.lr`
        near = [option for option in options if option.rsplit(".", 1)[-1] == word.rsplit(".", 1)[-1]][:1]
    if near and len(completions) < 2:
        all_of_few = f" It is one of: {', '.join(options)}." if len(options) <= 5 else ""
        return f"did you mean {near[0]!r}?{all_of_few}"
    options = completions or options
    shown = ", ".join(options[:most]) + (", ..." if len(options) > most else "")
    return f"it is one of: {shown}" if options else "there are no options"
