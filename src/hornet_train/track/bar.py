"""The progress bar, panel and tables on a terminal, by rich."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import IO, Any, cast

from rich import box
from rich.console import Console
from rich.panel import Panel
from rich.progress import BarColumn, Progress, ProgressColumn, Task
from rich.table import Column, Table
from rich.text import Text

from hornet_train.track import text
from hornet_train.track.events import number
from hornet_train.track.metric_table import MetricTable

_ACCENT = "cyan"
_WIDE = 110  # columns; a narrower bar leaves out the step


class Bar:
    """One bar: epoch, step, loss, best metric, images/s, data wait, time left; redrawn 4 times a second."""

    def __init__(
        self,
        stream: text.SafeStream,
        total_steps: int,
        steps_per_epoch: int,
        *,
        shift: int = 0,
        metrics: MetricTable,
        redirect: bool,
    ) -> None:
        """`shift`: see `console_for`. `redirect`: print other output of this process above the bar; if the
        stream is its own stdout."""
        self._metrics = metrics
        self._total = total_steps
        self._steps_per_epoch = max(steps_per_epoch, 1)
        self._shift = shift
        # the caller knows that the stream is a terminal; rich must not decide by the environment
        self._console = Console(
            file=cast(IO[str], stream), force_terminal=True, highlight=False, markup=False
        )
        self._progress = Progress(
            _Field("where", style="bold"),
            BarColumn(bar_width=None, complete_style=_ACCENT, table_column=Column(ratio=1, min_width=6)),
            _Field("numbers"),
            _Field("eta", style="dim"),
            console=self._console,
            refresh_per_second=4,
            expand=True,
            redirect_stdout=redirect,
            redirect_stderr=redirect,
        )
        self._wide = self._console.width >= _WIDE
        self._started = False
        self._task = self._progress.add_task("train", total=total_steps, where="", numbers="", eta="")
        self._headline: tuple[int, str, float] | None = None  # step, metric, value
        self._train = ""  # loss of the latest train event
        self._speed = ""  # speed of the latest train event

    def advance(self, step: int, eta: float | None) -> None:
        """Move to `step`; the first call puts the bar on the screen."""
        if not self._started:
            self._started = True
            self._progress.start()
        epoch, epochs = ((one - self._shift) / self._steps_per_epoch for one in (step, self._total))
        where = f"epoch {epoch:.1f}/{epochs:.0f}"
        if self._wide:
            where += f"  step {step:,}/{self._total:,}"
        self._progress.update(self._task, completed=step, where=where, eta=f"ETA {text.duration(eta)}")

    def train(self, event: Mapping[str, Any]) -> None:
        """The numbers of a train event."""
        loss = event.get("loss")
        self._train = f"loss {loss:.3f}" if isinstance(loss, int | float) else ""
        speed, wait = number(event.get("images_per_second")), number(event.get("data_wait"))
        words = [
            f"{speed:,.0f} img/s" if speed is not None else "",
            f"wait {wait:.0%}" if wait is not None else "",
        ]
        self._speed = "  ".join(filter(None, words))
        self._show()

    def evaluated(self, step: int, metrics: Mapping[str, float]) -> None:
        """Show the headline metric of an evaluation; the better of two at one step (model, ema)."""
        if not metrics:
            return
        name, value = next(iter(metrics.items()))
        shown = self._headline[2] if self._headline and self._headline[0] == step else None
        if self._metrics.info(name).better(value, shown):
            self._headline = (step, name, value)
        self._show()

    def print(self, message: str, style: str | None = None) -> None:
        """Print lines above the bar."""
        self._console.print(Text(message, style=style or ""), soft_wrap=True)

    def panel(self, rows: Mapping[str, str | list[str]], title: str) -> None:
        """Keys and values in a frame."""
        grid = Table.grid(padding=(0, 2))
        grid.add_column(style=_ACCENT, no_wrap=True)
        grid.add_column(overflow="fold")
        for key, value in rows.items():
            for label, line in text.zip_first(key, [value] if isinstance(value, str) else value):
                grid.add_row(Text(label), Text(line))
        heading = Text(title, style="bold") if title else None
        self._console.print(Panel(grid, title=heading, title_align="left", border_style="dim", expand=False))

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """A table of results."""
        table = Table(
            title=Text(title, style="bold") if title else None, title_justify="left", box=box.SIMPLE_HEAD
        )
        for name, numeric in zip(columns, text.numeric_columns(columns, rows), strict=True):
            table.add_column(Text(name), justify="right" if numeric else "left")
        for row in rows:
            table.add_row(*(Text(cell if isinstance(cell, str) else text.short(cell)) for cell in row))
        self._console.print(table)

    def stop(self) -> None:
        """Stop updating the bar, and leave it on the screen."""
        if self._started:
            self._started = False
            self._progress.stop()

    def _show(self) -> None:
        result = text.metric_text(*self._headline[1:], self._metrics) if self._headline else ""
        self._progress.update(self._task, numbers="  ".join(filter(None, (self._train, result, self._speed))))


class _Field(ProgressColumn):
    """A text of the progress task, truncated if the terminal is too narrow."""

    def __init__(self, name: str, style: str = "") -> None:
        super().__init__(table_column=Column(no_wrap=True))
        self._name = name
        self._style = style

    def render(self, task: Task) -> Text:
        """The present text."""
        return Text(str(task.fields[self._name]), style=self._style)
