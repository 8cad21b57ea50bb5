"""Says that loops are being compiled, which takes a while on the first run on a machine."""

from __future__ import annotations

import logging
import multiprocessing
from functools import cache

NOTE = "compiling image operations and kernels, once on this machine (about 15 s)"

_log = logging.getLogger("hornet_train")


@cache
def say_when_compiling() -> None:
    """Have a line logged before numba compiles the first loop of this process; none if they are cached."""
    from numba.core import event

    class Listener(event.Listener):
        said = False

        def on_start(self, event: object) -> None:
            del event
            if not self.said and multiprocessing.parent_process() is None:
                _log.info(NOTE)
            self.said = True

        def on_end(self, event: object) -> None:
            del event

    event.register("numba:run_pass", Listener())
