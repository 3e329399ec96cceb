"""The garbage collector's pace while a node runs in this process.

Python's own pace looks at all young objects each time 700 more of them exist. With thousands of calls in
flight, none of which is garbage, that was a quarter of a busy node's time. So what exists when the node
starts is no longer looked at, and the rest less often; both end with the last node of the process. A pace
that somebody has made slower already stays.
"""

from __future__ import annotations

import gc

THRESHOLDS = (100_000, 5, 5)
"""Old objects are looked at too, every 2.5 million that are made and stay: fenbu itself leaves nothing to
collect, but the code that runs in the same process may."""

_nodes = 0
_before = (0, 0, 0)


def slow_down() -> None:
    """A node starts."""
    global _nodes, _before  # noqa: PLW0603 - there is one collector in a process
    _nodes += 1
    if _nodes == 1:
        _before = gc.get_threshold()
        gc.freeze()
        if 0 < _before[0] < THRESHOLDS[0]:
            gc.set_threshold(*THRESHOLDS)


def restore() -> None:
    """A node has stopped."""
    global _nodes  # noqa: PLW0603
    _nodes -= 1
    if _nodes == 0:
        gc.set_threshold(*_before)
        gc.unfreeze()
