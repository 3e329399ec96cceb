"""Random programs: lists of commands whose effect on every counter is known before they run.

A program runs on a cell, which is an entity or, for a routine, a workflow that adds what it has to a cell at
its end. Cells of a layer call cells of the next one only, so that nobody waits in a circle.
"""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import TypeAlias

from msgspec import Struct

LAYERS = 3


class Add(Struct, tag=True):
    """Count."""

    n: int


class Put(Struct, tag=True):
    """Write down a number under a name."""

    name: str
    n: int


class AddWritten(Struct, tag=True):
    """Count what stands under a name."""

    name: str


class Erase(Struct, tag=True):
    """Forget what stands under a name."""

    name: str


class Sleep(Struct, tag=True):
    """A durable timer."""

    seconds: float


class AddStep(Struct, tag=True):
    """Count what a step returns, which fails some times before."""

    n: int
    failures: int


class FailStep(Struct, tag=True):
    """Count if a step fails for good."""

    n: int


class AddTask(Struct, tag=True):
    """Count what a task returns, which fails some times before."""

    n: int
    failures: int


class Call(Struct, tag=True):
    """Run a program on another cell and wait. It may reject: then nothing of its own counts."""

    key: str
    program: list[Command]


class Send(Struct, tag=True):
    """Run a program on another cell, now or later, and do not wait."""

    key: str
    program: list[Command]
    delay: float


class Twice(Struct, tag=True):
    """Start the same call two times: it runs once."""

    key: str
    n: int


class Together(Struct, tag=True):
    """Several at a time: gather."""

    calls: list[Call]


class InTurn(Struct, tag=True):
    """Several at a time, counted as they come: as_completed."""

    ns: list[int]


class TooLate(Struct, tag=True):
    """Count when a timeout has cut a sleep."""

    n: int


class First(Struct, tag=True):
    """Count what comes first; the other one is cancelled."""

    n: int
    loser: int


class Pipe(Struct, tag=True):
    """Count what goes through a queue between two tasks."""

    ns: list[int]


class Routine(Struct, tag=True):
    """Run a program as a workflow of its own, and wait."""

    key: str
    program: list[Command]


class Told(Struct, tag=True):
    """A workflow counts what it is sent by signals, some of them before it waits."""

    key: str
    ns: list[int]


class Stop(Struct, tag=True):
    """Cancel a workflow that has begun: its cleaning up counts once."""

    key: str
    n: int


class Ask(Struct, tag=True):
    """A workflow counts what its callback is completed with; ten times as much if it is failed."""

    key: str
    n: int
    fails: bool


class Undo(Struct, tag=True):
    """A saga that fails: what it did is undone, and the undoing counts."""

    key: str
    n: int


class Reject(Struct, tag=True):
    """Fail: nothing of this program's own counts. What it has sent goes on."""


Command: TypeAlias = (
    Add | Put | AddWritten | Erase | Sleep | AddStep | FailStep | AddTask | Call | Send | Twice | Together
    | InTurn | TooLate | First | Pipe | Routine | Told | Ask | Stop | Undo | Reject
)  # fmt: skip


class Cell(Struct):
    """What a cell holds when everything has ended."""

    count: int = 0
    written: dict[str, int] = {}


class Prediction:
    """What every cell holds in the end, by key."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.written: dict[str, dict[str, int]] = {}

    def cells(self) -> dict[str, Cell]:
        """Those that hold anything."""
        return {
            key: Cell(self.counts[key], self.written.get(key, {}))
            for key in {*self.counts, *self.written}
            if self.counts[key] or self.written.get(key)
        }

    def run(self, key: str, program: list[Command]) -> bool:
        """A program runs on a cell. False if it rejects."""
        count, written = 0, dict[str, int]()
        for command in program:
            match command:
                case Reject():
                    return False
                case Put(name, n):
                    written[name] = n
                case AddWritten(name):
                    count += written.get(name, 0)
                case Erase(name):
                    written.pop(name, None)
                case _:
                    count += self._counts(command)
        self.counts[key] += count
        self.written.setdefault(key, {}).update(written)
        return True

    def _counts(self, command: Command) -> int:
        """What a command adds to its own cell, beside what it does to others."""
        match command:
            case Add(n) | AddStep(n) | FailStep(n) | AddTask(n) | TooLate(n) | First(n):
                return n
            case InTurn(ns) | Pipe(ns):
                return sum(ns)
            case Call(key, program) | Routine(key, program):
                return 1 if self.run(key, program) else 1000
            case Send(key, program):
                self.run(key, program)
            case Together(calls):
                return sum(self._counts(each) for each in calls)
            case Twice(key, n) | Stop(key, n):
                self.counts[key] += n
            case Told(key, ns):
                self.counts[key] += sum(ns)
            case Ask(key, n, fails):
                self.counts[key] += 10 * n if fails else n
            case Undo(key, n):
                # Done and undone; 1 for having been undone.
                self.counts[key] += 1
                return n
            case _:
                pass
        return 0


class Programs:
    """Draws programs. Every name that is written down is used in one program only."""

    def __init__(self, random: Random, prefix: str, keys: int) -> None:
        self._random = random
        self._prefix = prefix
        self._keys = keys
        self._names = 0

    def key(self, layer: int) -> str:
        """A cell of a layer."""
        return f"{self._prefix}{layer}-{self._random.randrange(self._keys)}"

    def draw(self, layer: int = 1, most: int = 6) -> list[Command]:
        """A program for a cell of a layer."""
        program: list[Command] = []
        for _ in range(self._random.randint(1, most)):
            program += self._some(layer)
        if layer > 1 and self._random.random() < 0.15:
            program.append(Reject())
        return program

    def _some(self, layer: int) -> list[Command]:
        chance = self._random
        n = chance.randrange(1, 10)
        kinds = ["add", "state", "sleep", "step", "fail", "task", "late", "first", "turn", "pipe"]
        if layer < LAYERS:
            kinds += [
                "call",
                "call",
                "send",
                "twice",
                "together",
                "routine",
                "told",
                "ask",
                "stop",
                "undo",
            ]
        deeper = layer + 1
        match chance.choice(kinds):
            case "add":
                return [Add(n)]
            case "state":
                return self._state(n)
            case "sleep":
                return [Sleep(chance.choice((0.0, 0.01, 0.05)))]
            case "step":
                return [AddStep(n, chance.choice((0, 0, 1, 2)))]
            case "fail":
                return [FailStep(n)]
            case "task":
                return [AddTask(n, chance.choice((0, 0, 1)))]
            case "late":
                return [TooLate(n)]
            case "first":
                return [First(n, 100 * n)]
            case "turn":
                return [InTurn([chance.randrange(10) for _ in range(chance.randint(1, 4))])]
            case "pipe":
                return [Pipe([chance.randrange(10) for _ in range(chance.randint(1, 4))])]
            case "call":
                return [Call(self.key(deeper), self.draw(deeper, 3))]
            case "send":
                delay = chance.choice((0.0, 0.0, 0.05, 1.0))
                return [Send(self.key(deeper), self.draw(deeper, 3), delay)]
            case "twice":
                return [Twice(self.key(deeper), n)]
            case "together":
                count = chance.randint(1, 3)
                return [
                    Together([Call(self.key(deeper), self.draw(deeper, 2)) for _ in range(count)])
                ]
            case "routine":
                return [Routine(self.key(deeper), self.draw(deeper, 3))]
            case "told":
                return [Told(self.key(deeper), [chance.randrange(10) for _ in range(3)])]
            case "ask":
                return [Ask(self.key(deeper), n, chance.random() < 0.3)]
            case "stop":
                return [Stop(self.key(deeper), n)]
            case _:
                return [Undo(self.key(deeper), n)]

    def _state(self, n: int) -> list[Command]:
        self._names += 1
        name = f"{self._prefix}{self._names}"
        some: list[Command] = [Put(name, n), AddWritten(name)]
        if self._random.random() < 0.7:
            some += [Erase(name), AddWritten(name)]
        return some
