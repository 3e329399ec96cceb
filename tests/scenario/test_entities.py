"""Entities as a user sees them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from fenbu import App, DeadlockError, Entity, Status, UsageError, operation, step


@dataclass
class Entry:
    at: datetime
    amount: Decimal


def test_operations_of_a_key_run_one_at_a_time_in_order(app: App) -> None:
    async def slowly(n: int) -> int:
        for _ in range(3):
            await asyncio.sleep(0)
        return n

    @app.entity
    class Log(Entity):
        seen: list[int] = []

        async def add(self, n: int) -> list[int]:
            before = len(self.seen)
            self.seen.append(await step(slowly, n))
            assert len(self.seen) == before + 1
            return self.seen

    async def main() -> None:
        async with app:
            handles = [
                *await app.start_many(Log("a").add.bind(n) for n in range(30)),  # type: ignore[attr-defined]
            ]
            assert await handles[-1].result() == list(range(30))

    asyncio.run(main())


def test_state_survives_and_types_come_back(app: App) -> None:
    @app.entity
    class Ledger(Entity):
        entries: list[Entry] = []
        total: Decimal = Decimal(0)
        tags: set[str] = set()

        async def book(self, amount: Decimal) -> Decimal:
            self.entries.append(Entry(datetime(2026, 1, 1, tzinfo=UTC), amount))
            self.total += amount
            self.tags.add("booked")
            return self.total

        @operation(read_only=True)
        async def last(self) -> Entry:
            return self.entries[-1]

    async def main() -> None:
        async with app:
            assert await Ledger("a").book(Decimal("1.10")) == Decimal("1.10")
            assert await Ledger("a").book(Decimal("2.20")) == Decimal("3.30")
            entry = await Ledger("a").last()
            assert entry == Entry(datetime(2026, 1, 1, tzinfo=UTC), Decimal("2.20"))
            assert await Ledger("b").book(Decimal(1)) == Decimal(1)

    asyncio.run(main())


@pytest.mark.guarantee("entity-linear")
def test_what_fails_changes_nothing_and_read_only_is_checked(app: App) -> None:
    @app.entity
    class Counter(Entity):
        n: int = 0

        async def add(self, n: int) -> int:
            self.n += n
            return self.n

        async def fail(self) -> None:
            self.n = 99
            raise ValueError("no")

        @operation(read_only=True)
        async def cheat(self) -> None:
            self.n = 99

        async def forget(self) -> None:
            self.delete()

    async def main() -> None:
        async with app:
            counter = Counter("a")
            await counter.add(1)
            with pytest.raises(ValueError, match="no"):
                await counter.fail()
            with pytest.raises(UsageError, match="read_only, but it changed the state of Counter"):
                await counter.cheat()
            assert await counter.add(1) == 2
            await counter.forget()
            assert await counter.add(5) == 5
            with pytest.raises(AttributeError, match="no operation 'n'"):
                _ = counter.n

    asyncio.run(main())


def test_an_entity_sends_itself_a_call_for_later(app: App) -> None:
    @app.entity
    class Session(Entity):
        open: bool = False

        async def begin(self) -> str:
            self.open = True
            return self.send_later(0.05, self.expire).id

        async def expire(self) -> str:
            self.open = False
            return "expired"

    async def main() -> None:
        async with app:
            later = app.handle(await Session("a").begin())
            assert await later.status() is Status.PENDING
            assert await later.result(timeout=10) == "expired"

    asyncio.run(main())


def test_waiting_in_a_circle_is_reported(app: App) -> None:
    @app.entity
    class Node(Entity):
        async def visit(self, path: list[str]) -> int:
            return await Node(path[0]).visit(path[1:]) + 1 if path else 1

        async def cross(self, other: str) -> int:
            await asyncio.sleep(0.05)
            return await Node(other).visit([])

    async def main() -> None:
        async with app:
            assert await Node("a").visit(["b", "c"]) == 3
            with pytest.raises(DeadlockError, match="Node/a → Node/b → Node/a"):
                await Node("a").visit(["b", "a"])
            crossed = await asyncio.gather(
                Node("x").cross("y"), Node("y").cross("x"), return_exceptions=True
            )
            assert sorted(type(each).__name__ for each in crossed) == ["DeadlockError", "int"]

    asyncio.run(main())


def test_a_class_that_cannot_be_an_entity_says_why(app: App) -> None:
    @app.entity
    class Bare(Entity):
        n: int = 0

        async def get(self) -> int:
            return self.n

    class Unregistered(Entity): ...

    async def main() -> None:
        async with app:
            with pytest.raises(UsageError, match=r"decorate class Unregistered with @app\.entity"):
                Unregistered("a")
            with pytest.raises(UsageError, match="the key must be a text"):
                Bare("")

    asyncio.run(main())


def test_a_client_elsewhere_gets_what_is_not_kept(tmp_path: Path) -> None:
    def make() -> tuple[App, type[Entity]]:
        app = App("kept", url=f"sqlite:///{tmp_path}/kept.db")

        @app.entity
        class Counter(Entity):
            n: int = 0

            @operation(retention=0)
            async def add(self, n: int) -> int:
                self.n += n
                return self.n

            @operation(read_only=True)
            async def get(self) -> int:
                return self.n

        return app, Counter

    async def main() -> None:
        (node, _), (elsewhere, counter) = make(), make()
        async with elsewhere.client():
            await elsewhere.start_many(counter("a").add.bind(1) for _ in range(100))  # type: ignore[attr-defined]
            async with node:
                assert await counter("a").get() == 100  # type: ignore[attr-defined]
                handle = await counter("a").get.start()  # type: ignore[attr-defined]
                assert await handle.result(timeout=20) == 100
                assert await counter("a").add(1) == 101  # type: ignore[attr-defined]

    asyncio.run(main())


def test_what_was_accepted_before_the_node_started_comes_first(tmp_path: Path) -> None:
    app = App("order", url=f"sqlite:///{tmp_path}/order.db")

    @app.entity
    class Counter(Entity):
        n: int = 0

        @operation
        async def add(self, n: int) -> int:
            self.n += n
            return self.n

    async def main() -> None:
        async with app.client():
            await app.start_many(Counter("a").add.bind(1) for _ in range(1000))
        async with app:
            assert await Counter("a").add(1) == 1001

    asyncio.run(main())


def test_an_operation_may_call_the_one_it_overrides(app: App) -> None:
    class Base(Entity):
        n: int = 0

        @operation
        async def add(self, n: int) -> int:
            self.n += n
            return self.n

    @app.entity
    class Doubling(Base):
        @operation
        async def add(self, n: int) -> int:
            return await super().add(2 * n)

    async def main() -> None:
        async with app:
            assert await Doubling("a").add(3) == 6

    asyncio.run(main())
