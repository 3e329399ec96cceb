"""A long task that says how far it is: it goes on there after an error, and whoever waits can watch it.

The database that it writes to is opened once on each node, and a request's id travels with the call.
Run it: `python examples/table_import.py`
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Annotated

import fenbu
from fenbu import INJECTED, App, Middleware, Resource, Retry, Starting, Status

app = App("table-import", url="memory:")

request_id: ContextVar[str] = ContextVar("request_id", default="")


@app.middleware
class Requests(Middleware):
    """Gives each call the id of the request that it is made for."""

    @contextmanager
    def start(self, call: Starting) -> Generator[None]:
        if request_id.get():
            call.context["request"] = request_id.get()
        yield


class Table:
    """Stands for a database."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    async def insert(self, row: int) -> None:
        await asyncio.sleep(0.001)
        self.rows.append(row)


async def open_table() -> AsyncIterator[Table]:
    print("table opened")
    table = Table()
    yield table
    print(f"table closed with {len(table.rows)} rows")


@app.task(
    retry=Retry(attempts=5, first_seconds=0.05),
    heartbeat_timeout=30,  # an attempt that is silent for so long has hung: the next one takes over
)
async def import_rows(count: int, table: Annotated[Table, Resource(open_table)] = INJECTED) -> int:
    attempt = fenbu.current_attempt()
    start = attempt.last_heartbeat(int) or 0
    print(f"attempt {attempt.number} for {attempt.context['request']} begins at row {start}")
    for row in range(start, count):
        if row == 300 and attempt.number == 1:
            raise ConnectionError("the source has hung up")
        await table.insert(row)
        fenbu.heartbeat(row + 1)
    return count


async def main() -> None:
    async with app:
        request_id.set("request-7")
        handle = await import_rows.start(1000)
        while await handle.status() in (Status.PENDING, Status.RUNNING):
            print(f"{await handle.progress(int) or 0} rows so far")
            await asyncio.sleep(0.5)
        print(f"imported {await handle.result()} rows")


if __name__ == "__main__":
    asyncio.run(main())
