"""The handlers of the random programs, which the chaos tests run in processes of their own (`fenbu run`)."""

from __future__ import annotations

from fenbu import App
from tests.simulation.interpreter import Interpreter

app = App("programs", idle_seconds=0.3)
interpreter = Interpreter(app)
