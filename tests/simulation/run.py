"""One seed: its plan, its workloads, its report."""

from __future__ import annotations

import asyncio

from fenbu._testing.cluster import Cluster
from fenbu._testing.simulation import Plan, Report, plan_of, run, shrink
from tests.simulation.deploy import deploys, registry_of_yesterday
from tests.simulation.moves import depart, moves
from tests.simulation.secret import check_secrets, hook_of
from tests.simulation.service import app
from tests.simulation.tasks import begin_tasks
from tests.simulation.workload import chosen
from tests.simulation.world import World, begin


def scenario_of(plan: Plan):
    async def scenario(cluster: Cluster) -> None:
        world = World(cluster, plan)
        begin(world)
        begin_tasks()
        if any(workload is deploys for _, workload in chosen(plan)):
            cluster.registry = registry_of_yesterday()
        work = [
            cluster.client(name, lambda workload=workload, name=name: workload(world, name))
            for name, workload in chosen(plan)
        ]
        await asyncio.gather(*work)
        if app.registry.hook is not None:
            check_secrets(world, cluster)

    return scenario


def run_plan(plan: Plan) -> Report:
    app.registry.hook = hook_of(plan)
    moving = [name for name, workload in chosen(plan) if workload is moves]
    if moving:
        before = depart(plan, moving)
        if not before.ok:
            return before
    return run(app, scenario_of(plan), plan)


def run_seed(seed: int) -> Report:
    return run_plan(plan_of(seed))


def smallest(plan: Plan) -> Plan:
    return shrink(run_plan, plan)
