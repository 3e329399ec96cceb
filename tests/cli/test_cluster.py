"""The command line on PostgreSQL: several node processes, and commands that ask the database about them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fenbu._storage.open import storage_of
from fenbu._storage.protocol import NodeInfo
from tests.fixture.postgres import new_url, postgres

__all__ = ["postgres"]

pytestmark = pytest.mark.end_to_end

APP = """
import os
from fenbu import App

app = App("cluster")

@app.task
async def who() -> int:
    return os.getpid()

@app.task
async def murder() -> None:
    os._exit(9)
"""


@pytest.fixture
def url(postgres: str) -> str:
    return new_url(postgres)


@pytest.fixture
def app(tmp_path: Path) -> Path:
    path = tmp_path / "cluster.py"
    path.write_text(APP)
    return path


def fenbu(*words: str, url: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fenbu", *words],
        env={**os.environ, "FENBU_URL": url}, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


@contextmanager
def supervisor(app: Path, url: str, count: int) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "fenbu", "run", str(app), "--processes", str(count), "--drain", "5"],
        env={**os.environ, "FENBU_URL": url}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stderr is not None
        running = 0
        while running < count:
            line = process.stderr.readline()
            assert line, "it ended early"
            running += "running app" in line
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        assert process.stderr is not None
        process.stderr.read()
        process.stderr.close()
        process.wait(30)


async def nodes(url: str) -> list[NodeInfo]:
    storage = storage_of(url)
    await storage.open()
    try:
        return await storage.nodes()
    finally:
        await storage.close()


async def until(url: str, shares: list[int], gone: int = 0) -> list[NodeInfo]:
    """The nodes, once they own so much and one of them is gone."""
    async with asyncio.timeout(30):
        while True:
            found = await nodes(url)
            settled = sorted(len(each.partitions) for each in found) == shares
            if settled and gone not in {each.pid for each in found}:
                return found


def test_several_processes_share_the_work_and_are_started_again(app: Path, url: str) -> None:
    with supervisor(app, url, 2) as process:
        first = asyncio.run(until(url, [128, 128]))
        listed = json.loads(fenbu("nodes", "--json", url=url).stdout)
        assert [each["pid"] for each in listed] == [each.pid for each in first]
        assert "128: " in fenbu("nodes", url=url).stdout
        assert fenbu("nodes", "--here", url=url).returncode == 0
        os.kill(first[0].pid, signal.SIGKILL)
        again = asyncio.run(until(url, [128, 128], first[0].pid))
        ran = fenbu("call", "who", "-a", str(app), url=url)
        assert int(ran.stdout) in {each.pid for each in again}
        process.terminate()
        assert process.wait(30) == 0
    assert asyncio.run(nodes(url)) == []
    assert "no node runs" in fenbu("nodes", url=url).stdout
    assert fenbu("nodes", "--here", url=url).returncode == 1


def test_nodes_end_with_a_supervisor_that_is_killed(app: Path, url: str) -> None:
    with supervisor(app, url, 2) as process:
        process.kill()
        asyncio.run(until(url, []))


def test_tables_can_be_made_and_read_about_apart_from_a_node(url: str) -> None:
    script = fenbu("migrate", "--sql", url=url)
    assert "CREATE TABLE" in script.stdout
    assert "there are no tables" in fenbu("nodes", url=url).stderr
    assert "is up to date" in fenbu("migrate", url=url).stdout
    assert "no node runs" in fenbu("nodes", url=url).stdout


def test_a_file_has_one_node(app: Path, tmp_path: Path) -> None:
    refused = fenbu("run", str(app), "--processes", "2", url=f"sqlite:///{tmp_path}/x.db")
    assert refused.returncode == 2
    assert "need PostgreSQL" in refused.stderr


def test_a_password_is_never_shown(app: Path) -> None:
    said = fenbu("ls", url="postgresql://shop:geheim@127.0.0.1:1/shop")
    assert said.returncode == 1
    assert "geheim" not in said.stderr + said.stdout
