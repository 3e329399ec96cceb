"""Names of invocations and the hash that places them.

Invariants: the hash is the same in every process, language and release (it decides where rows
live), so it is SHA-256, which every database and language has, and not Python's `hash`.
Absent: anything random. Entropy and time are arguments.
"""

from __future__ import annotations

from hashlib import sha256

from fenbu._core import limit


def invocation_id(now: float, entropy: int) -> str:
    """A fresh id: 11 hex digits of milliseconds, so that ids sort by time, then 64 random bits."""
    return f"{int(now * 1000):011x}{entropy:016x}"


def child_id(parent: str, command: int) -> str:
    """The id of the call that `parent` started with its `command`; the same at each replay.

    No id that a user chose can be equal to it, because those have no `/`.
    """
    derived = f"{parent}/{command}"
    if len(derived) <= limit.ID_LENGTH_DERIVED_MAX:
        return derived
    return f"{sha256(parent.encode()).hexdigest()[:32]}/{command}"


def run_id(id: str, run: int) -> str:  # noqa: A002
    """Names one run of a workflow that was retried, as the parent of its children."""
    return f"{id}~{run}" if run else id


def is_valid(id: str) -> bool:  # noqa: A002
    """Whether a user may choose this id."""
    return 0 < len(id) <= limit.ID_LENGTH_MAX and id.isprintable() and not {"/", "~"} & set(id)


def partition_of(text: str, count: int) -> int:
    """The partition of a call's id: the first four bytes of its SHA-256, modulo `count`."""
    return int.from_bytes(sha256(text.encode()).digest()[:4], "big") % count


def partition_of_entity(entity: str, key: str, count: int) -> int:
    """The partition of an entity, which is also that of every operation on it."""
    return partition_of(f"{entity}/{key}", count)
