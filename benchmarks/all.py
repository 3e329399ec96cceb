"""Run every benchmark, one after the other, and write `docs/benchmarks.md` from what they measured.

The page holds nothing but what they printed. With `--smoke` everything runs for a few seconds, and no page
is written unless `--page` names one. All of it takes an hour and a half: with `--reuse` the page also holds
what other scripts have measured earlier, each with the date on which it did; `benchmarks/results` keeps it.

Example:
    python benchmarks/all.py --repeat 5 --date 2026-11-23
    python benchmarks/all.py --only workflows tasks --reuse
    python benchmarks/all.py --only --reuse
    python benchmarks/all.py --smoke
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from _measure import HERE, PYTHON

SCRIPTS = (
    "workflows",
    "versus_dbos",
    "tasks",
    "entities",
    "fan_out",
    "topics",
    "startup",
    "memory",
    "payloads",
    "idle",
    "import_time",
    "cluster",
    "versus_engines",
    "versus_peers",
    "growth",
    "backlog",
    "takeover",
    "idle_cluster",
    "sustained",
)
WITHOUT_REPEAT = {"backlog", "idle", "idle_cluster", "sustained"}
PAGE = HERE.parent / "docs" / "benchmarks.md"
RESULTS = HERE / "results"

INTRODUCTION = """\
What fenbu does on one machine, measured by the scripts in `benchmarks/`, one for each number. This page
holds what they printed and nothing else, each on the date that its part names; it was last written by
`{command}`. Run it on your own machine; each script also runs by itself, and shows
its options with `--help`.

How to read it:

- The machine does other work at times, so **ratios within one run** say more than absolute numbers. What is
  compared is measured in turn, round after round; a number is the median, in brackets the range.
- **Bare**, the raw ceiling: the benchmark records what the engine really wrote, each statement with its
  parameters and each transaction. A loop with nothing but `sqlite3` then writes the same rows in the same
  transactions into a fresh file on the same disk, with the same tables and settings (WAL,
  `synchronous=FULL`), in one thread, with all rows ready in memory; in four ways, the fastest counts.
  On PostgreSQL it is a loop with nothing but asyncpg on one connection that sends the same statements.
- A **durable operation** is a row that is inserted, updated or deleted on disk.
- Aims that are missed are on this page like those that are met.
"""


ONLY = "these scripts; without a name none, so that with --reuse the page is written and nothing measured"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--smoke", action="store_true", help="a few seconds for each")
    parser.add_argument("--only", metavar="NAME", nargs="*", choices=SCRIPTS, help=ONLY)
    parser.add_argument("--without", metavar="NAME", nargs="+", choices=SCRIPTS, default=[])
    parser.add_argument("--repeat", metavar="N", type=int, help="rounds of each script")
    parser.add_argument(
        "--reuse", action="store_true", help="with --only: keep the earlier results of the others"
    )
    parser.add_argument(
        "--date",
        default=datetime.now(UTC).date().isoformat(),
        help="of what is measured (default: today)",
    )
    parser.add_argument("--page", metavar="FILE", type=Path, help=f"default: {PAGE}")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write all results there as well")
    given = parser.parse_args()
    if given.only == [] and not given.reuse:
        parser.error("--only without a name measures nothing: with --reuse it writes the page")
    results: list[dict[str, Any]] = []
    failed: list[str] = []
    for name in SCRIPTS:
        if name in given.without:
            continue
        if given.only is None or name in given.only:
            found = measured(name, given)
        elif given.reuse:
            found = earlier(name)
        else:
            continue
        if found is None:
            failed.append(name)
        else:
            results.append(found)
    if given.json is not None:
        given.json.write_text(json.dumps(results, indent=1) + "\n")
    page = given.page if given.smoke else given.page or PAGE
    if failed:
        print(f"failed: {', '.join(failed)}; no page is written", file=sys.stderr)
        raise SystemExit(1)
    if page is not None:
        page.write_text(written(results, " ".join(sys.argv[1:])))
        print(f"wrote {page}")


def measured(name: str, given: argparse.Namespace) -> dict[str, Any] | None:
    """What a script measured; None if it failed."""
    file = (HERE / ".data" if given.smoke else RESULTS) / f"{name}.json"
    file.parent.mkdir(exist_ok=True)
    command = [PYTHON, str(HERE / f"{name}.py"), "--json", str(file)]
    if given.smoke:
        command.append("--smoke")
    if given.repeat is not None and name not in WITHOUT_REPEAT:
        command += ["--repeat", str(given.repeat)]
    if subprocess.run(command, check=False).returncode != 0:
        return None
    found: dict[str, Any] = json.loads(file.read_text())
    found["date"] = given.date
    file.write_text(json.dumps(found, indent=1) + "\n")
    return found


def earlier(name: str) -> dict[str, Any] | None:
    """What a script measured when it last ran; None if it never did."""
    file = RESULTS / f"{name}.json"
    if not file.exists():
        return None
    found: dict[str, Any] = json.loads(file.read_text())
    return found


# The page.


def written(results: list[dict[str, Any]], words: str) -> str:
    command = f"python benchmarks/all.py {words}".strip()
    parts = ["# Benchmarks", INTRODUCTION.format(command=command), _machine(results)]
    targets = [each for result in results for each in result["targets"]]
    if targets:
        parts += ["## Aims", _aims(targets)]
    for result in results:
        parts += [f"## {result['title']}", _settings(result)]
        for table in result["tables"]:
            parts += [f"{table['title']}:", _table(table["rows"])]
        parts += result["notes"]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _machine(results: list[dict[str, Any]]) -> str:
    facts: dict[str, list[str]] = {}
    for result in results:
        for name, text in {"date": result["date"], **result["machine"]}.items():
            if "load" not in name and text not in facts.setdefault(name, []):
                facts[name].append(text)
    loads = [result["machine"]["load at the start"] for result in results]
    rows = [{"": name, "measured with": "; ".join(texts)} for name, texts in facts.items()]
    return _table(
        [
            *rows,
            {
                "": "load when a script began",
                "measured with": f"{min(loads, key=float)} to {max(loads, key=float)}",
            },
        ]
    )


def _aims(targets: list[dict[str, Any]]) -> str:
    return _table(
        [
            {
                "what": each["what"],
                "aim": each["aim"],
                "measured": each["measured"],
                "": "met" if each["met"] else "**missed**",
            }
            for each in targets
        ]
    )


def _settings(result: dict[str, Any]) -> str:
    words = [
        f"{name.replace('_', '-')} {' '.join(map(str, value)) if isinstance(value, list) else value}"
        for name, value in result["settings"].items()
        if value is not False
    ]
    words.append(f"measured on {result['date']}, on {result['machine']['processor']}")
    return f"`benchmarks/{result['name']}.py`, {', '.join(words)}."


def _table(rows: list[dict[str, str]]) -> str:
    columns = list(rows[0])
    lines = [columns, ["---"] * len(columns), *([row[name] for name in columns] for row in rows)]
    return "\n".join(f"| {' | '.join(_cell(each) for each in line)} |" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    main()
