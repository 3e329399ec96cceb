"""What users call in their tests: run an app on virtual time, crash it everywhere, or let a cluster fail."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, ParamSpec, TypeVar, cast

from msgspec.structs import replace

from fenbu._api.app import App
from fenbu._api.function import DurableFunction
from fenbu._core.handler import Registry
from fenbu._core.model import FINISHED, Invocation
from fenbu._storage.seal import Seal
from fenbu._testing.cluster import Cluster
from fenbu._testing.loop import SimulatedLoop
from fenbu._testing.simulation import Plan, Report, plan_of, shrink
from fenbu._testing.simulation import run as run_plan

P = ParamSpec("P")
R = TypeVar("R")

Scenario = Callable[[], Coroutine[Any, Any, R]]
"""Makes calls of the app, as a client would, and may assert what it likes."""

SHOWN_LINES = 40

YEAR_SECONDS = 366 * 86400.0


class SimulationFailed(AssertionError):
    """A scenario did not hold under faults. The message says what, and how to have the same run again.

    Attributes:
        seed: The seed that failed.
    """

    def __init__(self, message: str, seed: int) -> None:
        super().__init__(message)
        self.seed = seed


def run(app: App, scenario: Scenario[R], *, seed: int = 0) -> R:
    """Run a scenario against the app on one node, in memory, on virtual time.

    Time passes only when everybody waits, and then at once: `await asyncio.sleep(30 * 86400)` in a workflow
    takes milliseconds. There are no sockets; replace steps that need them by fakes, see `App.override`.

    Args:
        app: The app; it must not be open.
        scenario: An `async def` without arguments.
        seed: Decides ids and chance.

    Raises:
        Exception: What the scenario raises.
        NeverEnds: Everybody waits for something that will not happen.

    Example:
        ```python
        def test_reminder():
            async def scenario():
                return await remind_in_a_month("Ada")

            assert fenbu.testing.run(app, scenario) == "sent"
        ```
    """
    loop = SimulatedLoop(seed)
    cluster = Cluster(app, loop)
    try:
        return loop.run(_on_one_node(cluster, scenario))
    finally:
        cluster.close()
        loop.close()


async def _on_one_node(cluster: Cluster, scenario: Scenario[R]) -> R:
    cluster.open()
    cluster.skip_idle_time()
    machine = cluster.start_node()
    result = await cluster.inside(machine, "scenario", scenario)
    await cluster.stop_node(machine)
    return result


def crash_everywhere(
    app: App, scenario: Callable[P, Coroutine[Any, Any, R]], *args: P.args, **kwargs: P.kwargs
) -> int:
    """Run a workflow or a scenario again and again, with a crash of its node after each commit in turn.

    Each time another node goes on, and what it returns must be what it returns without a crash, and the calls
    must end as they do then.

    Args:
        app: The app; it must not be open.
        scenario: A task or workflow of the app, or an `async def` that gives its calls ids of their own.
        args: What it is called with.
        kwargs: The same, by name.

    Returns:
        At how many places it crashed.

    Raises:
        SimulationFailed: It ended differently after a crash.

    Example:
        ```python
        def test_checkout_survives_crashes():
            assert fenbu.testing.crash_everywhere(app, checkout, order) >= 3
        ```
    """
    function: Callable[..., Coroutine[Any, Any, R]] = scenario
    if isinstance(scenario, DurableFunction):
        # Else each run would get an id of its own.
        function = cast("DurableFunction[..., R]", scenario).options(id="crash-everywhere")

    async def call() -> R:
        return await function(*args, **kwargs)

    expected, commits = _crash_after(app, call, None)
    for place in range(commits):
        found, _ = _crash_after(app, call, place)
        if found != expected:
            raise SimulationFailed(
                f"after a crash behind commit {place + 1} of {commits} it ended differently:\n  {found}\nand "
                f"not\n  {expected}",
                place,
            )
    return commits


def _crash_after(
    app: App, scenario: Scenario[R], place: int | None
) -> tuple[tuple[R, dict[str, Any]], int]:
    """What came of it, and how many commits there were."""
    loop = SimulatedLoop(0)
    cluster = Cluster(app, loop)
    count = commits = 0

    async def work() -> R:
        nonlocal commits
        cluster.open()
        cluster.skip_idle_time()
        machine = cluster.start_node()

        def written(number: int) -> None:
            nonlocal count
            count = number
            if place is not None and number == place + 1:
                cluster.crash_now(machine, anyhow=True)
                cluster.start_node()

        machine.storage.written = written
        result = await cluster.client("scenario", scenario)
        commits = count  # What is handed back when a node stops is none of the scenario's.
        await asyncio.gather(*(cluster.stop_node(each) for each in list(cluster.nodes)))
        return result

    try:
        result = loop.run(work())
        return (result, _outcomes(cluster)), commits
    finally:
        cluster.close()
        loop.close()


def _outcomes(cluster: Cluster) -> dict[str, Any]:
    """Of all calls, but for those whose handler keeps nothing: where one crashes is left for a while."""
    database, hook = cluster.database, cluster.registry.hook
    found = [database.copy(each) for each in database.invocations]
    if hook is not None:
        found = [Seal(hook).open_invocation(each) for each in found]
    outcomes: dict[str, Any] = {}
    for each in found:
        if each.status in FINISHED and _is_kept(cluster.registry, each):
            failure = each.failure.message if each.failure else None
            outcome = (each.status, each.result, failure)
            group = _group_of(cluster.registry, each)
            if group is None:
                outcomes[each.id] = outcome
            else:
                outcomes.setdefault(group, []).append((each.handler, *outcome))
    for made in outcomes.values():
        if isinstance(made, list):
            cast("list[Any]", made).sort(key=repr)
    return outcomes


def _group_of(registry: Registry, call: Invocation) -> str | None:
    """By which consumer group a call was started: how many events come at a time is left to chance."""
    for each in registry.standing:
        if call.id.startswith((f"{each.id}/", f"{each.id}~")):
            return each.id
    return None


def _is_kept(registry: Registry, call: Invocation) -> bool:
    spec = registry.get(call.handler, call.version)
    return spec is not None and spec.retention_seconds > 0


def simulate(
    app: App,
    scenario: Scenario[object],
    *,
    seeds: int | Iterable[int] = 100,
    nodes: int | None = None,
    seconds: float = YEAR_SECONDS,
) -> None:
    """Run a scenario on simulated clusters under faults, one run for each seed.

    Nodes crash, stall, join and leave, lose their sessions; the server restarts; requests, commits and hints
    are slow, fail, or succeed without an answer; clocks are wrong. The same seed gives the same run.

    Args:
        app: The app; it must not be open.
        scenario: An `async def` without arguments. It runs in a client of its own, and sees
            `fenbu.Unavailable` where a client would.
        seeds: How many, or which.
        nodes: How many nodes there are; by default each seed says.
        seconds: How long it may take, in virtual seconds. All faults come within the first minute or two.

    Raises:
        SimulationFailed: The scenario raised, did not end, or one of fenbu's own promises was broken. The
            message has the smallest plan of faults that fails, and the end of its trace.

    Example:
        ```python
        def test_books_balance():
            fenbu.testing.simulate(app, move_money_and_check, seeds=1000)
        ```
    """

    async def in_client(cluster: Cluster) -> None:
        await cluster.client("scenario", scenario)

    def run_one(plan: Plan) -> Report:
        return run_plan(app, in_client, plan, seconds=seconds)

    for seed in range(seeds) if isinstance(seeds, int) else seeds:
        plan = plan_of(seed)
        if nodes is not None:
            plan = replace(plan, nodes=nodes)
        if not run_one(plan).ok:
            smallest = shrink(run_one, plan)
            raise SimulationFailed(_told(seed, run_one(smallest)), seed)


def _told(seed: int, report: Report) -> str:
    plan = report.plan
    lines = [
        f"seed {seed} fails: {'; '.join(report.violations)}",
        f"The same again: simulate(app, scenario, seeds=[{seed}])",
        f"The smallest plan that fails (nodes: {plan.nodes}) and its faults ({len(plan.faults)}):",
        *(f"  {each}" for each in plan.faults),
        "the end of its trace:",
        *(f"  {at:10.4f}  {who:10} {what[:200]}" for at, who, what in report.trace[-SHOWN_LINES:]),
    ]
    return "\n".join(lines)
