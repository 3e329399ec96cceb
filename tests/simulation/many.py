"""Many seeds, on several processes."""

from __future__ import annotations

import multiprocessing
from collections import Counter
from collections.abc import Iterator

from msgspec import Struct

from tests.simulation.run import run_seed
from tests.simulation.workload import chosen_names

CHUNK = 50


class Chunk(Struct):
    """What a few seeds have shown."""

    seeds: int
    failed: list[tuple[int, str]]
    faults: Counter[str]
    workloads: Counter[str]
    turns: int
    seconds: float


def run_chunk(seeds: range) -> Chunk:
    chunk = Chunk(len(seeds), [], Counter(), Counter(), 0, 0.0)
    for seed in seeds:
        report = run_seed(seed)
        chunk.faults.update(each.kind for each in report.plan.faults)
        chunk.workloads.update(chosen_names(report.plan))
        chunk.turns += report.turns
        chunk.seconds += report.seconds
        if not report.ok:
            chunk.failed.append((seed, report.violations[0]))
    return chunk


def run_many(first: int, count: int, processes: int) -> Iterator[Chunk]:
    """Chunks in the order in which they end."""
    chunks = [
        range(start, min(start + CHUNK, first + count))
        for start in range(first, first + count, CHUNK)
    ]
    # New processes now and then: what a run leaves behind is not to slow down those that come after it.
    with multiprocessing.get_context("spawn").Pool(processes, maxtasksperchild=20) as pool:
        yield from pool.imap_unordered(run_chunk, chunks)
