"""Search attributes: given at the start, changed by the code, found from anywhere."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from fenbu import App, Entity, Status, UsageError, set_attributes, step, wait_signal
from fenbu.testing import crash_everywhere
from tests.fixture.postgres import Session

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


async def price(customer: int) -> float:
    return customer * 10.5


def register(app: App) -> Any:
    @app.task
    async def resize(width: int) -> int:
        return width

    @app.workflow
    async def order(customer: int) -> float:
        total = await step(price, customer)
        set_attributes(stage="priced", total=total)
        await resize.options(attributes={"customer": customer, "child": True}).start(1)
        await wait_signal("paid")
        set_attributes(stage="paid", due=NOON, draft=None)
        return total

    @app.entity
    class Stock(Entity):
        units: int = 0

        async def add(self, n: int) -> None:
            self.units += n
            set_attributes(units=self.units)

    return order, resize, Stock


async def ids(app: App, *where: Any, **more: Any) -> list[str]:
    return [each.id for each in (await app.list_calls(where=where, **more)).calls]


async def stage_is(app: App, stage: str, id_: str) -> None:
    async with asyncio.timeout(20):
        while id_ not in await ids(app, ("stage", "=", stage)):
            await asyncio.sleep(0)


async def test_they_are_given_changed_and_found(app: App) -> None:
    order, resize, stock = register(app)
    async with app:
        await order.options(id="a", attributes={"customer": 7, "draft": True}).start(7)
        handle = await order.options(id="b", attributes={"customer": 8, "draft": True}).start(8)
        await stage_is(app, "priced", "a")
        await stage_is(app, "priced", "b")
        assert await ids(app, ("customer", "=", 7), handler=order.name) == ["a"]
        assert set(await ids(app, ("total", ">", 1))) == {"a", "b"}
        assert await ids(app, ("total", ">", 80)) == ["b"]
        await handle.signal("paid")
        assert await handle.result() == 84.0
        (info,) = (await app.list_calls(where=[("due", "=", NOON)])).calls
        assert info.attributes == {"customer": 8, "stage": "paid", "total": 84.0, "due": NOON}
        assert (info.id, info.status, info.handler) == ("b", Status.COMPLETED, order.name)
        assert info.finished_at is not None
        assert info.finished_at >= info.created_at
        assert await ids(app, ("draft", "=", True)) == ["a"]
        assert len(await ids(app, ("child", "=", True), handler=resize.name)) == 2
        await stock("tea").add(5)
        (info,) = (await app.list_calls(where=[("units", ">=", 5)])).calls
        assert info.key == "tea"
        assert info.handler.startswith(str(info.entity))


async def test_one_that_is_none_is_none_that_the_call_has(app: App) -> None:
    @app.task
    async def work() -> int:
        return 1

    async with app:
        handle = await work.options(id="a", attributes={"x": None, "y": 2}).start()
        assert await handle.result() == 1
        await work.options(id="b", attributes={"x": None})()
        found = {each.id: each.attributes for each in (await app.list_calls()).calls}
    assert found == {"a": {"y": 2}, "b": {}}


async def test_a_second_start_of_an_id_changes_none(app: App) -> None:
    order, _, _ = register(app)
    async with app:
        await order.options(id="a", attributes={"customer": 7}).start(7)
        await order.options(id="a", attributes={"customer": 9}).start(7)
        await stage_is(app, "priced", "a")
        assert await ids(app, ("customer", "=", 9), handler=order.name) == []


async def test_pages_are_asked_for_one_after_the_other(app: App) -> None:
    _, resize, _ = register(app)
    async with app:
        some = resize.options(attributes={"run": 1})
        for width in range(5):
            await some(width)
        page = await app.list_calls(where=[("run", "=", 1)], limit=2)
        count = len(page.calls)
        while page.next is not None:
            page = await app.list_calls(where=[("run", "=", 1)], limit=2, after=page.next)
            count += len(page.calls)
        assert count == 5
        assert len((await app.list_calls(statuses=[Status.COMPLETED])).calls) == 5
        for each in (("cust",), "run", ("run", "=", 1, 2)):
            with pytest.raises(UsageError, match="a condition is a name, an operator and a value"):
                await ids(app, each)
        for wrong in ({"limit": 0}, {"after": "x"}, {"where": [("run", "!=", 1)]}):
            with pytest.raises(UsageError):
                await app.list_calls(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("app", ["sqlite", "postgres"], indirect=True)
async def test_a_client_gives_them_and_finds_calls_and_they_outlive_the_node(app: App) -> None:
    order, _, _ = register(app)
    async with app.client():
        await order.options(id="a", attributes={"customer": 7}).start(7)
    async with app:
        await stage_is(app, "priced", "a")
    async with app.client():
        assert await ids(app, ("total", "<=", 73.5), ("stage", "=", "priced")) == ["a"]
        await app.handle("a").signal("paid")
    async with app:
        assert await order.handle("a").result() == 73.5
        (info,) = (await app.list_calls(where=[("stage", "=", "paid")])).calls
        assert info.attributes["total"] == 73.5


@pytest.mark.parametrize("app", ["postgres"], indirect=True)
async def test_sql_gives_them_and_reads_them(app: App) -> None:
    order, _, _ = register(app)
    async with app:
        with Session(app.url) as session:
            schema = session.schema
            id_ = session.value(
                f"""SELECT {schema}.start('{order.name}', '{{"customer": 7}}',
                attributes => '{{"customer": 7, "vip": true, "city": "Oslo", "at": {{"time": 5.5}}}}')"""
            )
            await stage_is(app, "priced", id_)
            (info,) = (
                await app.list_calls(where=[("vip", "=", True), ("city", "=", "Oslo")])
            ).calls
            assert info.attributes["at"] == datetime.fromtimestamp(5.5, UTC)
            found = session.rows(
                f"SELECT call_id FROM {schema}.attribute WHERE name = 'total' AND number > 70"
            )
            assert [each[0] for each in found] == [id_]
            plain = session.value(
                f"SELECT {schema}.start('{order.name}', '{{\"customer\": 9}}', 'id-9')"
            )
            assert plain == "id-9"
            for wrong in ("[1]", '{"a b": 1}', '{"a": [1]}', '{"a": 1e999}', '{"a": null}'):
                with pytest.raises(Exception, match="attributes must be a JSON object"):
                    session.value(f"SELECT {schema}.start('x', '{{}}', attributes => '{wrong}')")


async def test_inside_a_workflow_they_are_set_and_not_searched(app: App) -> None:
    @app.workflow
    async def look() -> None:
        await app.list_calls()

    async with app:
        with pytest.raises(UsageError, match="ask for it in a step"):
            await look()
        with pytest.raises(UsageError, match="belongs into the code of a workflow"):
            set_attributes(a=1)


def test_a_crash_at_any_commit_changes_nothing() -> None:
    app = App("crash", url="memory:")

    @app.workflow
    async def order(customer: int) -> float:
        set_attributes(customer=customer)
        total = await step(price, customer)
        set_attributes(total=total)
        await step(price, 1)
        return total

    async def scenario() -> list[Any]:
        await order.options(id="a", attributes={"first": "x"})(7)
        (info,) = (await app.list_calls(where=[("total", "=", 73.5)])).calls
        return sorted(info.attributes.items())

    assert crash_everywhere(app, scenario) >= 3
