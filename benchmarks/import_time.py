"""`import fenbu`: how long it takes, what of it takes longest, and how many packages it brings.

Example:
    python benchmarks/import_time.py --repeat 30 --json import_time.json
"""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from importlib import metadata

from _measure import HERE, PYTHON, Report, arguments, median, number, spread, version

MILLISECONDS_MAX = 150

PROGRAM = """
import time
began = time.perf_counter()
import {module}
print((time.perf_counter() - began) * 1e3)
"""

# A shell that forbids compiled files would have everything compiled anew each time, unlike an installation.
ENVIRONMENT = {
    name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"
}


def main() -> None:
    given = arguments(
        __doc__ or "",
        defaults={"repeat": 20},
        smoke={"repeat": 3},
        helps={"repeat": "fresh interpreters for each"},
    )
    report = Report("import_time", "Import", given)
    modules = ("fenbu", "asyncio, sqlite3", "msgspec")
    found: dict[str, list[float]] = {each: [] for each in modules}
    for module in modules:
        import_milliseconds(module)  # Compiles what is not compiled yet.
    for _ in range(given.repeat):
        for module in modules:
            found[module].append(import_milliseconds(module))
    report.table(
        "Milliseconds in a fresh interpreter, files compiled before",
        [
            {"import": module, "median (range)": spread(times), "fastest": number(min(times))}
            for module, times in found.items()
        ],
    )
    report.table("What takes longest of it, by itself", slowest("fenbu", 8))
    packages = required("fenbu")
    report.table(
        "Packages in the base install",
        [{"package": name, "version": version(name)} for name in packages],
    )
    report.target(
        "`import fenbu`",
        f"< {MILLISECONDS_MAX} ms",
        f"{spread(found['fenbu'])} ms",
        met=median(found["fenbu"]) < MILLISECONDS_MAX,
    )
    report.raw("milliseconds", found)
    report.raw("packages", packages)
    report.finish()


def import_milliseconds(module: str) -> float:
    made = subprocess.run(
        [PYTHON, "-c", PROGRAM.format(module=module)],
        capture_output=True,
        text=True,
        check=True,
        env=ENVIRONMENT,
    )
    return float(made.stdout)


def slowest(module: str, count: int) -> list[dict[str, str]]:
    """From `-X importtime`, which itself slows the import down."""
    made = subprocess.run(
        [PYTHON, "-X", "importtime", "-c", f"import {module}"],
        capture_output=True,
        text=True,
        check=True,
        env=ENVIRONMENT,
    )
    times: list[tuple[int, str]] = []
    for line in made.stderr.splitlines():
        match = re.match(r"import time:\s*(\d+) \|\s*\d+ \|\s*(\S+)", line)
        if match is not None:
            times.append((int(match[1]), match[2]))
    times.sort(reverse=True)
    return [{"module": name, "ms": number(each / 1e3)} for each, name in times[:count]]


def required(package: str) -> list[str]:
    """The package and all that it needs, without extras."""
    found = [package]
    for each in _requirements(package):
        name = re.split(r"[\s<>=!~;\[(]", each, maxsplit=1)[0]
        if "extra ==" not in each and name not in found:
            found += [one for one in required(name) if one not in found]
    return found


def _requirements(package: str) -> list[str]:
    try:
        return list(metadata.requires(package) or ())
    except metadata.PackageNotFoundError:
        # It is run from the source tree without being installed.
        project = tomllib.loads((HERE.parent / "pyproject.toml").read_text())["project"]
        return list(project["dependencies"]) if package == project["name"] else []


if __name__ == "__main__":
    main()
