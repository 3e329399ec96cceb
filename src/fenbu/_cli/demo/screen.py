"""What the demo shows while it runs: bars on a terminal, a line every few seconds anywhere else."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from fenbu._cli.demo.gauge import Gauge

LINE_SECONDS = 3.0


class Screen:
    """See the module; leave it as a context before printing anything else."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._bars = Progress(
            TextColumn("{task.description:<14}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._began = time.monotonic()
        self._line_at = self._began + LINE_SECONDS
        self._totals = (0, 0, 0)

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def expect(self, *, flights: int, calls: int, days: int) -> None:
        """So much is to be done."""
        self._totals = (flights, calls, days)
        for what, total in zip(
            ("flights fed", "calls applied", "days closed"), self._totals, strict=True
        ):
            self._bars.add_task(what, total=total)

    def show(self, gauge: Gauge) -> None:
        """So much is done."""
        done = (gauge.flights, gauge.applied, gauge.days)
        if self.console.is_terminal:
            for task, completed in zip(self._bars.task_ids, done, strict=True):
                self._bars.update(task, completed=completed)
        elif time.monotonic() >= self._line_at:
            self._line_at = time.monotonic() + LINE_SECONDS
            flights, calls, days = (
                f"{each:,} of {total:,}" for each, total in zip(done, self._totals, strict=True)
            )
            self.say(f"{flights} flights fed · {calls} calls applied · {days} days closed")

    def say(self, text: str) -> None:
        """One line of the story."""
        seconds = time.monotonic() - self._began
        self.console.print(f"{seconds:6.1f} s  {text}", markup=False, highlight=False)
