"""The demo as anybody runs it: real processes, really killed."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from fenbu._cli.demo import check, gauge, worker
from fenbu._cli.demo.command import demo as demo_command
from tests.demo.record import records

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(90)]

WORKER = re.compile(r"worker (\d+) is ready")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "flights.csv"
    path.write_text(records(4000))
    return path


@pytest.fixture
def started(file: Path) -> Iterator[subprocess.Popen[str]]:
    """The demo, with a worker at work."""
    # In the background of a shell SIGINT is ignored, which a child would inherit.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [sys.executable, "-m", "fenbu", "demo", "--flights", str(file)],
        stdout=subprocess.PIPE,
        text=True,
    )
    signal.signal(signal.SIGINT, before)
    with process:
        yield process
        process.kill()


def demo(*args: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fenbu", "demo", *(str(each) for each in args)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.guarantee("accepted-never-lost")
@pytest.mark.guarantee("message-once-in-order")
def test_every_total_is_exact_although_the_worker_is_killed_twice(tmp_path: Path, file: Path):
    ended = demo("--flights", file, "--dir", tmp_path / "run", "--json")
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert found["ok"], found["first_differences"]
    assert found["flights"] == 4000
    assert [each["in_flight"] > 0 for each in found["restarts"]] == [True, True]
    assert {path.name for path in (tmp_path / "run").iterdir()} >= {
        "demo.db",
        "reports",
        "worker.log",
    }
    pids = [int(each) for each in WORKER.findall(ended.stderr)]
    assert len(set(pids)) == 3
    assert not any(map(is_running, pids))


def test_it_runs_without_killing_and_without_all_flights(file: Path):
    ended = demo("--flights", file, "--limit", "500", "--no-kill")
    assert ended.returncode == 0, ended.stderr
    assert "500 flights" in ended.stdout
    assert "killed" not in ended.stdout
    assert "Every total is the one computed from the file." in ended.stdout


WRONG = """
from fenbu._cli import main
from fenbu._cli.demo import app

add = app.Book.add

def add_all_but_one(self, flight):
    if not ({condition}):
        add(self, flight)

app.Book.add = add_all_but_one
main.main()
"""


@pytest.mark.parametrize(
    ("condition", "difference"),
    [
        ("isinstance(self, app.Carrier) and self.flights == 10", "carriers, "),
        ("isinstance(self, app.Day) and self.flights == 10", "days, "),
    ],
)
def test_a_worker_that_forgets_flights_is_found_out(
    file: Path, monkeypatch: pytest.MonkeyPatch, condition: str, difference: str
):
    code = WRONG.format(condition=condition)
    monkeypatch.setattr(worker, "COMMAND", (sys.executable, "-c", code, *worker.COMMAND[3:]))
    monkeypatch.setattr(gauge, "STALLED_SECONDS", 2.0)
    monkeypatch.setattr(check, "RESULT_SECONDS_MAX", 2.0)
    ended = CliRunner().invoke(
        demo_command, ["--flights", str(file), "--limit", "500", "--no-kill"]
    )
    assert ended.exit_code == 1
    assert "✗" in ended.output
    assert f"  {difference}" in ended.output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_leaves_no_worker_behind(
    started: subprocess.Popen[str], number: signal.Signals
):
    assert started.stdout is not None
    pid = next(int(found[1]) for line in started.stdout if (found := WORKER.search(line)))
    started.send_signal(number)
    said = started.stdout.read()
    assert started.wait() == 128 + number
    assert "interrupted" in said
    assert not is_running(pid)
