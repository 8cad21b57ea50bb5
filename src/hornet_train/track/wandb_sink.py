"""Weights & Biases as a sink that can neither stop nor slow the training.

Every call into wandb is guarded and, but for the first, made by a thread of its own. The first failure is
told once and ends this sink. metrics.jsonl has everything anyway, also what an offline run loses to SIGKILL,
or to a SIGTERM that wandb's service gets too: wandb writes its file by blocks of 32 KiB.
"""

from __future__ import annotations

import logging
import netrc
import os
import queue
import secrets
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from hornet_train.redaction import redacted, redacted_tree
from hornet_train.track.events import BestResult, best_result, course, scalars
from hornet_train.track.files import read_json, write_json
from hornet_train.track.metric_table import NO_METRICS, MetricTable
from hornet_train.track.sinks import read_events

Mode = Literal["online", "offline", "disabled"]

_log = logging.getLogger("hornet_train")

_INIT_SECONDS = 30
_UPLOAD_SECONDS = 20  # at the end, for what is not yet uploaded
_FINISH_SECONDS = 30  # until its service counts as hung
_ROWS_AHEAD = 1000  # history rows reserved at a time, see `_reserve`
_MOST_WAITING = 10_000  # events; a service that takes none for so long is gone


class WandbSink:
    """One W&B run for one run folder, continued after a resume: its id is in `<run folder>/wandb_run.json`.

    Steps are the metric `step`, the x axis of all others, and not W&B's own row counter: that one only goes
    up, and a run that resumes at an earlier step must be able to tell that step again.
    """

    def __init__(
        self,
        run_folder: str | Path,
        config: Mapping[str, Any],
        project: str,
        name: str | None = None,
        entity: str | None = None,
        mode: Mode | None = None,
        *,
        metrics: MetricTable = NO_METRICS,
    ) -> None:
        """Starts or continues the W&B run.

        Args:
            run_folder: where wandb keeps its files (in `wandb/`); its metrics.jsonl gives the best so far.
            config: shown by W&B as the run's config.
            project: W&B project.
            name: of the run; the run folder's by default.
            entity: W&B user or team; the user's default by default.
            mode: None means WANDB_MODE where set, else online for who is logged in and offline for others.
            metrics: those of the task, by which the best result is found.
        """
        self._folder = Path(run_folder)
        self._metrics = metrics
        self._run: Any = None
        self._off = False
        self._where = ""
        self._rows = self._reserved = 0
        self._best: BestResult | None = None
        self._queue: queue.Queue[Callable[[], None] | None] = queue.Queue(_MOST_WAITING)
        self._thread: threading.Thread | None = None
        self._guard(lambda: self._start(dict(config), project, name, entity, mode))
        if not self._off:
            self._thread = threading.Thread(target=self._work, name="wandb-sink", daemon=True)
            self._thread.start()

    @property
    def where(self) -> str:
        """Where to look: the run's address, or for an offline run the `wandb sync` command; empty if off."""
        return self._where

    def write(self, event: Mapping[str, Any]) -> None:
        """Hand an event with a step to the thread."""
        if self._off or "step" not in event:
            return
        event = dict(event)
        try:
            self._queue.put_nowait(lambda: self._log(event))
        except queue.Full:
            self._fail("its service takes no more data")

    def close(self) -> None:
        """Finish the run, within 30 s; what is not uploaded by then stays in the folder for `wandb sync`."""
        thread, self._thread = self._thread, None
        if thread is None or self._off:
            return
        try:
            self._queue.put_nowait(None)
        except queue.Full:
            self._fail("its service takes no more data")
            return
        thread.join(_FINISH_SECONDS)
        if thread.is_alive():
            self._fail(f"it did not finish within {_FINISH_SECONDS} s")
            self._guard(_kill_service)  # what that raises is told by nobody: the sink is off already

    def _start(
        self, config: dict[str, Any], project: str, name: str | None, entity: str | None, mode: Mode | None
    ) -> None:
        import wandb

        self._folder.mkdir(parents=True, exist_ok=True)
        if mode is None and "WANDB_MODE" not in os.environ and not logged_in():
            mode = "offline"
        wanted = {
            "silent": True,
            "console": "off",
            "init_timeout": _INIT_SECONDS,
            "login_timeout": _INIT_SECONDS,
            "finish_timeout": _UPLOAD_SECONDS,  # holds for wandb's own atexit hook too
            "disable_code": True,
            "disable_git": True,  # an address of a remote may hold a token; environment.json has the commit
        }
        known = wandb.Settings.model_fields  # an older wandb lacks some
        settings = wandb.Settings(**{key: value for key, value in wanted.items() if key in known})
        wandb.setup(settings)  # else its login talks before it knows that it is silent
        run_id = self._stored_id() or secrets.token_hex(4)

        def init(mode: Mode | None) -> Any:
            with _redacted_arguments():
                return wandb.init(
                    project=project,
                    entity=entity,
                    name=redacted(name or self._folder.resolve().name),
                    id=run_id,
                    resume="allow",
                    dir=str(self._folder),
                    config=redacted_tree(config),
                    mode=mode,
                    settings=settings,
                )

        try:
            self._run = init(mode)
        except Exception as fault:  # a compute node without internet, for one
            if mode in ("offline", "disabled"):
                raise
            _log.warning("Weights & Biases runs offline (%s); `wandb sync` can upload it", _one_line(fault))
            wandb.teardown()  # the service holds the run's id for the attempt that failed
            wandb.setup(settings)
            self._run = init("offline")
        parts = self._folder / "wandb" / "offline-run-*"  # each start of an offline run is a part of its own
        self._where = f"wandb sync {parts}" if self._run.offline else str(self._run.url or "")
        self._run.define_metric("*", step_metric="step")
        self._rows = max(self._rows, int(self._run.step))
        self._reserve(run_id)
        if (self._folder / "metrics.jsonl").exists():
            self._tell_best(best_result(course(read_events(self._folder / "metrics.jsonl")), self._metrics))

    def _log(self, event: dict[str, Any]) -> None:
        values = scalars(event)
        if not values:
            return
        if self._rows >= self._reserved:
            self._reserve(self._run.id)
        position = {key: event[key] for key in ("step", "epoch") if event.get(key) is not None}
        self._run.log({**position, **values}, step=self._rows)
        self._rows += 1
        if event.get("event") == "rollback":
            self._tell_best(best_result(course(read_events(self._folder / "metrics.jsonl")), self._metrics))
        if event.get("event") == "eval":
            before = self._best
            best = best_result([event], self._metrics, before.metric if before else None)
            if best is not None and self._metrics.info(best.metric).better(
                best.value, before.value if before else None
            ):
                self._tell_best(best)

    def _tell_best(self, best: BestResult | None) -> None:
        self._best = best
        if best is not None:
            self._run.summary.update(
                {f"best/{best.metric}": best.value, "best/step": best.step, "best/weights": best.weights}
            )

    def _stored_id(self) -> str | None:
        """The run's id, and by the way the first row that no earlier process of it can have used."""
        try:
            stored = read_json(self._folder / "wandb_run.json")
            self._rows = int(stored["rows"])
            return str(stored["id"])
        except (OSError, ValueError, KeyError, TypeError):  # the first start, or damaged: a new W&B run then
            return None

    def _reserve(self, run_id: str) -> None:
        """Take the next rows for this process.

        Two offline parts of a run that tell the same row numbers would overwrite each other on the server; a
        killed process cannot say where it stopped, so it says ahead.
        """
        self._reserved = self._rows + _ROWS_AHEAD
        write_json(self._folder / "wandb_run.json", {"id": run_id, "rows": self._reserved})

    def _work(self) -> None:
        """The thread: calls in order, and the finish at the end."""
        while not self._off:
            call = self._queue.get()
            if call is None:
                self._guard(lambda: self._run.finish())
                return
            self._guard(call)

    def _guard(self, call: Callable[[], None]) -> None:
        try:
            call()
        # Broad on purpose, the one place in the program: wandb reaches into network, disk, a service process
        # and the user's login, it raises what those raise, and nothing it can raise is worth a training run.
        except (Exception, SystemExit) as fault:  # noqa: BLE001
            self._fail(_one_line(fault))
            if isinstance(fault, ConnectionError):
                self._guard(_forget_service)  # of a service that has gone: that fails too, and is known

    def _fail(self, reason: str) -> None:
        if not self._off:
            self._off = True
            self._where = ""
            _log.warning("Weights & Biases is off from here on (%s); the training goes on", reason)


@contextmanager
def _redacted_arguments() -> Iterator[None]:
    """While wandb looks at the command line, which it keeps, there are no secrets in it."""
    given = sys.argv
    sys.argv = [redacted(argument) for argument in given]
    try:
        yield
    finally:
        sys.argv = given


def _one_line(fault: BaseException) -> str:
    return " ".join(f"{type(fault).__name__}: {fault}".split())


def _kill_service() -> None:
    """End a service that hangs: wandb's own atexit hook would wait for it without end."""
    import wandb

    wandb.setup()._connection._proc._process.kill()
    wandb.teardown()


def _forget_service() -> None:
    """Take leave of a service that has ended, by a signal to all processes of a run, say.

    Without that wandb's own atexit hook would try to, and show a traceback.
    """
    import wandb

    wandb.teardown()


def logged_in() -> bool:
    """Whether this user has W&B credentials, by the environment and ~/.netrc; asks nobody and no network."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai").netloc
    given = os.environ.get("NETRC")
    for path in [Path(given)] if given else [Path.home() / ".netrc", Path.home() / "_netrc"]:
        try:
            if host in netrc.netrc(str(path)).hosts:
                return True
        except (OSError, netrc.NetrcParseError):  # none, or not readable: then wandb cannot use it either
            continue
    return False
