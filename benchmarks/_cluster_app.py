"""What the nodes of `cluster.py` run, each in a process of its own; FENBU_URL names the database."""

from __future__ import annotations

import os

from _workload import workload_on

work = workload_on(os.environ.get("FENBU_URL", ""))
app = work.app
