"""Which app and which database a command means: options, environment, or the one database that is here."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from traceback import StackSummary, TracebackException
from types import ModuleType
from typing import Any, TypeVar, cast
from urllib.parse import quote

import click

from fenbu import App
from fenbu._core.codec import CodecHook
from fenbu._storage.open import Database, shown, storage_of
from fenbu._storage.sealed import sealed
from fenbu.errors import FenbuError, UsageError

T = TypeVar("T")

app_option = click.option(
    "-a", "--app", "app_name", envvar="FENBU_APP", metavar="APP",
    help="module:attribute or file.py[:attribute]; also from FENBU_APP.",
)  # fmt: skip
url_option = click.option(
    "--url", envvar="FENBU_URL", help="The database; also from FENBU_URL.  [default: the app's]"
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


class AppBroken(FenbuError):
    """The module of an app raises an error when it is imported; the message holds its traceback."""


# The app.


def load_app(name: str, url: str | None = None) -> App:
    """Import the app that a name means.

    Raises:
        UsageError: There is no such file, module or app.
        AppBroken: Its own code raises an error.
    """
    place, attribute = name, ""
    if not name.endswith(".py") and ":" in name:
        place, _, attribute = name.rpartition(":")
    module = _import_file(Path(place)) if place.endswith(".py") else _import_module(place)
    found = _named_app(place, module, attribute) if attribute else _only_app(place, vars(module))
    if url is not None:
        found.url = url
    return found


def _named_app(place: str, module: ModuleType, attribute: str) -> App:
    found: Any = getattr(module, attribute, None)
    if not isinstance(found, App):
        here = ", ".join(_apps(vars(module))) or "none"
        raise UsageError(f"{place} has no App named {attribute!r}; it has: {here}")
    return found


def _only_app(place: str, names: dict[str, Any]) -> App:
    apps = _apps(names)
    if "app" in apps:
        return apps["app"]
    if not apps:
        raise UsageError(f'{place} has no App: it needs a line such as `app = App("shop")`')
    if len({id(each) for each in apps.values()}) > 1:
        first = next(iter(apps))
        raise UsageError(
            f"{place} has several Apps, {', '.join(apps)}: say which, as in {place}:{first}"
        )
    return next(iter(apps.values()))


def _apps(names: dict[str, Any]) -> dict[str, App]:
    return {name: each for name, each in names.items() if isinstance(each, App)}


def _import_file(path: Path) -> ModuleType:
    """By its plain name, so that the process pool and stored error types find it again."""
    name = path.stem
    if not path.is_file():
        raise UsageError(f"there is no file {path}")
    if "." in name:
        raise UsageError(f"{path} cannot be imported: Python allows no dot in a module's name")
    folder = str(path.parent.resolve())
    if not sys.path or sys.path[0] != folder:
        sys.path.insert(0, folder)
    importlib.invalidate_caches()
    module = _import(name, str(path))
    file = getattr(module, "__file__", None)
    if file is None or Path(file).resolve() != path.resolve():
        raise UsageError(
            f"{path} cannot be imported, because its name is that of another module, "
            f"{file or 'which is part of Python'}: rename it"
        )
    return module


def _import_module(name: str) -> ModuleType:
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    return _import(name, name)


def _import(name: str, place: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the module's own, of whatever type
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing is not None and f"{name}.".startswith(f"{missing}."):
            raise UsageError(
                f"there is no module {missing!r}; a file is named with its ending: {missing}.py"
            ) from None
        raise AppBroken(f"{place} cannot be imported:\n\n{_traceback(error)}") from None


def _traceback(error: BaseException) -> str:
    """The traceback as text, with the frames of the user's code only."""
    summary = TracebackException.from_exception(error)
    todo: list[TracebackException | None] = [summary]
    while todo:
        each = todo.pop()
        if each is not None:
            theirs = [frame for frame in each.stack if not frame.filename.startswith(_OURS)]
            each.stack = StackSummary.from_list(theirs)
            todo += [each.__cause__, each.__context__]
    parts = summary.format() if summary.stack else summary.format_exception_only()
    return "".join(parts).rstrip("\n")


_OURS = (
    "<frozen ",
    str(Path(__file__).parent.parent) + "/",
    str(Path(importlib.__file__).parent) + "/",
)


# The database.


class Place(str):
    """The URL of a database, and the app's hook to read what is in it, where the app is known."""

    __slots__ = ("hook",)

    def __init__(self, url: str) -> None:
        del url
        self.hook: CodecHook | None = None


def place_of(app: App) -> Place:
    """The database of an app."""
    place = Place(app.url)
    place.hook = app.registry.hook
    return place


def find_url(app_name: str | None, url: str | None) -> Place:
    """The database that a command reads, with the hook of the app if one is given.

    Raises:
        UsageError: Nothing says which.
    """
    if url is not None and app_name is None:
        return Place(url)
    if app_name is not None:
        return place_of(load_app(app_name, url))
    found = sorted(Path(".fenbu").glob("*.db"))
    if len(found) == 1:
        return Place(f"sqlite:///{quote(str(found[0]))}")
    here = ", ".join(map(str, found)) or "none below .fenbu"
    raise UsageError(
        f"which database? Pass --url sqlite:///path.db or --app shop.py, or set FENBU_URL. Here: {here}"
    )


async def with_database(url: str, work: Callable[[Database], Awaitable[T]]) -> T:
    """Open the database for reading and steering, without running anything.

    Raises:
        UsageError: There is no such database.
        StorageError: It cannot be used.
    """
    raw = storage_of(url)
    database = sealed(raw, url.hook) if isinstance(url, Place) else raw
    await database.open(create=False)
    try:
        return await work(database)
    finally:
        await database.close()


async def find_owner(url: str) -> str | None:
    """The node that runs on a database now; None if none does, or if there is no database."""
    database = storage_of(url)
    try:
        await database.open(create=False)
    except UsageError:
        return None
    try:
        return await database.owner()
    finally:
        await database.close()


def open_database(app: App) -> Database:
    """The database of an app that is open, as node or as client."""
    return cast("Database", app.runtime.gateway.storage)  # It comes from `storage_of`.


def no_node(url: str) -> str:
    """What to say when something waits and no node runs."""
    return f"no node runs on {shown(url)}: start one with `fenbu run` or `fenbu dev`"
