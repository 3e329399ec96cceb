"""What stands beside the code: the lock is a lock, and AGENTS.md names nothing that is not there."""

from __future__ import annotations

import re
import tomllib

from tests.tidy import source

PINNED = re.compile(r"([a-z0-9-]+)==[\w.!+]+( ; .+)?")


def test_the_lock_pins_exact_versions_and_says_nothing_else():
    loose = [line for line in _lock() if not PINNED.fullmatch(line)]
    assert not loose, "run `make lock`"


def test_the_lock_holds_every_development_tool():
    project = tomllib.loads(source.text(source.ROOT / "pyproject.toml"))
    optional = project["project"]["optional-dependencies"]
    wanted = [
        *project["project"]["dependencies"],
        *project["dependency-groups"]["dev"],
        *(
            each
            for extra in ("cli", "encryption", "postgres", "pydantic", "uvloop")
            for each in optional[extra]
        ),
    ]
    names = {re.split(r"[^\w.-]", each, maxsplit=1)[0] for each in wanted}
    locked = {line.partition("==")[0] for line in _lock()}
    assert names - locked == set(), "run `make lock`"


def test_agents_md_names_only_what_exists():
    page = source.text(source.ROOT / "AGENTS.md")
    targets = set(re.findall(r"^([a-z]+):", source.text(source.ROOT / "Makefile"), re.MULTILINE))
    unknown = [
        f"make {each}" for each in re.findall(r"`make ([a-z]+)", page) if each not in targets
    ]
    unknown += [
        each
        for each in re.findall(r"`([\w.-]+(?:/[\w.-]+)*/?)`", page)
        if ("/" in each or each.endswith((".md", ".toml", ".lock")))
        and not (source.ROOT / each).exists()
        and not (source.PACKAGE / each).exists()
    ]
    assert not unknown


def _lock() -> list[str]:
    lines = source.text(source.ROOT / "requirements-dev.lock").splitlines()
    return [line for line in lines if line and not line.startswith("#")]
