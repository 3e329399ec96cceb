"""Many seeds on all processors: `python -m tests.simulation --seeds 100000`.

Prints its progress, which faults were done how often, and for each seed that fails a command that shows it.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter

from msgspec.structs import replace

from fenbu._testing.faults import KINDS
from fenbu._testing.simulation import Plan, Report, plan_of
from tests.simulation.many import Chunk, run_many
from tests.simulation.run import run_plan, smallest
from tests.simulation.workload import WORKLOADS

SHOWN_SECONDS = 5.0


def show(plan: Plan, report: Report, *, lines: int) -> None:
    """A run for people."""
    print(f"seed {plan.seed}: {plan.nodes} nodes, {plan.partition_count} partitions, size {plan.size}, "
          f"at most {plan.calls_max} calls in memory, idle {plan.idle_seconds} s")  # fmt: skip
    for number, fault in enumerate(plan.faults):
        print(f"  fault {number}: {fault}")
    for at, who, what in report.trace[-lines:]:
        print(f"{at:10.4f}  {who:10} {what[:400]}")
    print(
        f"trace {report.digest}, {len(report.trace)} lines, {report.turns} callbacks, {report.seconds:.1f} s"
    )
    for each in report.violations or ["nothing that must not happen has happened"]:
        print(f"=> {each}")


def replayed(options: argparse.Namespace) -> int:
    plan = plan_of(options.seed)
    if options.faults is not None:
        wanted = {int(each) for each in options.faults.split(",") if each}
        plan = replace(
            plan, faults=tuple(each for index, each in enumerate(plan.faults) if index in wanted)
        )
    if options.shrink:
        plan = smallest(plan)
    report = run_plan(plan)
    show(plan, report, lines=options.lines)
    return 0 if report.ok else 1


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulation", description=__doc__,
        epilog="Example: python -m tests.simulation --seed 4653 --shrink",
    )  # fmt: skip
    parser.add_argument("--seeds", type=int, default=2000, help="how many (default: 2000)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (default: 0)")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, help="show this one, and no others")
    parser.add_argument("--faults", help="of its faults do only these: 0,2")
    parser.add_argument(
        "--shrink", action="store_true", help="look for a smaller plan that fails too"
    )
    parser.add_argument("--lines", type=int, default=60, help="of the trace, from its end")
    options = parser.parse_args()
    if options.seed is not None:
        return replayed(options)
    began, shown = time.monotonic(), 0.0
    total = Chunk(
        0, [], Counter(dict.fromkeys(KINDS, 0)), Counter(dict.fromkeys(WORKLOADS, 0)), 0, 0.0
    )
    for chunk in run_many(options.first, options.seeds, options.processes):
        total.seeds += chunk.seeds
        total.failed += chunk.failed
        total.faults += chunk.faults
        total.workloads += chunk.workloads
        total.turns += chunk.turns
        total.seconds += chunk.seconds
        for seed, violation in chunk.failed:
            print(f"seed {seed}: {violation[:300]}", flush=True)
            print(f"    python -m tests.simulation --seed {seed} --shrink", flush=True)
        if time.monotonic() - shown > SHOWN_SECONDS:
            shown = time.monotonic()
            rate = total.seeds / (shown - began)
            left = (options.seeds - total.seeds) / rate
            so_far = f"{total.seeds:,} of {options.seeds:,} seeds, {len(total.failed)} failed"
            print(f"{so_far}, {rate:.0f} a second, {left:.0f} s left", flush=True)
    took = time.monotonic() - began
    print(f"{total.seeds:,} seeds in {took:.0f} s: {total.seconds / 3600:,.0f} hours of clusters' time, "
          f"{total.turns:,} callbacks, {len(total.failed)} failed")  # fmt: skip
    for name, count in sorted(total.faults.items(), key=lambda each: -each[1]):
        print(f"  {count:10,} × {name}")
    print(
        "  workloads: "
        + ", ".join(f"{name} {count:,}" for name, count in sorted(total.workloads.items()))
    )
    never = [name for name in KINDS if not total.faults[name]]
    if never and options.seeds >= 1000:
        print(f"never happened: {', '.join(never)}")
        return 1
    return 1 if total.failed else 0


if __name__ == "__main__":
    sys.exit(main())
