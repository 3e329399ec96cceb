"""Bugs planted into the engine, to see that the simulation finds them: `make mutants`.

Runs seeds with each until one fails. All of them take a quarter of an hour.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from tests.simulation.mutants import MUTANTS, Mutant
from tests.simulation.run import run_seed


@contextmanager
def planted(mutant: Mutant) -> Iterator[None]:
    """The bug is in the engine meanwhile."""
    target = mutant.target
    if isinstance(target, str):
        target = importlib.import_module(target)
    with patch.object(target, mutant.attribute, mutant.make(getattr(target, mutant.attribute))):
        yield


def seeds_until_found(mutant: Mutant, most: int) -> tuple[int, str] | None:
    """How many seeds it took, and what they saw; None if none saw anything."""
    with planted(mutant):
        for seed in range(most):
            report = run_seed(seed)
            if not report.ok:
                first = report.violations[0]
                if mutant.make.__name__ in first:
                    raise AssertionError(f"it does not fit the engine any more: {first}")
                return seed + 1, first
    return None


def main() -> int:
    """Print the table, one line as soon as a bug is found."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog='Example: make mutants ARGS="--only timers cancel"',
    )
    parser.add_argument(
        "--only",
        nargs="+",
        metavar="WORD",
        default=[""],
        help="those with one of these in their names",
    )
    parser.add_argument(
        "--seeds", type=int, default=5_000, help="at most, for each (default: %(default)s)"
    )
    given = parser.parse_args()
    mutants = [each for each in MUTANTS if any(word in each.name for word in given.only)]
    if not mutants:
        parser.error(f"no planted bug has one of {given.only} in its name")
    missed = 0
    for mutant in mutants:
        began = time.monotonic()
        found = seeds_until_found(mutant, given.seeds)
        took = time.monotonic() - began
        if found is None:
            missed += 1
            print(f"{mutant.name:48} NOT FOUND in {given.seeds:,} seeds ({took:.0f} s)", flush=True)
        else:
            seeds, violation = found
            print(
                f"{mutant.name:48} {seeds:5,} seeds  {took:5.1f} s  {violation[:100]}", flush=True
            )
    print(f"{len(mutants) - missed} of {len(mutants)} found")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
