"""Which app and which database a command means: options, environment, or the one database that is here."""

from __future__ import annotations

import importlib
import importlib.util
import sqlite3
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import click

from fenbu import App
from fenbu._storage.open import Database, storage_of
from fenbu.errors import UsageError

T = TypeVar("T")

app_option = click.option(
    "-a", "--app", "app_name", envvar="FENBU_APP", metavar="APP",
    help="module:attribute or file.py[:attribute]; also from FENBU_APP.",
)  # fmt: skip
url_option = click.option(
    "--url", envvar="FENBU_URL", help="The database; also from FENBU_URL.  [default: the app's]"
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def load_app(name: str, url: str | None = None) -> App:
    """Import the app that a name means.

    Raises:
        UsageError: There is no such file, module or app; what its own code raises comes out as it is.
    """
    place, _, attribute = name.partition(":")
    path = Path(place)
    module = _import_file(path) if place.endswith(".py") else _import_module(place)
    if attribute:
        found: Any = getattr(module, attribute, None)
        if not isinstance(found, App):
            raise UsageError(f"{place} has no App named {attribute!r}")
    else:
        found = _only_app(place, vars(module))
    if url is not None:
        found.url = url
    return found


def _only_app(place: str, names: dict[str, Any]) -> App:
    apps = {id(each): each for each in names.values() if isinstance(each, App)}
    named = names.get("app")
    if isinstance(named, App):
        return named
    if len(apps) != 1:
        many = "several" if apps else "no"
        raise UsageError(f"{place} has {many} App: name one, as in {place}:app")
    return next(iter(apps.values()))


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise UsageError(f"there is no file {path}")
    folder = str(path.parent.resolve())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    # By its plain name, so that the process pool and stored error types find it again.
    return importlib.import_module(path.stem)


def _import_module(name: str) -> ModuleType:
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    if importlib.util.find_spec(name.partition(".")[0]) is None:
        raise UsageError(f"there is no module {name!r}; a file is named with its ending: {name}.py")
    return importlib.import_module(name)


def find_url(app_name: str | None, url: str | None) -> str:
    """The database that a command reads.

    Raises:
        UsageError: Nothing says which.
    """
    if url is not None:
        return url
    if app_name is not None:
        return load_app(app_name).url
    found = sorted(Path(".fenbu").glob("*.db"))
    if len(found) == 1:
        return f"sqlite:///{found[0]}"
    here = ", ".join(map(str, found)) or "none below .fenbu"
    raise UsageError(
        f"which database? Pass --url sqlite:///path.db or --app shop.py, or set FENBU_URL. Here: {here}"
    )


async def with_database(
    app_name: str | None, url: str | None, work: Callable[[Database], Awaitable[T]]
) -> T:
    """Open the database for reading and steering, without running anything."""
    database = storage_of(find_url(app_name, url))
    await database.open(create=False)
    try:
        return await work(database)
    finally:
        await database.close()


def is_owned(url: str) -> bool:
    """Whether a node runs on this database, as far as can be told without disturbing it."""
    path = url.removeprefix("sqlite:///")
    owner = Path(f"{path}-owner")
    if not url.startswith("sqlite:") or not owner.exists():
        return False
    probe = sqlite3.connect(f"file:{owner}?mode=ro", uri=True, timeout=0, isolation_level=None)
    try:
        probe.execute("BEGIN")
        probe.execute("PRAGMA schema_version").fetchone()
    except sqlite3.OperationalError as error:
        return "locked" in str(error)
    finally:
        probe.close()
    return False


def no_node_hint(url: str) -> str:
    """What to say when a call waits and no node runs."""
    return f"no node runs on {url}: start one with `fenbu run` or `fenbu dev`, or use `fenbu call --here`"
