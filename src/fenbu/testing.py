"""Prove programs on simulated clusters: real nodes, a network that fails, virtual time, one seed.

See docs/testing.md.
"""

from __future__ import annotations

from fenbu._testing.history import CallHistory, history_of
from fenbu._testing.kit import Scenario, SimulationFailed, crash_everywhere, run, simulate
from fenbu._testing.linearizability import UNKNOWN, Model, Observed, is_linearizable
from fenbu._testing.loop import NeverEnds
from fenbu._testing.replay import ReplayDiverged, replay

__all__ = [
    "UNKNOWN",
    "CallHistory",
    "Model",
    "NeverEnds",
    "Observed",
    "ReplayDiverged",
    "Scenario",
    "SimulationFailed",
    "crash_everywhere",
    "history_of",
    "is_linearizable",
    "replay",
    "run",
    "simulate",
]
