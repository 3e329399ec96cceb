"""The demo's service, which the chaos tests run in processes of their own, with `fenbu run`.

Its finished calls are kept for a while: a client that does not know whether the database took what it sent
sends it again, and by its id it is then known.
"""

from __future__ import annotations

from fenbu._cli.demo.app import app

__all__ = ["app"]

KEPT_SECONDS = 3600.0

for name in app.registry.names():
    spec = app.registry.latest(name)
    if spec is not None and spec.retention_seconds == 0.0:
        spec.retention_seconds = KEPT_SECONDS
