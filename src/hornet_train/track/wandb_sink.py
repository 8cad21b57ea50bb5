"""Weights & Biases as a sink that can neither stop nor slow down the training.

Every call into wandb is guarded and, except the first, made by a separate thread. The first failure is logged
once and disables this sink. metrics.jsonl has all events anyway. An offline W&B run loses its last events to
a SIGKILL, or to a SIGTERM that wandb's service receives too, because wandb writes its file in blocks of
32 KiB.
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

from hornet_train.file_names import as_text, as_text_tree
from hornet_train.redaction import redacted, redacted_tree
from hornet_train.track.durable_files import read_json, write_json
from hornet_train.track.events import BestResult, best_result, scalars, without_undone
from hornet_train.track.metric_table import NO_METRICS, MetricTable
from hornet_train.track.sinks import read_events

Mode = Literal["online", "offline", "disabled"]

_log = logging.getLogger("hornet_train")

_INIT_SECONDS = 30
_UPLOAD_SECONDS = 20  # for the rest of the upload at the end
_FINISH_SECONDS = 30  # after which its service counts as hung
_ROWS_AHEAD = 1000  # history rows reserved at a time, see `_reserve`
_MAX_WAITING = 10_000  # events in the queue; with more the service counts as gone


class WandbSink:
    """One W&B run for one run folder, continued after a resume: its id is in `<run folder>/wandb_run.json`.

    The x axis of all metrics is a metric `step`, and not W&B's own row counter. That counter only increases,
    but a run that resumes at an earlier step has to log that step again.
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
        """Start or continue the W&B run.

        Args:
            run_folder: wandb stores its files here, in `wandb/`. The best result so far is read from its
                metrics.jsonl.
            config: shown by W&B as the run's config.
            project: W&B project.
            name: of the run; None for the name of the run folder.
            entity: W&B user or team; None for the user's default.
            mode: None for WANDB_MODE if set, else online for a user who is logged in and offline for others.
            metrics: those of the task, by which the best result is found.
        """
        self._folder = Path(run_folder)
        self._metrics = metrics
        self._run: Any = None
        self._disabled = False
        self._where = ""
        self._rows = self._reserved = 0
        self._best: BestResult | None = None
        self._queue: queue.Queue[Callable[[], None] | None] = queue.Queue(_MAX_WAITING)
        self._thread: threading.Thread | None = None
        self._guard(lambda: self._start(dict(config), project, name, entity, mode))
        if not self._disabled:
            self._thread = threading.Thread(target=self._work, name="wandb-sink", daemon=True)
            self._thread.start()

    @property
    def where(self) -> str:
        """The run's URL, or for an offline run the `wandb sync` command; empty if the sink is disabled."""
        return self._where

    def write(self, event: Mapping[str, Any]) -> None:
        """Queue an event that has a step for the thread."""
        if self._disabled or "step" not in event:
            return
        event = dict(event)
        try:
            self._queue.put_nowait(lambda: self._log(event))
        except queue.Full:
            self._fail("its service takes no more data")

    def close(self) -> None:
        """Finish the run within 30 s; data not uploaded by then stays in the folder for `wandb sync`."""
        thread, self._thread = self._thread, None
        if thread is None or self._disabled:
            return
        try:
            self._queue.put_nowait(None)
        except queue.Full:
            self._fail("its service takes no more data")
            return
        thread.join(_FINISH_SECONDS)
        if thread.is_alive():
            self._fail(f"it did not finish within {_FINISH_SECONDS} s")
            self._guard(_kill_service)  # an error there is not logged: the sink is disabled already

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
            "finish_timeout": _UPLOAD_SECONDS,  # applies to wandb's own atexit hook too
            "disable_code": True,
            "disable_git": True,  # the URL of a remote may contain a token; environment.json has the commit
        }
        known = wandb.Settings.model_fields  # older versions of wandb lack some
        settings = wandb.Settings(**{key: value for key, value in wanted.items() if key in known})
        wandb.setup(settings)  # before the login, which would print messages otherwise
        run_id = self._stored_id() or secrets.token_hex(4)

        def init(mode: Mode | None) -> Any:
            with _redacted_arguments():
                return wandb.init(
                    project=project,
                    entity=entity,
                    name=as_text(redacted(name or self._folder.resolve().name)),
                    id=run_id,
                    resume="allow",
                    dir=str(self._folder),
                    config=as_text_tree(redacted_tree(config)),
                    mode=mode,
                    settings=settings,
                )

        try:
            self._run = init(mode)
        except Exception as error:  # a compute node without internet, for one
            if mode in ("offline", "disabled"):
                raise
            _log.warning("Weights & Biases runs offline (%s); `wandb sync` can upload it", _one_line(error))
            wandb.teardown()  # else the service still has the run's id reserved for the failed attempt
            wandb.setup(settings)
            self._run = init("offline")
        parts = self._folder / "wandb" / "offline-run-*"  # each start of an offline run writes a new folder
        self._where = f"wandb sync {parts}" if self._run.offline else str(self._run.url or "")
        self._run.define_metric("*", step_metric="step")
        self._rows = max(self._rows, int(self._run.step))
        self._reserve(run_id)
        if (self._folder / "metrics.jsonl").exists():
            self._summarise(self._best_so_far())

    def _log(self, event: dict[str, Any]) -> None:
        values = scalars(event)
        if not values:
            return
        if self._rows >= self._reserved:
            self._reserve(self._run.id)
        position = {key: event[key] for key in ("step", "epoch") if event.get(key) is not None}
        self._run.log({**position, **values}, step=self._rows)
        self._rows += 1
        if event.get("event") == "rollback" or "lost_best" in event:
            self._summarise(self._best_so_far())
        if event.get("event") == "eval":
            before = self._best
            best = best_result([event], self._metrics, before.metric if before else None)
            if best is not None and self._metrics.info(best.metric).better(
                best.value, before.value if before else None
            ):
                self._summarise(best)

    def _best_so_far(self) -> BestResult | None:
        return best_result(without_undone(read_events(self._folder / "metrics.jsonl")), self._metrics)

    def _summarise(self, best: BestResult | None) -> None:
        """Show the best result in the summary of the W&B run; None takes back the one before."""
        before, self._best = self._best, best
        if best is not None:
            self._run.summary.update(
                {f"best/{best.metric}": best.value, "best/step": best.step, "best/weights": best.weights}
            )
        elif before is not None:
            self._run.summary.update({f"best/{before.metric}": None, "best/step": None, "best/weights": None})

    def _stored_id(self) -> str | None:
        """The run's id; None for a new run. Also sets the first row that no earlier process has used."""
        try:
            stored = read_json(self._folder / "wandb_run.json")
            self._rows = int(stored["rows"])
            return str(stored["id"])
        except (OSError, ValueError, KeyError, TypeError):  # missing or damaged: start a new W&B run
            return None

    def _reserve(self, run_id: str) -> None:
        """Reserve the next rows for this process.

        Two offline parts of a run with the same row numbers would overwrite each other on the server. A
        killed process cannot store where it stopped, so the rows are reserved before they are used.
        """
        self._reserved = self._rows + _ROWS_AHEAD
        write_json(self._folder / "wandb_run.json", {"id": run_id, "rows": self._reserved})

    def _work(self) -> None:
        """The thread: makes the queued calls in order, and finishes the run at the end."""
        while not self._disabled:
            call = self._queue.get()
            if call is None:
                self._guard(lambda: self._run.finish())
                return
            self._guard(call)

    def _guard(self, call: Callable[[], None]) -> None:
        try:
            call()
        # Catches everything, the only place in the program that does: wandb uses network, disk, a service
        # process and the user's login, and raises errors of all these; none may end a training run.
        except (Exception, SystemExit) as error:  # noqa: BLE001
            self._fail(_one_line(error))
            if isinstance(error, ConnectionError):
                self._guard(_forget_service)  # the service is gone, so this may fail too

    def _fail(self, reason: str) -> None:
        if not self._disabled:
            self._disabled = True
            self._where = ""
            _log.warning("Weights & Biases is off from here on (%s); the training goes on", reason)


@contextmanager
def _redacted_arguments() -> Iterator[None]:
    """Hide secrets of the command line from wandb, which stores it."""
    given = sys.argv
    sys.argv = [as_text(redacted(argument)) for argument in given]
    try:
        yield
    finally:
        sys.argv = given


def _one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def _kill_service() -> None:
    """Kill a service that hangs: wandb's own atexit hook would wait for it for ever."""
    import wandb

    wandb.setup()._connection._proc._process.kill()
    wandb.teardown()


def _forget_service() -> None:
    """Close the connection to a service that has ended, by a signal to all processes of the run for example.

    Otherwise wandb's own atexit hook would try to, and print a traceback.
    """
    import wandb

    wandb.teardown()


def logged_in() -> bool:
    """Whether this user has W&B credentials, in the environment or ~/.netrc; uses no network."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai").netloc
    given = os.environ.get("NETRC")
    for path in [Path(given)] if given else [Path.home() / ".netrc", Path.home() / "_netrc"]:
        try:
            if host in netrc.netrc(str(path)).hosts:
                return True
        except (OSError, netrc.NetrcParseError):  # missing or unreadable: wandb cannot use it either
            continue
    return False
