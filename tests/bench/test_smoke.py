"""The benchmarks run: those that need some seconds, and no peers that they would have to install first."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"

QUICK = (
    "backlog",
    "cluster",
    "entities",
    "fan_out",
    "import_time",
    "memory",
    "payloads",
    "startup",
    "tasks",
    "topics",
    "workflows",
)


@pytest.mark.parametrize("name", QUICK)
def test_it_runs_and_tells_what_it_has_measured(tmp_path: Path, name: str) -> None:
    file = tmp_path / "found.json"
    command = [sys.executable, f"{BENCHMARKS / name}.py", "--smoke", "--json", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(file.read_text())
    assert found["tables"]
    assert all(table["rows"] for table in found["tables"])
