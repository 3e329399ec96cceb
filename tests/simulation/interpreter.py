"""Runs the programs of program.py: handlers that an app gets, and what they do for each command."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import fenbu
from fenbu import (
    App,
    CallCancelled,
    Entity,
    Retry,
    TerminalError,
    callback,
    saga,
    step,
    wait_signal,
)
from tests.simulation import program
from tests.simulation.program import Command

SOON = Retry(attempts=100, first_seconds=0.02, max_seconds=0.2)
LONG_SECONDS = 5_000.0


class Rejected(TerminalError):
    """A program that fails on purpose."""


class Board:
    """What a routine counts on, until it adds it to a cell."""

    def __init__(self) -> None:
        self.count = 0
        self.written: dict[str, int] = {}


class Interpreter:
    """The handlers of one app. `begins` is told when a body begins."""

    def __init__(self, app: App, begins: Callable[[], None] = lambda: None) -> None:
        self.app = app
        self._begins = begins
        interpreter = self

        @app.entity(name="Cell")
        class Cell(Entity):
            count: int = 0
            written: dict[str, int] = {}

            async def add(self, n: int, written: dict[str, int] | None = None) -> None:
                self.count += n
                self.written.update(written or {})

            async def run(self, commands: list[Command]) -> None:
                # The state of an entity is what its operation leaves, so it counts on a board until its end.
                board = Board()
                await interpreter.interpret(commands, board)
                self.count += board.count
                self.written.update(board.written)

        @app.workflow(name="start")
        async def start(key: str, commands: list[Command]) -> None:
            await Cell(key).run(commands)

        @app.workflow(name="routine")
        async def routine(key: str, commands: list[Command]) -> None:
            board = Board()
            await interpreter.interpret(commands, board)
            await Cell(key).add(board.count, board.written)

        @app.workflow(name="listener")
        async def listener(key: str, count: int) -> None:
            heard = [await wait_signal("n", int) for _ in range(count)]
            await Cell(key).add(sum(heard))

        @app.workflow(name="asker")
        async def asker(key: str, n: int, fails: bool) -> None:
            answer = await callback(int)
            await step.options(retry=SOON)(interpreter.answer, answer.token, n, fails)
            try:
                found = await answer.result()
            except Rejected:
                found = 10 * n
            await Cell(key).add(found)

        @app.workflow(name="gate")
        async def gate() -> None:
            await wait_signal("open", bool)

        @app.workflow(name="sleeper")
        async def sleeper(key: str, n: int, waits: str) -> None:
            try:
                await interpreter.gate.handle(waits).signal("open", True)
                await asyncio.sleep(LONG_SECONDS)
            finally:
                await Cell(key).add(n)

        @app.task(name="work", retry=SOON)
        async def work(n: int, failures: int) -> int:
            return await interpreter.body(n, failures)

        self.Cell = Cell
        self.start = start
        self.routine = routine
        self.asker = asker
        self.gate = gate
        self.listener = listener
        self.sleeper = sleeper
        self.work = work

    async def body(self, n: int, failures: int) -> int:
        """Fails so many times, then returns its number."""
        self._begins()
        await asyncio.sleep(0.001 * n)
        if fenbu.current_attempt().number <= failures:
            raise ConnectionError("not now")
        return n

    async def answer(self, token: str, n: int, fails: bool) -> None:
        """Completes or fails a callback, from outside."""
        self._begins()
        if fails:
            await self.app.fail(token, Rejected("on purpose"))
        else:
            await self.app.complete(token, n)

    async def hopeless(self) -> None:
        """A step that fails for good."""
        self._begins()
        raise TerminalError("never")

    async def interpret(self, commands: list[Command], board: Board) -> None:
        """Run a program."""
        for command in commands:
            match command:
                case program.Reject():
                    raise Rejected("on purpose")
                case program.Add(n):
                    board.count += n
                case program.Put(name, n):
                    board.written[name] = n
                case program.AddWritten(name):
                    board.count += board.written.get(name, 0)
                case program.Erase(name):
                    board.written.pop(name, None)
                case program.Call() | program.Routine() | program.Together():
                    board.count += await self._call(command)
                case (
                    program.Send()
                    | program.Twice()
                    | program.Told()
                    | program.Ask()
                    | program.Stop()
                ):
                    await self._send(command)
                case _:
                    board.count += await self._compute(command)

    async def _call(self, command: program.Call | program.Routine | program.Together) -> int:
        """Others run programs, and somebody waits for them."""
        if isinstance(command, program.Together):
            return sum(await asyncio.gather(*(self._call(each) for each in command.calls)))
        try:
            if isinstance(command, program.Routine):
                await self.routine(command.key, command.program)
            else:
                await self.Cell(command.key).run(command.program)
        except Rejected:
            return 1000
        return 1

    async def _send(
        self, command: program.Send | program.Twice | program.Told | program.Ask | program.Stop
    ) -> None:
        """Calls, and what is said to them."""
        match command:
            case program.Send(key, commands, delay):
                run: Any = self.Cell(key).run
                await run.options(delay=delay).start(commands)
            case program.Twice(key, n):
                add: Any = self.Cell(key).add
                id_ = f"twice-{fenbu.uuid4()}"
                first = await add.options(id=id_).start(n)
                await (await add.options(id=id_).start(n)).result()
                await first.result()
            case program.Told(key, ns):
                handle = await self.listener.start(key, len(ns))
                for n in ns:
                    await handle.signal("n", n)
                await handle.result()
            case program.Ask(key, n, fails):
                await self.asker(key, n, fails)
            case program.Stop(key, n):
                gate = await self.gate.start()
                handle = await self.sleeper.start(key, n, gate.id)
                await gate.result()
                await handle.cancel("enough")
                try:
                    await handle.result()
                except CallCancelled:
                    return
                raise AssertionError("a cancelled call has ended well")

    async def _compute(self, command: Any) -> int:
        """What stays within this call: steps, timers, asyncio."""
        match command:
            case program.AddStep(n, failures):
                return await step.options(retry=SOON)(self.body, n, failures)
            case program.AddTask(n, failures):
                return await self.work(n, failures)
            case program.FailStep(n):
                try:
                    await step.options(retry=SOON)(self.hopeless)
                except TerminalError:
                    return n
                raise AssertionError("what always fails did not")
            case program.Sleep(seconds):
                before = fenbu.now()
                await asyncio.sleep(seconds)
                return 0 if (fenbu.now() - before).total_seconds() >= seconds - 1e-3 else 1_000_000
            case program.TooLate(n):
                try:
                    async with asyncio.timeout(0.01):
                        await asyncio.sleep(LONG_SECONDS)
                except TimeoutError:
                    return n
            case program.First(n, loser):
                return await self._first(n, loser)
            case program.InTurn(ns):
                steps = [step.options(retry=SOON)(self.body, n, 0) for n in ns]
                return sum([await each for each in asyncio.as_completed(steps)])
            case program.Pipe(ns):
                return await self._pipe(ns)
            case program.Undo(key, n):
                return await self._undo(key, n)
        raise AssertionError(command)

    async def _first(self, n: int, loser: int) -> int:
        async def after(seconds: float, value: int) -> int:
            await asyncio.sleep(seconds)
            return value

        tasks = {
            asyncio.create_task(after(0.0, n)),
            asyncio.create_task(after(LONG_SECONDS, loser)),
        }
        done, late = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for each in late:
            each.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        return sum(each.result() for each in done)

    async def _pipe(self, ns: list[int]) -> int:
        queue: asyncio.Queue[int | None] = asyncio.Queue(maxsize=1)

        async def fill() -> None:
            for n in ns:
                await queue.put(await step.options(retry=SOON)(self.body, n, 0))
            await queue.put(None)

        total = 0
        async with asyncio.TaskGroup() as group:
            group.create_task(fill())
            while (n := await queue.get()) is not None:
                total += n
        return total

    async def _undo(self, key: str, n: int) -> int:
        try:
            async with saga() as undo:
                await self.Cell(key).add(n)
                undo(self.Cell(key).add, -n)
                await self.Cell(key).add(5)
                undo(self.Cell(key).add, 1 - 5)
                raise Rejected("on purpose")
        except Rejected:
            return n
