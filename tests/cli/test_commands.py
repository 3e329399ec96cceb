"""The command line, as a person uses it: on a database where something has happened."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.process import NodeProcess

pytestmark = pytest.mark.end_to_end

SHOP = """
import asyncio
from typing import Any
from fenbu import (
    App, Entity, Retry, callback, heartbeat, on_query, on_update, operation, step, stream, wait_signal,
    wait_until,
)

app = App("shop", idle_seconds=0.2)

async def charge(cents: int) -> int:
    if cents > 100:
        raise ValueError("too much")
    return cents

@app.entity
class Stock(Entity):
    units: int = 10

    async def reserve(self, n: int) -> int:
        self.units -= n
        return self.units

    async def hold(self) -> None:
        await asyncio.sleep(600)

@app.workflow
async def checkout(order: str, cents: int = 5) -> str:
    paid = await step.options(retry=Retry(attempts=2, first_seconds=0.05))(charge, cents)
    await Stock("tea").reserve(1)
    await wait_signal("approval", bool)
    return f"{order} for {paid}"

@app.workflow
async def story(title: str) -> str:
    for word in title.split():
        await stream("words", str).write(word)
    await wait_signal("more", bool)
    await stream("words", Any).write({"the": "end"})
    return title

@app.workflow
async def cart() -> int:
    items: list[str] = []

    @on_query
    def count(factor: int = 1) -> int:
        return len(items) * factor

    @on_update
    def add(sku: str, number: int = 1) -> int:
        if sku == "gone":
            raise LookupError("no such thing")
        items.extend([sku] * number)
        return len(items)

    await wait_until(lambda: len(items) >= 3)
    return len(items)

@app.workflow
async def delivery() -> str:
    place = await callback(str)
    return await place.result()

@app.task
async def copy_rows(rows: int) -> int:
    heartbeat({"rows": rows})
    return rows

@app.workflow
async def copies() -> int:
    async def silent() -> int:
        heartbeat("half way")
        await asyncio.sleep(600)
        return 1
    return await step(silent)
"""


class Follower:
    """A command that goes on while others are given."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().rstrip("\n")

    def ends(self) -> int:
        rest, _ = self._process.communicate(timeout=30)
        assert rest == ""
        return self._process.returncode


class Shell:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = f"sqlite:///{folder}/shop.db"
        (folder / "shop.py").write_text(SHOP)

    def environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("FENBU")}
        return kept | {"FENBU_URL": self.url, "FENBU_APP": "shop.py", "COLUMNS": "200"}

    def background(self, *args: str) -> Follower:
        return Follower(
            subprocess.Popen(
                [sys.executable, "-m", "fenbu", *args],
                cwd=self.folder, env=self.environment(), stdout=subprocess.PIPE, text=True,
            )
        )  # fmt: skip

    def run(self, *args: str, say: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "fenbu", *args],
            cwd=self.folder, env=self.environment(), input=say, capture_output=True, text=True, timeout=60,
            check=False,
        )  # fmt: skip

    def says(self, *args: str) -> str:
        done = self.run(*args)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def json(self, *args: str) -> Any:
        return json.loads(self.says(*args, "--json"))

    def refuses(self, *args: str) -> str:
        done = self.run(*args)
        assert done.returncode in (1, 2)
        assert "Traceback" not in done.stderr
        return done.stderr


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def until(shell: Shell, id_: str, status: str) -> None:
    async def wait() -> None:
        async with asyncio.timeout(30):
            while shell.json("explain", id_)["status"] != status:
                await asyncio.sleep(0)

    asyncio.run(wait())


def test_calls_are_paused_and_steered_in_bulk(shell: Shell) -> None:
    with NodeProcess(shell.url, app=shell.folder / "shop.py"):
        for number in range(3):
            shell.says("start", "checkout", f"order-{number}", "cents=7", "--id", f"o{number}")
            until(shell, f"o{number}", "suspended")
        assert "pause accepted" in shell.says("pause", "o0", "--reason", "the bank is closed")
        until(shell, "o0", "paused")
        assert "`fenbu resume`: the bank is closed" in shell.says("explain", "o0")
        assert "o1 is suspended, and not paused" in shell.refuses("resume", "o1")
        assert "resume accepted" in shell.says("resume", "o0")
        until(shell, "o0", "suspended")

        assert "3 calls to cancel" in shell.says("bulk", "cancel", "--dry-run")
        assert "Aborted" in shell.run("bulk", "cancel", say="n\n").stderr
        done = shell.run("bulk", "pause", "--handler", "checkout", say="y\n")
        assert "pause 3 calls?" in done.stdout
        assert "pause accepted by 3 calls" in done.stdout
        until(shell, "o2", "paused")
        assert shell.json("bulk", "terminate", "--status", "paused") == {
            "action": "terminate", "found": 3, "told": 3,
        }  # fmt: skip
        until(shell, "o2", "cancelled")
        assert "retry is for calls that are" in shell.refuses(
            "bulk", "retry", "--status", "completed"
        )
    assert "0 calls to cancel" in shell.says("bulk", "cancel", "--yes")


def test_a_call_from_its_start_to_its_end(shell: Shell) -> None:
    with NodeProcess(shell.url, app=shell.folder / "shop.py") as node:
        assert shell.says("start", "checkout", "order-7", "cents=7", "--id", "o7").strip() == "o7"
        until(shell, "o7", "suspended")
        assert "waits for signal approval" in shell.says("explain", "o7")
        assert "signal accepted" in shell.says("signal", "o7", "approval", "true")
        assert (
            json.loads(shell.says("call", "checkout", "order-7", "--id", "o7")) == "order-7 for 7"
        )
        shown = shell.says("show", "o7")
        for words in (
            "completed",
            "step charge",
            "call Stock.reserve",
            "signal approval",
            "shop.py:2",
        ):
            assert words in shown
        journal = shell.json("show", "o7")["journal"]
        assert [each["kind"] for each in journal] == [
            "step_completed",
            "call_finished",
            "signal_received",
        ]
        assert [each["id"] for each in shell.json("ls", "--handler", "checkout")] == ["o7"]
        assert shell.json("ls", "--status", "failed") == []
        assert '{"units":9}' in shell.says("entity", "show", "Stock", "tea")
        assert shell.json("entity", "ls")[0]["state"] == {"units": 9}
        assert shell.run("doctor").returncode == 0
        assert node.stop() == 0


def test_entities_are_listed_page_by_page(shell: Shell) -> None:
    for key in ("cup", "pot", "tea"):
        shell.says("call", "Stock.reserve", "1", "--key", key, "--here")
    found = shell.json("entity", "ls", "Stock", "--after", "cup")
    assert [each["key"] for each in found] == ["pot", "tea"]
    page = shell.says("entity", "ls", "Stock", "-n", "2", "--after", "")
    assert "more: --after pot" in page
    assert "tea" not in page
    assert shell.json("entity", "ls", "Other", "--after", "") == []


def test_a_stream_is_followed_to_its_end(shell: Shell) -> None:
    with NodeProcess(shell.url, app=shell.folder / "shop.py"):
        shell.says("start", "story", "once upon a time", "--id", "s1")
        until(shell, "s1", "suspended")
        assert "words (4)" in shell.says("show", "s1")
        following = shell.background("tail", "s1")
        assert [following.line() for _ in range(4)] == ["once", "upon", "a", "time"]
        shell.says("signal", "s1", "more", "true")
        assert following.line() == '{"the":"end"}'
        assert following.ends() == 0
        said = shell.says("tail", "s1", "words", "--json")
        lines = [json.loads(each) for each in said.splitlines()]
        assert [each["value"] for each in lines] == ["once", "upon", "a", "time", {"the": "end"}]
        after = str(lines[2]["offset"])
        assert shell.says("tail", "s1", "--after", after) == 'time\n{"the":"end"}\n'
        assert shell.says("tail", "s1", "--join") == 'onceuponatime{"the":"end"}\n'
        assert shell.json("show", "s1")["streams"][0]["chunks"] == 5
        assert "no call has the id" in shell.refuses("tail", "s2")
        shell.run("call", "checkout", "order-9", "--id", "o9", "cents=200")
        assert "has written to no stream" in shell.refuses("tail", "o9")


def test_progress_is_shown(shell: Shell) -> None:
    with NodeProcess(shell.url, app=shell.folder / "shop.py"):
        assert shell.says("call", "copy_rows", "7", "--id", "r1").strip() == "7"
        assert '{"rows":7} at ' in shell.says("show", "r1")
        (beat,) = shell.json("show", "r1")["heartbeats"]
        assert (beat["command"], beat["value"]) == (0, {"rows": 7})
        shell.says("start", "copies", "--id", "r2")

        async def said() -> None:
            async with asyncio.timeout(30):
                while not shell.json("show", "r2")["heartbeats"]:
                    await asyncio.sleep(0)

        asyncio.run(said())
        assert '"half way" at ' in shell.says("show", "r2")
        shell.says("terminate", "r2")


def test_a_callback_is_completed_and_failed(shell: Shell) -> None:
    with NodeProcess(shell.url, app=shell.folder / "shop.py"):
        for id_ in ("c1", "c2"):
            shell.says("start", "delivery", "--id", id_)
            until(shell, id_, "suspended")
        assert "waits for callback 1" in shell.says("explain", "c1")
        (token,) = re.findall(r"callback (1~\d+~c1)", shell.says("show", "c1"))
        assert "complete accepted" in shell.says("complete", token, "the porch")
        assert json.loads(shell.says("call", "delivery", "--id", "c1")) == "the porch"
        shown = shell.says("show", "c1")
        assert "callback 1 " in shown
        assert token not in shown
        shell.says("fail", token.replace("c1", "c2"), "no such street")
        assert "TerminalError: no such street" in shell.run("call", "delivery", "--id", "c2").stderr
        assert "has ended already" in shell.refuses("complete", token)
        assert "no call has the id" in shell.refuses("complete", "1~1~c")
        assert "is not the token of a callback" in shell.refuses("complete", "c1")


def test_a_workflow_is_asked(shell: Shell) -> None:
    with NodeProcess(shell.url, app=shell.folder / "shop.py"):
        shell.says("start", "cart", "--id", "c1")
        until(shell, "c1", "suspended")
        assert json.loads(shell.says("update", "c1", "add", "tea", "--id", "u1")) == 1
        assert json.loads(shell.says("update", "c1", "add", "tea", "--id", "u1")) == 1
        assert json.loads(shell.says("query", "c1", "count")) == 1
        assert json.loads(shell.says("query", "c1", "count", "-2")) == -2
        assert "LookupError: no such thing" in shell.refuses("update", "c1", "add", "gone")
        assert "has no update 'sub'" in shell.refuses("update", "c1", "sub")
        assert "is an update" in shell.refuses("cancel", "c1/@u1")
        shown = shell.says("show", "c1")
        assert "update add c1/@u1" in shown
        assert "c1/@u1" in shell.says("ls", "--handler", "fenbu.update")
        assert json.loads(shell.says("update", "c1", "add", "cup", "2")) == 3
        assert json.loads(shell.says("call", "cart", "--id", "c1")) == 3
        assert "has ended" in shell.refuses("update", "c1", "add", "pot")
    assert json.loads(shell.says("query", "c1", "count")) == 3
    assert "no node runs" in shell.refuses("update", "c1", "add", "pot")


def test_what_holds_a_call_up_is_explained(shell: Shell) -> None:
    with NodeProcess(shell.url, app=shell.folder / "shop.py") as node:
        shell.says("start", "Stock.hold", "--key", "tea", "--id", "hold")
        shell.says("start", "Stock.reserve", "1", "--key", "tea", "--id", "behind")
        until(shell, "hold", "running")
        assert "behind 1 operation" in shell.says("explain", "behind")
        shell.says("start", "checkout", "x", "--id", "later", "--delay", "2h")
        until(shell, "later", "pending")
        assert "its start is delayed" in shell.says("explain", "later")
        shell.says("start", "checkout", "dear", "1000", "--id", "dear")
        until(shell, "dear", "failed")
        assert "ValueError: too much" in shell.says("explain", "dear")
        assert "cancel accepted" in shell.says("cancel", "hold")
        until(shell, "behind", "completed")
        assert "retry accepted" in shell.says("retry", "dear")
        assert "there is nothing to try again" in shell.refuses("retry", "behind")
        assert node.stop() == 0
    assert "no node runs" in shell.says("explain", "later")


def test_mistakes_are_named(shell: Shell) -> None:
    assert "no node runs on" in shell.refuses("call", "checkout", "x")
    assert "did you mean 'checkout'" in shell.refuses("start", "chekout", "x")
    assert "missing a required argument: 'order'" in shell.refuses("start", "checkout")
    assert "cents=many is no int" in shell.refuses("start", "checkout", "x", "many")
    assert "needs --key" in shell.refuses("start", "Stock.reserve", "1")
    assert "there is no file nothing.py" in shell.refuses("run", "nothing.py")
    shell.says("call", "Stock.reserve", "1", "--key", "tea", "--here")
    assert "--after needs the TYPE" in shell.refuses("entity", "ls", "--after", "x")
    assert "no call has the id 'nothing'" in shell.refuses("show", "nothing")
    assert "there is no Stock with the key 'x'" in shell.refuses("entity", "show", "Stock", "x")


def test_recorded_calls_are_replayed_with_the_code_of_today(shell: Shell) -> None:
    with NodeProcess(shell.url, app=shell.folder / "shop.py") as node:
        shell.says("start", "checkout", "order-7", "--id", "o7")
        until(shell, "o7", "suspended")
        shell.says("start", "Stock.reserve", "1", "--key", "tea", "--id", "r1")
        until(shell, "r1", "completed")
        assert node.stop() == 0
    shell.says("export", "o7", "-o", "o7.json")
    assert json.loads(shell.says("export", "o7"))["call"]["args"]["json"]["order"] == "order-7"
    assert shell.json("replay", "o7")["agrees"] is True
    assert "agrees with its journal of 2 events" in shell.says("replay", "o7.json")
    assert "safe to deploy: 1 open call of 1 handler replayed" in shell.says(
        "check-deploy", "shop.py"
    )

    changed = SHOP.replace(
        '    await Stock("tea")', '    await asyncio.sleep(1)\n    await Stock("tea")'
    )
    (shell.folder / "shop.py").write_text(changed)
    line = 1 + changed[: changed.index("    await asyncio.sleep(1)\n")].count("\n")
    for what in ("o7", "o7.json"):
        done = shell.run("replay", what)
        assert done.returncode == 1
        assert f"recorded was call Stock.reserve at shop.py:{line}," in done.stdout
        assert f"the code now asks for timer at shop.py:{line}\n" in done.stdout
    done = shell.run("check-deploy", "shop.py")
    assert done.returncode == 1
    assert "of 1 open call 1 would break" in done.stdout
    done = shell.run("check-deploy", "shop.py", "--json")
    (broken,) = json.loads(done.stdout)["would_break"]
    assert (broken["id"], broken["status"], broken["position"]) == ("o7", "suspended", 1)
    (shell.folder / "shop.py").write_text(SHOP.replace("async def checkout(", "async def buy("))
    assert (
        "needs a node that has registered checkout" in shell.run("check-deploy", "shop.py").stdout
    )

    assert "no call has the id" in shell.refuses("replay", "nothing")
    assert "none.json cannot be read" in shell.refuses("replay", "none.json")


def test_the_debugger_stops_where_a_journal_says(shell: Shell) -> None:
    with NodeProcess(shell.url, app=shell.folder / "shop.py") as node:
        shell.says("start", "checkout", "order-7", "--id", "o7")
        until(shell, "o7", "suspended")
        assert node.stop() == 0
    stepped = shell.run("replay", "o7", "--pdb", "--at", "1", say="n\np (order, paid)\nc\n")
    assert stepped.returncode == 0, stepped.stderr
    assert "('order-7', 5)" in stepped.stdout
    assert "shop.py(2" in stepped.stdout
    assert "_core" not in stepped.stdout
    assert shell.run("replay", "o7", "--pdb", say="n\nq\n").returncode == 0
    assert "2 positions beyond 0, and --at is 9" in shell.refuses(
        "replay", "o7", "--pdb", "--at", "9"
    )
    assert "pass both" in shell.refuses("replay", "o7", "--at", "1")


COMMANDS = (
    ",dev,run,call,start,ls,show,explain,signal,complete,fail,cancel,terminate,retry,export,replay,check-deploy,"
    "entity,entity ls,entity show,batch,nodes,migrate,doctor,demo"
)


@pytest.mark.parametrize("command", COMMANDS.split(","))
def test_every_command_has_help_with_an_example(shell: Shell, command: str) -> None:
    assert "Example" in shell.says(*command.split(), "--help")


def test_dev_shows_what_happens_and_starts_again_when_the_file_changes(shell: Shell) -> None:
    environment = {**os.environ, "FENBU_URL": shell.url, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "fenbu", "dev", "shop.py"],
        cwd=shell.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    seen: list[str] = []

    def wait_for(words: str) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            seen.append(line)
            if words in line:
                return
        raise AssertionError("".join(seen))

    try:
        wait_for("running app shop")
        shell.says("start", "checkout", "order-1", "--id", "o1")
        wait_for("step charge done")
        (shell.folder / "shop.py").write_text(SHOP + "\n# changed\n")
        wait_for("starting again")
        wait_for("running app shop")
        shell.says("signal", "o1", "approval", "true")
        wait_for("order-1 for 5")
    finally:
        process.terminate()
        process.stdout.read()
        process.stdout.close()
        assert process.wait(timeout=20) == 0
