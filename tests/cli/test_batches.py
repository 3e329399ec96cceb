"""The command line over batches: how far they are, what failed, and trying that again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_commands import Shell, until
from tests.end_to_end.process import NodeProcess

pytestmark = pytest.mark.end_to_end

SHOP = """
from pathlib import Path
from fenbu import App, wait_signal

app = App("shop", idle_seconds=0.1)

@app.workflow
async def resize(number: int) -> int:
    if number == 7:
        await wait_signal("go")
    if number % 5 == 3 and not Path(__file__).with_name("well").exists():
        raise ValueError(f"photo {number}")
    return number

def photos(cursor: int | None, count: int) -> tuple[list[int], int | None]:
    first = cursor or 0
    last = min(count, first + 4)
    return list(range(first, last)), None if last == count else last

app.batch("thumbnails", source=photos, each=resize, concurrency=5)
"""


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    made = Shell(tmp_path)
    (tmp_path / "shop.py").write_text(SHOP)
    return made


def progress_of(found: dict[str, Any]) -> tuple[int, int, int, int]:
    progress = found["progress"]
    return progress["started"], progress["completed"], progress["failed"], progress["open"]


def test_batches_in_the_shell(shell: Shell) -> None:
    with NodeProcess(shell.url, app=shell.folder / "shop.py"):
        shell.says("start", "thumbnails", "null", "3", "--id", "small")
        until(shell, "small", "completed")
        shell.says("start", "thumbnails", "null", "20", "--id", "large")
        following = shell.background("batch", "show", "large", "--follow", "--json")
        lines = [json.loads(following.line())]
        while lines[-1]["progress"] is None or lines[-1]["progress"]["completed"] < 15:
            lines.append(json.loads(following.line()))
        assert progress_of(lines[-1]) == (20, 15, 4, 1)
        assert [each["id"] for each in shell.json("batch", "ls")] == ["large", "small"]
        text = shell.says("batch", "ls", "thumbnails", "-n", "1")
        assert ("large" in text, "small" in text) == (True, False)

        shell.says("signal", "large:7", "go")
        lines.append(json.loads(following.line()))
        while lines[-1]["status"] != "completed":
            lines.append(json.loads(following.line()))
        assert following.ends() == 0
        assert progress_of(lines[-1]) == (20, 16, 4, 0)
        assert lines[-1]["progress"]["errors"][0]["error"].startswith("ValueError: photo ")

        shown = shell.says("batch", "show", "large", "-n", "2")
        assert "completed" in shown
        assert shown.count("ValueError: photo") == 2
        failed = shell.json("batch", "show", "large")["calls_failed"]
        assert {each["id"] for each in failed} == {f"large:{n}" for n in (3, 8, 13, 18)}

        (shell.folder / "well").touch()
        assert "retry accepted by 4 calls of large" in shell.says("batch", "retry", "large")
        until(shell, "large:13", "completed")
        assert "has ended already" in shell.refuses("batch", "cancel", "large")

        shell.says("start", "thumbnails", "null", "9", "--id", "third")
        until(shell, "third:7", "suspended")
        assert "cancel accepted" in shell.says("batch", "cancel", "third")
        until(shell, "third", "cancelled")
        until(shell, "third:7", "cancelled")
        assert "large:3 is no batch" in shell.refuses("batch", "show", "large:3")
        assert "no batch 'x': the app has thumbnails" in shell.refuses("batch", "ls", "x")


def test_batches_without_a_node(shell: Shell) -> None:
    shell.says("start", "thumbnails", "null", "3", "--id", "later")
    assert "not known" in shell.says("batch", "show", "later")
    assert "no node" in shell.run("batch", "cancel", "later").stderr


@pytest.mark.parametrize("command", ["", "ls", "show", "retry", "cancel"])
def test_every_command_has_help_with_an_example(shell: Shell, command: str) -> None:
    assert "Example" in shell.says("batch", *command.split(), "--help")
