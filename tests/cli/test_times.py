"""Times and counts as the command line says them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.cli.test_commands import Shell, until
from tests.end_to_end.process import NodeProcess

pytestmark = pytest.mark.end_to_end

SHOP = """
import asyncio
from fenbu import App, Retry, step

app = App("shop", idle_seconds=0.1)

async def read(number: int) -> int:
    await asyncio.sleep(0.3)
    return number

@app.workflow
async def watch(number: int) -> int:
    await step(read, number)
    if number < 3:
        watch.continue_as_new(number + 1)
    return number

@app.task(retry=Retry(attempts=2, first_seconds=0))
async def fails() -> None:
    raise ValueError("no")

def photos(cursor: int | None) -> tuple[list[int], int | None]:
    return ([0], 1) if cursor is None else ([1], None)

app.batch("reads", source=photos, each=watch)
"""


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    made = Shell(tmp_path)
    (tmp_path / "shop.py").write_text(SHOP)
    return made


def test_a_call_that_continued_as_new_has_had_runs(shell: Shell) -> None:
    with NodeProcess(shell.url, app=shell.folder / "shop.py"):
        assert shell.says("call", "watch", "0", "--id", "w").strip() == "3"
        assert re.search(r"runs +4\b", shell.says("show", "w"))
        assert shell.run("call", "fails", "--id", "f").returncode == 1
        assert "runs" not in shell.says("show", "f")
        shell.says("start", "reads", "null", "--id", "r")
        until(shell, "r", "completed")
        took = re.search(r"after ([\d.]+) s", shell.says("batch", "show", "r"))
        # One after the other, four steps of 0.3 s: not only the last run of the batch.
        assert took is not None
        assert float(took[1]) > 1.0


def test_a_paused_call_is_due_when_it_was(shell: Shell) -> None:
    with NodeProcess(shell.url, app=shell.folder / "shop.py"):
        for id_, delay in (("now", ()), ("later", ("--delay", "3600"))):
            shell.says("start", "watch", "--id", id_, *delay, "0")
            assert "pause accepted" in shell.says("pause", id_)
            until(shell, id_, "paused")
        assert "due" not in shell.says("show", "now")
        assert shell.json("show", "now")["wake_at"] is None
        later = shell.json("show", "later")
        assert later["wake_at"] - later["created_at"] == pytest.approx(3600, abs=10)
        assert re.search(r"due +2\d\d\d-", shell.says("show", "later"))
        assert "5138" not in shell.says("show", "later")
