"""How long calls stand still when a node is killed, stopped, or joins: on PostgreSQL, with real processes.

Each of so many clients increments a counter of its own, one call after the other. What is reported is the
longest that any of them waited for a call around the event, and the median of the calls before it.

Example:
    python benchmarks/takeover.py --repeat 3 --json takeover.json
"""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from _measure import Report, arguments, median, spread
from _server import end_all, fresh, server, settings_of, until_settled

HERE = Path(__file__).parent

KEYS = 64
BEFORE_SECONDS = 3.0
AFTER_SECONDS = 5.0


def main() -> None:
    given = arguments(
        __doc__ or "",
        defaults={"url": "", "repeat": 3},
        smoke={"repeat": 1},
        helps={
            "url": "the database; a server of its own if none is given",
            "repeat": "how often each event is caused",
        },
    )
    report = Report("takeover", "Nodes that come and go", given)
    with server(given.url) as url:
        os.environ["FENBU_URL"] = fresh(url)
        subprocess.run([sys.executable, "-m", "fenbu", "migrate"], check=True, stdout=sys.stderr)
        report.content["machine"] |= asyncio.run(settings_of(url))
        found = {
            name: [asyncio.run(pause(event)) for _ in range(given.repeat)]
            for name, event in EVENTS.items()
        }
    report.table(
        f"{KEYS} clients, each calling an entity of its own; two nodes",
        [
            {
                "": name,
                "median call before, ms": f"{median([each[0] for each in pauses]):.1f}",
                "longest wait around it, ms": spread([each[1] for each in pauses]),
            }
            for name, pauses in found.items()
        ],
    )
    killed = max(each[1] for each in found["SIGKILL of one of two"])
    stopped = max(each[1] for each in found["SIGTERM of one of two"])
    report.target("takeover after SIGKILL, ms", "< 2,000", f"{killed:,.0f}", met=killed < 2000)
    report.target(
        "pause of a call at a graceful stop, ms", "< 100", f"{stopped:.0f}", met=stopped < 100
    )
    report.finish()


Nodes = list[subprocess.Popen[bytes]]


def start() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "fenbu", "run", str(HERE / "_counters.py")],
        stderr=subprocess.DEVNULL,
    )


def kill(nodes: Nodes) -> None:
    nodes[0].kill()


def stop(nodes: Nodes) -> None:
    nodes[0].send_signal(signal.SIGTERM)


def join(nodes: Nodes) -> None:
    nodes.append(start())


EVENTS: dict[str, Callable[[Nodes], None]] = {
    "SIGKILL of one of two": kill,
    "SIGTERM of one of two": stop,
    "a third joins": join,
}


async def pause(event: Callable[[Nodes], None]) -> tuple[float, float]:
    """The median before an event and the longest wait around it, in milliseconds."""
    from _counters import Counter, app

    nodes = [start(), start()]
    took: list[tuple[float, float]] = []
    try:
        async with app.client():
            await until_settled(app, 2)
            end = time.perf_counter() + BEFORE_SECONDS + AFTER_SECONDS

            async def client(key: int) -> None:
                while (began := time.perf_counter()) < end:
                    await Counter(f"k{key}").increment()
                    took.append((began, time.perf_counter() - began))

            clients = asyncio.gather(*(client(key) for key in range(KEYS)))
            await asyncio.sleep(BEFORE_SECONDS)
            at = time.perf_counter()
            event(nodes)
            await clients
    finally:
        end_all(nodes)
    before = [seconds for began, seconds in took if at - 2.0 < began and began + seconds < at]
    around = [seconds for began, seconds in took if began + seconds >= at]
    return statistics.median(before) * 1e3, max(around) * 1e3


if __name__ == "__main__":
    main()
