"""What came out of a run: as a table for people, as JSON for programs."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct, field
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from fenbu._cli.demo.app import Report, Totals
from fenbu._cli.demo.check import Books, Expected, differences

DIFFERENCES_MAX = 10
"""Shown of each run."""

SUMS = ("flights", "cancelled", "miles", "delay_minutes")

COLUMNS = {"flights": "flights", "miles": "miles", "delay_minutes": "delay (min)"}
"""What fits into the table of a terminal of 80 columns; the sums that are compared are all."""


class Restart(Struct, kw_only=True):
    """The worker was killed, and another was started."""

    applied: int
    """Calls that had been applied by then."""
    in_flight: int
    """Calls that were accepted and not applied."""
    ready_seconds: float
    """Until another worker was ready."""
    resumed_seconds: float
    """Until it had applied the first of those calls."""


class Result(Struct, kw_only=True):
    """See the module."""

    expected: Expected
    counted: Books
    seconds: float
    """From the first call's start to the last one's end, restarts included."""
    restarts: list[Restart] = field(default_factory=list)

    @property
    def calls(self) -> int:
        """All that the worker ran until then, of the client, of workflows and of entities.

        A day has three more: `close_day`, `Day.expect` and `Day.totals`; a year has `close_year`.
        """
        return self.expected.calls + 3 * len(self._days) + len(self._years)

    @property
    def steps(self) -> int:
        """Each report is computed in one and filed in another."""
        return 2 * (len(self._days) + len(self._years))

    @property
    def signals(self) -> int:
        """From a day's entity to its workflow, and from there to the year's."""
        return 2 * len(self._days)

    @property
    def _days(self) -> dict[str, Totals | Report]:
        return self.expected.books["days"]

    @property
    def _years(self) -> dict[str, Totals | Report]:
        return self.expected.books["year reports"]

    def differences(self) -> list[str]:
        """Nothing, if every call took effect exactly once."""
        return differences(self.expected.books, self.counted)

    def as_json(self) -> str:
        """For programs."""
        found = self.differences()
        result: dict[str, Any] = {
            "ok": not found,
            "flights": self.expected.flights,
            "calls": self.calls,
            "steps": self.steps,
            "signals": self.signals,
            "seconds": round(self.seconds, 3),
            "calls_per_second": round(self.calls / self.seconds),
            "restarts": self.restarts,
            "books": {
                kind: {
                    "ok": books == self.counted.get(kind),
                    "expected": sums(books),
                    "counted": sums(self.counted.get(kind, {})),
                }
                for kind, books in self.expected.books.items()
            },
            "differences": len(found),
            "first_differences": found[:DIFFERENCES_MAX],
        }
        return msgspec.json.format(msgspec.json.encode(result)).decode()

    def print(self, console: Console) -> None:
        """For people."""
        found = self.differences()
        console.print(self._table())
        killed = f", the worker killed {len(self.restarts)} times" if self.restarts else ""
        console.print(
            f"{self.calls:,} calls, {self.steps:,} steps and {self.signals:,} signals in "
            f"{self.seconds:.1f} s{killed}: {self.calls / self.seconds:,.0f} calls a second.",
            highlight=False,
        )
        if not found:
            console.print("[green]Every total is the one computed from the file.[/]")
            return
        console.print(f"[red]{len(found)} books are not what the file says:[/]")
        for each in found[:DIFFERENCES_MAX]:
            console.print(f"  {each}", markup=False)

    def _table(self) -> Table:
        """Two lines for each kind of book: what the file says, and what was counted."""
        table = Table(box=SIMPLE_HEAD, title=f"{self.expected.flights:,} flights")
        for name in ("", "", "books", *COLUMNS, ""):
            number = name != ""
            table.add_column(
                COLUMNS.get(name, name), justify="right" if number else "left", no_wrap=True
            )
        for kind, books in self.expected.books.items():
            counted = self.counted.get(kind, {})
            right = books == counted
            table.add_row(kind, "file", *_cells(books))
            table.add_row(
                "", "fenbu", *_cells(counted), "[green]✓[/]" if right else "[red]✗[/]",
                style=None if right else "red",
            )  # fmt: skip
        return table


def _cells(books: dict[str, Totals | Report]) -> list[str]:
    found = sums(books)
    return [f"{found[name]:,}" for name in ("books", *COLUMNS)]


def sums(books: dict[str, Totals | Report]) -> dict[str, int]:
    """How many books, and what they say together."""
    return {
        "books": len(books),
        **{name: sum(getattr(each, name) for each in books.values()) for name in SUMS},
    }
