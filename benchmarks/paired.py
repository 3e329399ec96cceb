"""This checkout beside an earlier revision of it, in turns: what has become of the hot path?

Every round runs three-step workflows on SQLite with one and then with the other, each in its own process;
which comes first alternates. The ratios are those of one round, so what the machine does meanwhile hits both.

Example:
    python benchmarks/paired.py --revision v0.1.0 --repeat 9
    python benchmarks/paired.py --revision main~20 --concurrency 100
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from _measure import HERE, PYTHON, Report, arguments, median, number, scratch, spread
from _peers import Result, said

ROOT = HERE.parent
SLOWER_MAX = 1.03


@contextmanager
def checkout(revision: str) -> Iterator[Path]:
    """The sources of a revision, gone afterwards."""
    with tempfile.TemporaryDirectory() as directory:
        tree = Path(directory) / "tree"
        command = ["git", "-C", str(ROOT), "worktree"]
        done = subprocess.run(
            [*command, "add", "--quiet", "--detach", str(tree), revision],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise SystemExit(f"{revision!r} cannot be checked out: {done.stderr.strip()}")
        try:
            yield tree / "src"
        finally:
            subprocess.run([*command, "remove", "--force", str(tree)], check=True)


def measured(sources: Path, database: Path, count: int, concurrency: int) -> Result:
    """What one process with these sources has measured."""
    given = {
        "database": str(database), "count": count, "concurrency": concurrency, "loop": "asyncio",
    }  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(sources)}
    return said([PYTHON, "_versus_fenbu.py", json.dumps(given)], environment)


def main() -> None:
    given = arguments(
        __doc__ or "",
        defaults={"revision": "HEAD~1", "repeat": 9, "count": 10_000, "concurrency": 1_000},
        smoke={"repeat": 1, "count": 200, "concurrency": 50},
        helps={
            "revision": "what it is compared with: a tag, branch or commit",
            "repeat": "rounds",
            "count": "workflows of one run",
            "concurrency": "clients at a time, each of which waits for its call",
        },
    )
    report = Report("paired", f"Three-step workflows beside {given.revision}", given)
    rounds: list[tuple[Result, Result]] = []
    with checkout(given.revision) as before, scratch(given.directory) as directory:
        sources = {"before": before, "now": ROOT / "src"}
        for index in range(given.repeat):
            order = ("before", "now") if index % 2 else ("now", "before")
            found = {
                name: measured(
                    sources[name], directory / f"{index}-{name}.db", given.count, given.concurrency
                )
                for name in order
            }
            rounds.append((found["before"], found["now"]))
            ratio = found["now"]["cpu_seconds"] / found["before"]["cpu_seconds"]
            print(f"round {index + 1} of {given.repeat}: {number(ratio)}", file=sys.stderr)
    rows = [
        {
            "": name,
            "workflows/s": spread([given.count / each[side]["seconds"] for each in rounds]),
            "CPU µs a workflow": spread(
                [each[side]["cpu_seconds"] / given.count * 1e6 for each in rounds]
            ),
        }
        for side, name in enumerate((given.revision, "this checkout"))
    ]
    report.table(f"{given.concurrency:,} at a time, {given.repeat} rounds", rows)
    cpu = [now["cpu_seconds"] / before["cpu_seconds"] for before, now in rounds]
    took = [now["seconds"] / before["seconds"] for before, now in rounds]
    report.table(
        "This checkout as a multiple of the other, round by round",
        [{"CPU": spread(cpu), "time": spread(took)}],
    )
    report.target(
        f"CPU of a workflow as a multiple of that at {given.revision}",
        f"≤ {SLOWER_MAX}",
        spread(cpu),
        met=median(cpu) <= SLOWER_MAX,
    )
    report.raw("rounds", rounds)
    report.finish()


if __name__ == "__main__":
    main()
