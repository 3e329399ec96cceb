"""Prove programs on simulated clusters: real nodes, a network that fails, virtual time, one seed.

See docs/testing.md.
"""

from __future__ import annotations

from fenbu._testing.kit import Scenario, SimulationFailed, crash_everywhere, run, simulate
from fenbu._testing.linearizability import UNKNOWN, Model, Observed, is_linearizable
from fenbu._testing.loop import NeverEnds

__all__ = [
    "UNKNOWN",
    "Model",
    "NeverEnds",
    "Observed",
    "Scenario",
    "SimulationFailed",
    "crash_everywhere",
    "is_linearizable",
    "run",
    "simulate",
]
