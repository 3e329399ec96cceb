"""What the code of a workflow or operation has done with streams, as far as it has to be known later.

It is rebuilt by a replay, as the code asks for the same again, so none of it is stored.
Guarantee: replay-same.
"""

from __future__ import annotations

from msgspec import Struct, field

from fenbu._core.command import AppendEvent, CloseStream, WriteChunk


class Writing(Struct, gc=False):
    """See the module."""

    closed: set[str] = field(default_factory=set)
    """Streams that this run of the code has ended."""
    held: list[tuple[int, WriteChunk | CloseStream | AppendEvent]] = field(default_factory=list)
    """What an operation has written: it counts when the operation ends well."""
