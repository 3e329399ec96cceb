"""The handlers of the workloads: each does one thing whose result tells whether a promise was kept."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import fenbu
from fenbu import App, CallError, Entity, Lazy, Retry, TerminalError, operation, saga, step, tx_step
from tests.simulation.world import here

app = App("simulated", url="memory:")

RETENTION_SECONDS = 120.0
"""Over before the first round of those who delete comes to this handler: a later one costs much time."""

TTL_SECONDS = 60.0

SOON = Retry(attempts=20, first_seconds=0.05, max_seconds=0.5)


async def some_work(seconds: float) -> float:
    """A step that takes its time; the auditor sees that it begins."""
    here().cluster.body_begins()
    await asyncio.sleep(seconds)
    return seconds


def plain_work(number: int) -> int:
    here().cluster.body_begins()
    return number


@app.entity
class Account(Entity):
    cents: int = 1000

    @operation
    async def add(self, cents: int) -> int:
        self.cents += cents
        return self.cents

    @operation(read_only=True)
    async def balance(self) -> int:
        return self.cents


@app.workflow
async def transfer(giver: str, taker: str, cents: int, seconds: float) -> None:
    await Account(giver).add(-cents)
    await step(some_work, seconds)
    await Account(taker).add(cents)


@app.entity
class Register(Entity):
    value: int = 0

    @operation
    async def write(self, value: int) -> int:
        before, self.value = self.value, value
        return before

    @operation
    async def swap(self, old: int, new: int) -> bool:
        if self.value != old:
            return False
        await step(some_work, 0.01)
        self.value = new
        return True

    @operation(read_only=True)
    async def read(self) -> int:
        return self.value

    @operation(read_only=True)
    async def look(self, seconds: float) -> int:
        """Long enough that others run beside it; a write in between would be seen."""
        before = self.value
        await step(some_work, seconds)
        return self.value if self.value == before else -1


@app.workflow
async def nap(seconds: float) -> float:
    """How much longer than asked for it slept, by the clocks of the nodes that it was on."""
    began = fenbu.now()
    await asyncio.sleep(seconds)
    return (fenbu.now() - began).total_seconds() - seconds


@app.workflow
async def collector(count: int) -> list[int]:
    found: list[int] = []
    while len(found) < count:
        found.append(await fenbu.wait_signal("number", int))
    return found


@app.workflow
async def claimed(number: int) -> int:
    await step(some_work, 0.2)
    return number


@app.workflow
async def taken_over(name: str) -> tuple[str, int]:
    """Waits for a number, and for a child that must not be left when another call takes its place."""
    async with asyncio.TaskGroup() as group:
        group.create_task(nap(1.0))
        number = await fenbu.wait_signal("number", int)
    return name, number


@app.workflow
async def renewing(run: int, found: list[int], count: int) -> list[int]:
    """Takes two numbers in each run, which leaves a child to wait for and another one that has to stop."""
    await nap.options(on_parent_end="wait").start(0.3)
    lasting = collector.options(id=f"{fenbu.current_id()}-{run}", on_parent_end="cancel")
    await lasting.start(count)
    for _ in range(min(2, count - len(found))):
        found.append(await fenbu.wait_signal("number", int))
        await step(some_work, 0.01)
    if len(found) < count:
        renewing.continue_as_new(run + 1, found, count)
    return found


@app.entity
class Log(Entity):
    lines: list[str] = []

    @operation
    async def append(self, line: str) -> None:
        self.lines.append(line)

    @operation
    async def later(self, line: str, seconds: float) -> None:
        self.send_later(seconds, self.append, line)

    @operation(read_only=True)
    async def all(self) -> list[str]:
        return self.lines


@app.entity
class Clock(Entity):
    """It has written down what its alarm did."""

    lines: list[str] = []

    @operation
    async def set(self, number: int, seconds: float, fails: bool) -> None:
        self.alarm(seconds, self.ring, number)
        self.lines.append(f"set {number}")
        if number % 2:
            await step(some_work, 0.1)
        if fails:
            raise TerminalError("this one is not set")

    @operation
    async def stop(self) -> None:
        self.cancel_alarm(self.ring)
        self.lines.append("stop ")

    @operation
    async def ring(self, number: int) -> None:
        await step(some_work, 0.02)
        self.lines.append(f"ring {number}")

    @operation(read_only=True)
    async def all(self) -> list[str]:
        return self.lines


@app.entity(ttl=TTL_SECONDS)
class Lease(Entity):
    """It is forgotten when nobody has written into it for a minute."""

    numbers: list[int] = []

    @operation
    async def put(self, number: int, seconds: float) -> list[int]:
        before = self.numbers
        if seconds:
            await step(some_work, seconds)
        self.numbers = [*before, number]
        return self.numbers

    @operation(read_only=True)
    async def all(self) -> list[int]:
        return self.numbers


@app.entity
class Board(Entity):
    """Everybody looks at it."""

    number: int = 0

    @operation
    async def put(self, number: int) -> None:
        self.number = number


@app.task(retry=Retry(attempts=1000, first_seconds=0.5, max_seconds=0.5))
async def observed(name: str, last: int) -> list[int]:
    """What its node sees of a board until the last one."""
    here().cluster.body_begins()
    seen: list[int] = []
    async for each in app.watch(Board(name)):
        seen.append(0 if each is None else each.state.number)
        if seen[-1] == last:
            break
    return seen


@app.entity
class Desk(Entity):
    """Who visits it is called back, and everybody writes down what he does."""

    lines: list[str] = []

    @operation
    async def visit(self, number: int, notes: int, fails: bool) -> None:
        self.lines.append(f"{number} in")
        seconds = 0.01 * len(self.lines)
        if await step(some_work, seconds) != seconds:
            raise TerminalError(f"desk {self.key} has been changed since this visit began")
        async with asyncio.TaskGroup() as group:
            for each in range(notes):
                group.create_task(back(self.key, number, each))
        self.lines.append(f"{number} out")
        await step(some_work, 0.05)
        if fails:
            raise TerminalError("this visit is void")

    @operation(reentrant=True)
    async def note(self, number: int, each: int, fails: bool) -> int:
        self.lines.append(f"{number} note {each}")
        count = len(self.lines)
        await step(some_work, 0.05)
        if fails:
            raise TerminalError("this note is void")
        self.lines.append(f"{number} end {each}")
        return len(self.lines) - count

    @operation
    async def pass_by(self, number: int) -> None:
        self.lines.append(f"{number} passed")

    @operation(read_only=True)
    async def all(self) -> list[str]:
        await step(some_work, 0.05)
        return self.lines


@app.entity
class Book(Entity):
    """What it has in its state and in its lazy fields is always the same, whatever happens."""

    lines: list[str] = []
    pages: Lazy[list[str]]
    index: Lazy[dict[str, int]]

    async def _write(self, line: str) -> None:
        pages = await self.pages.get()
        self._compare(pages)
        self.lines.append(line)
        self.pages.set([*pages, line])

    def _compare(self, pages: list[str]) -> None:
        if pages != self.lines:
            raise AssertionError(f"torn apart: {pages} and {self.lines}")

    @operation
    async def visit(self, number: int, notes: int, fails: bool) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._write(f"{number} in"))
            group.create_task(some_index(self, number))
            group.create_task(step(some_work, 0.05))
        async with asyncio.TaskGroup() as group:
            for each in range(notes):
                group.create_task(written(self.key, number, each))
        await self._write(f"{number} out")
        await step(some_work, 0.05)
        if fails:
            raise TerminalError("this visit is void")

    @operation(reentrant=True)
    async def note(self, number: int, each: int, fails: bool) -> None:
        await self._write(f"{number} note {each}")
        await step(some_work, 0.05)
        if fails:
            raise TerminalError("this note is void")
        await self._write(f"{number} end {each}")
        await some_index(self, number)

    @operation
    async def pass_by(self, number: int) -> None:
        """It changes lazy fields alone, and not for long."""
        before = await self.pages.get()
        self.pages.set([*before, "nobody may see this"])
        await step(some_work, 0.01)
        self.pages.set(before)
        await some_index(self, number)

    @operation
    async def burn(self) -> None:
        self._compare(await self.pages.get())
        self.delete()

    @operation(read_only=True)
    async def all(self) -> tuple[list[str], dict[str, int]]:
        before, index = await asyncio.gather(self.pages.get(), self.index.get())
        self._compare(before)
        await step(some_work, 0.05)
        self._compare(await self.pages.get())
        return before, index


async def some_index(book: Book, number: int) -> None:
    """Counts how often."""
    index = await book.index.get()
    book.index.set(index | {str(number): index.get(str(number), 0) + 1})


@app.workflow
async def written(book: str, number: int, each: int) -> None:
    with contextlib.suppress(TerminalError):
        await Book(book).note(number, -each, True)
    await Book(book).note(number, each, False)


@app.workflow
async def back(desk: str, number: int, each: int) -> None:
    with contextlib.suppress(TerminalError):
        await Desk(desk).note(number, -each, True)
    if await Desk(desk).note(number, each, False) != 1:
        raise AssertionError("somebody else wrote while a note was made")


@app.workflow
async def writer(log: str, copies: int, name: str, count: int) -> None:
    """One-way messages from one sender to a few receivers."""
    for number in range(count):
        for copy in range(copies):
            append, line = Log(f"{log}-{copy}").append, f"{name} {number}"
            # One with an id of its own is looked up, and must not be overtaken meanwhile.
            call = append.options(id=f"{log}-{copy}-{name}-{number}") if number % 3 == 0 else append
            await call.start(line)
        await step(some_work, 0.4 if number % 8 == 7 else 0.03)


async def charge(connection: Any, key: str) -> int:
    """A transactional step: its write and its record are one."""
    here().cluster.body_begins()
    times = (await connection.get(key) or 0) + 1
    await asyncio.sleep(here().random.choice((0.0, 0.05, 1.0)))
    await connection.put(key, times)
    return times


@app.workflow
async def charged(key: str, count: int) -> list[int]:
    return [await tx_step(charge, f"{key} {number}") for number in range(count)]


async def undo(connection: Any, key: str, part: int) -> None:
    """A compensation, and the order in which it came."""
    done = await connection.get(key) or []
    await connection.put(key, [*done, part])


async def refuse() -> None:
    raise TerminalError("this part cannot be done")


@app.workflow
async def journey(key: str, parts: int, fails: bool) -> str:
    """A saga: what was booked is cancelled in reverse, once each, if the last part fails."""

    async def cancel(part: int) -> None:
        await tx_step(undo, key, part)

    booked: list[int] = []
    try:
        for part in range(parts):
            await step(some_work, 0.01)
            booked.append(part)
        if fails:
            await step(refuse)
    except Exception:
        for part in reversed(booked):
            await cancel(part)
        return "cancelled"
    return "booked"


@app.workflow
async def trip(log: str, parts: int, fails: bool) -> None:
    async with saga() as compensate:
        for part in range(parts):
            await step(some_work, 0.01)
            compensate(Log(log).append, f"undo {part}")
        if fails:
            await step(refuse)


@app.workflow
async def cancellable(log: str) -> None:
    """Cleans up when it is cancelled: with a step and a call."""
    try:
        await asyncio.sleep(1_000_000)
    except asyncio.CancelledError:
        await step(some_work, 0.01)
        await Log(log).append("cleaned up")
        raise


@app.workflow
async def parent_of_cancellable(log: str) -> None:
    await cancellable(log)


async def fails_at_first(times: int) -> int:
    here().cluster.body_begins()
    attempt = fenbu.current_attempt().number
    if attempt <= times:
        raise RuntimeError(f"attempt {attempt}")
    return attempt


@app.workflow
async def stubborn(times: int) -> int:
    return await step.options(retry=SOON)(fails_at_first, times)


async def hangs(times: int) -> int:
    attempt = fenbu.current_attempt().number
    if attempt <= times:
        await asyncio.sleep(1_000_000)
    return attempt


@app.workflow
async def patient(times: int) -> int:
    return await step.options(retry=SOON, timeout=0.2)(hangs, times)


@app.task
async def leaf(number: int) -> int:
    await asyncio.sleep(0.01 * (number % 5))
    return number * number


@app.workflow(retention=RETENTION_SECONDS)
async def brief(number: int) -> int:
    return await step(plain_work, number)


@app.task(retry=SOON)
def plain_leaf(number: int) -> int:
    return number + 1


@app.workflow
async def tree(width: int, depth: int) -> int:
    """Fan-out and fan-in, with tasks at the bottom."""
    if depth == 0:
        return sum(await asyncio.gather(*(leaf(number) for number in range(width))))
    async with asyncio.TaskGroup() as group:
        branches = [group.create_task(tree(width, depth - 1)) for _ in range(width)]
    first = await step(plain_work, width)
    return first - width + sum(each.result() for each in branches)


@app.workflow
async def hurried(seconds: float) -> str:
    """A timeout around a step: whichever comes first, the same at each replay."""
    try:
        async with asyncio.timeout(0.3):
            await step(some_work, seconds)
    except TimeoutError:
        return "late"
    return "in time"


@app.workflow
async def catches(number: int) -> str:
    with contextlib.suppress(CallError, ValueError):
        await failing(number)
        return "went well"
    return "failed"


@app.task
async def failing(number: int) -> int:
    raise ValueError(f"not {number}")
