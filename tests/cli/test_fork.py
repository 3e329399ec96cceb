"""The command line over forks."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.cli.test_commands import Shell, until
from tests.end_to_end.process import NodeProcess

pytestmark = pytest.mark.end_to_end

SHOP = """
from fenbu import App, callback, step

app = App("shop", idle_seconds=0.1)

async def charge(what: str) -> str:
    raise ValueError("no money")

@app.workflow
async def checkout(what: str) -> str:
    return f"{what} {await step(charge, what)}"

@app.workflow
async def delivery(what: str) -> str:
    place = await callback(str)
    await step(charge, what)
    return f"{what} to {await place.result()}"
"""


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    made = Shell(tmp_path)
    (tmp_path / "shop.py").write_text(SHOP)
    return made


def test_a_call_is_forked(shell: Shell) -> None:
    with NodeProcess(shell.url, app=shell.folder / "shop.py"):
        assert shell.run("call", "checkout", "tea", "--id", "a").returncode == 1
        forked = shell.says("fork", "a", "--result", 'charge="by hand"', "--id", "b").strip()
        assert forked == "b"
        until(shell, "b", "completed")
        assert shell.json("show", "b")["result"] == "tea by hand"
        assert "forked from a" in shell.says("show", "b")
        assert shell.says("replay", "b").startswith("checkout b is completed: this code agrees")
        assert "has no command 7" in shell.refuses("fork", "a", "--step", "7")
        assert "write STEP=JSON" in shell.refuses("fork", "a", "--result", "charge")
        assert "there is a call with the id 'b' already" in shell.refuses("fork", "a", "--id", "b")
        fork = ("bulk", "fork", "--yes", "--step", "charge")
        assert "fork accepted by 1 call" in shell.says(*fork)
        until(shell, "a/fork-1", "failed")
        again = shell.says(*fork)
        assert "fork accepted by 1 call; 1 had been forked from there before" in again
        assert "--step is for fork" in shell.refuses("bulk", "retry", "--yes", "--step", "charge")


def test_a_fork_has_tokens_of_its_own(shell: Shell) -> None:
    with NodeProcess(shell.url, app=shell.folder / "shop.py"):
        assert shell.run("call", "delivery", "tea", "--id", "a").returncode == 1
        forked = shell.run("fork", "a", "--result", 'charge="paid"', "--id", "b")
        (token,) = re.findall(r"its callback (1~\d+~b) is open", forked.stderr)
        until(shell, "b", "suspended")
        assert f"its callback {token} is open" in shell.says("explain", "b")
        assert f"callback {token} " in shell.says("show", "b")
        (shown,) = shell.json("show", "b")["callbacks"]
        assert (shown["token"], shown["command"]) == (token, 1)
        assert shell.json("show", "a")["callbacks"] == []
        assert "complete accepted" in shell.says("complete", token, "the porch")
        until(shell, "b", "completed")
        assert shell.json("show", "b")["result"] == "tea to the porch"
        done = shell.run(
            "fork", "a", "--result", 'charge="paid"', "--result", '1="the door"', "--id", "c"
        )
        assert (done.stdout.strip(), done.stderr) == ("c", "")
        until(shell, "c", "completed")
        assert shell.json("show", "c")["result"] == "tea to the door"
