"""The command line over topics: what there is, what comes, and where groups are."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_commands import Shell
from tests.end_to_end.process import NodeProcess

pytestmark = pytest.mark.end_to_end

SHOP = """
from dataclasses import dataclass
from fenbu import App, Entity

app = App("shop", idle_seconds=0.1)

@dataclass
class Placed:
    order: int
    customer: str

orders = app.topic("orders", Placed, key=lambda placed: placed.customer)

@app.entity
class Customer(Entity):
    orders: list[int] = []

    async def placed(self, placed: Placed) -> None:
        self.orders.append(placed.order)

orders.subscribe(Customer.placed, group="customers")
"""


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    made = Shell(tmp_path)
    (tmp_path / "shop.py").write_text(SHOP)
    return made


def until(holds: Callable[[], Any]) -> None:
    async def wait() -> None:
        async with asyncio.timeout(30):
            while not holds():
                await asyncio.sleep(0)

    asyncio.run(wait())


def test_topics_in_the_shell(shell: Shell) -> None:
    def group() -> dict[str, Any]:
        (log,) = shell.json("topic", "ls", "orders")
        (found,) = log["groups"]
        return found

    def state(key: str) -> Any:
        return shell.json("entity", "show", "Customer", key)["state"]["orders"]

    with NodeProcess(shell.url, app=shell.folder / "shop.py"):
        until(lambda: "customers" in shell.says("topic", "ls"))
        events = ['{"order": 1, "customer": "ann"}', '{"order": 2, "customer": "bob"}']
        assert "2 events accepted" in shell.says("topic", "publish", "orders", *events)
        lines = shell.says("topic", "tail", "orders", "--after", "0", "-n", "2", "--json")
        first, second = map(json.loads, lines.splitlines())
        assert (first["key"], first["event"]) == ("ann", {"order": 1, "customer": "ann"})
        assert second["event"]["order"] == 2
        text = shell.says("topic", "tail", "orders", "--since", "1h", "-n", "1")
        assert "ann" in text
        until(lambda: group()["offset"] == second["offset"])
        assert group() | {"call": ""} == {
            "group": "customers", "call": "", "offset": second["offset"], "behind": 0, "paused": False,
        }  # fmt: skip
        assert "customers" in shell.says("topic", "ls")

        assert "pause accepted" in shell.says("topic", "pause", "orders", "customers")
        until(lambda: group()["paused"])
        third = '{"order": 3, "customer": "ann"}'
        for _ in range(2):
            shell.says("topic", "publish", "orders", third, "--id", "third")
        until(lambda: group()["behind"] == 1)
        assert "paused" in shell.says("topic", "ls")
        shell.says("topic", "resume", "orders", "customers")
        until(lambda: state("ann") == [1, 3])
        shell.says("topic", "seek", "orders", "customers", "--offset", str(first["offset"]))
        until(lambda: state("ann") == [1, 3, 3])
        assert state("bob") == [2, 2]

    assert "it has customers" in shell.refuses("topic", "pause", "orders", "others")
    assert "has no group" in shell.refuses("topic", "pause", "nothing", "others")
    assert "say where to" in shell.refuses("topic", "seek", "orders", "customers")
    assert "no topic 'other': the app has orders" in shell.refuses("topic", "publish", "other", "1")
    assert "customer" in shell.refuses("topic", "publish", "orders", '{"order": 1}')
    assert "no node" in shell.run("topic", "pause", "orders", "customers").stderr
