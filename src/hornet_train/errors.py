"""The exceptions a user can meet. Each carries a message that names what is wrong and what to do.

A command turns a `UserError` into exit code 2 and its message, without a traceback (`HORNET_DEBUG=1`
shows it). Anything else that escapes is a bug of ours.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class UserError(Exception):
    """Something the user can put right: a config, data or checkpoint fault.

    Attributes:
        of_one_rank: whether the process that raises it may be the only one that knows.
    """

    of_one_rank = False


class DataError(UserError):
    """A data set that cannot be used as asked: a missing folder, classes that do not fit, a damaged file."""


class SampleError(DataError):
    """One sample that cannot be read; only the process that wanted it knows.

    Attributes:
        where: the path or a description.
        reason: what is wrong with it, in a few words.
    """

    of_one_rank = True

    def __init__(self, where: str, reason: str, remedy: str = "fetch it again or remove it") -> None:
        super().__init__(f"{where}: {reason}; {remedy}")
        self.where = where
        self.reason = reason
        self._remedy = remedy

    def __reduce__(self) -> tuple[type[SampleError], tuple[str, str, str]]:
        return SampleError, (self.where, self.reason, self._remedy)  # as sent from a worker


class PeerError(Exception):
    """Another process of the run is gone: killed, crashed or cut off. No fault of this one."""

    def __init__(self, rank: int, reason: str) -> None:
        super().__init__(f"rank {rank} has lost the other processes of this run ({reason})")


class CheckpointError(UserError):
    """A checkpoint that is damaged, missing, or made for something else."""


class DivergenceError(UserError):
    """A training whose loss or gradient is not finite, or whose loss jumps, again and again."""


class ConfigError(UserError):
    """One or more faults of a config, all told at once.

    Attributes:
        faults: one sentence a fault, each with the key, its value and the remedy.
    """

    def __init__(self, faults: Sequence[str] | str) -> None:
        self.faults = (faults,) if isinstance(faults, str) else tuple(faults)
        if len(self.faults) == 1:
            super().__init__(self.faults[0])
        else:
            lines = "\n".join(f"  - {fault}" for fault in self.faults)
            super().__init__(f"{len(self.faults)} faults in the config:\n{lines}")

    def __reduce__(self) -> tuple[type[ConfigError], tuple[tuple[str, ...]]]:
        return ConfigError, (self.faults,)  # as sent from rank 0 to the others


def did_you_mean(word: str, options: Iterable[str], *, most: int = 12) -> str:
    """The nearest of `options` as a sentence, or the options themselves where none is near."""
    options = sorted(options)
    begun = [option for option in options if word and option.startswith(word)]
    near = difflib.get_close_matches(word, options, n=1, cutoff=0.6) if len(begun) != 1 else begun
    if not near:  # a key given without its group: `lr` for `optim.lr`
        near = [option for option in options if option.rsplit(".", 1)[-1] == word.rsplit(".", 1)[-1]][:1]
    if near and len(begun) < 2:
        all_of_few = f" It is one of: {', '.join(options)}." if len(options) <= 5 else ""
        return f"did you mean {near[0]!r}?{all_of_few}"
    options = begun or options
    shown = ", ".join(options[:most]) + (", ..." if len(options) > most else "")
    return f"it is one of: {shown}" if options else "there are no options"
