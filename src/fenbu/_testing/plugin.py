"""The pytest plugin: an `async def` test marked `fenbu` runs in a simulation of its app.

It is loaded in every run of pytest where fenbu is installed, so it imports no more than it must.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from fenbu import App

MARK = (
    "fenbu(app=…, seeds=None, crash_everywhere=False): run this async test in a simulation of the app (by "
    "default the fixture `app`), on virtual time; with seeds also under faults, one run for each seed; with "
    "crash_everywhere again and again, with a crash after each commit"
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of the command line."""
    group = parser.getgroup("fenbu")
    group.addoption(
        "--fenbu-seeds", type=int, metavar="N",
        help="how many seeds tests marked fenbu(seeds=…) run, instead of what they say",
    )  # fmt: skip
    group.addoption("--fenbu-seed", type=int, metavar="S", help="the one seed that they run")


def pytest_configure(config: pytest.Config) -> None:
    """The mark is known."""
    config.addinivalue_line("markers", MARK)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a marked test."""
    __tracebackhide__ = True
    mark = pyfuncitem.get_closest_marker("fenbu")
    if mark is None or not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    function = pyfuncitem.obj
    names = inspect.signature(function).parameters
    values = {name: pyfuncitem.funcargs[name] for name in names if name in pyfuncitem.funcargs}

    async def scenario() -> None:
        await function(**values)

    _run(_app_of(pyfuncitem, mark), scenario, mark, pyfuncitem)
    return True


def _app_of(item: pytest.Function, mark: pytest.Mark) -> App:
    from fenbu import App  # noqa: PLC0415 - see the module

    given: Any = mark.args[0] if mark.args else mark.kwargs.get("app", "app")
    if isinstance(given, str):
        request: pytest.FixtureRequest = getattr(item, "_request")  # noqa: B009 - pytest has no other way
        given = request.getfixturevalue(given)
    if not isinstance(given, App):
        raise pytest.UsageError(
            f"{item.nodeid}: the mark fenbu needs an App, or the name of a fixture that is one, and not "
            f"{given!r}"
        )
    return given


def _run(app: App, scenario: Any, mark: pytest.Mark, item: pytest.Function) -> None:
    from fenbu._testing import kit  # noqa: PLC0415

    __tracebackhide__ = True
    unknown = set(mark.kwargs) - {"app", "seeds", "crash_everywhere"}
    if unknown or len(mark.args) > 1:
        raise pytest.UsageError(f"{item.nodeid}: the mark is {MARK}")
    seeds = mark.kwargs.get("seeds")
    if mark.kwargs.get("crash_everywhere"):
        kit.crash_everywhere(app, scenario)
    elif seeds is None:
        kit.run(app, scenario)
    else:
        one, many = item.config.getoption("--fenbu-seed"), item.config.getoption("--fenbu-seeds")
        seeds = [one] if one is not None else many or seeds
        try:
            kit.simulate(app, scenario, seeds=seeds)
        except kit.SimulationFailed as error:
            again = f"pytest '{item.nodeid}' --fenbu-seed {error.seed}"
            raise kit.SimulationFailed(f"{error}\n\n{again}", error.seed) from None
