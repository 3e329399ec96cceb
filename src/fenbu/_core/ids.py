"""Names of invocations and the hash that places them.

Invariants: the hash is the same in every process, language and release (it decides where rows
live), so it is SHA-256, which every database and language has, and not Python's `hash`.
Absent: anything random. Entropy and time are arguments.
"""

from __future__ import annotations

from hashlib import sha256

from fenbu._core import limit

CALLBACK = "callback "
UPDATE = "/@"


def invocation_id(now: float, entropy: int) -> str:
    """A fresh id: 11 hex digits of milliseconds, so that ids sort by time, then 64 random bits."""
    return f"{int(now * 1000):011x}{entropy:016x}"


def child_id(parent: str, command: int) -> str:
    """The id of the call that `parent` started with its `command`; the same at each replay.

    No id that a user chose can be equal to it, because those have no `/`.
    """
    return _derived(parent, str(command))


def alarm_id(parent: str, operation: str) -> str:
    """The id of the call that an operation, `parent`, has set as an alarm for an operation."""
    return _derived(parent, operation)


def fork_id(run: str, command: int) -> str:
    """The id of the call that a run is forked into from a command on, if many are forked.

    No child and no alarm can have it: what follows the last `/` there is a number or the name of a function.
    """
    return _derived(run, f"fork-{command}")


def _derived(parent: str, last: str) -> str:
    derived = f"{parent}/{last}"
    if len(derived) <= limit.ID_LENGTH_DERIVED_MAX:
        return derived
    return f"{sha256(parent.encode()).hexdigest()[:32]}/{last}"


def update_id(workflow: str, id: str) -> str:  # noqa: A002
    """The id of an update's call: each workflow has update ids of its own.

    No call that a user starts, and no child of one, can have it: what follows a `/` there is a number.
    """
    return f"{workflow}{UPDATE}{id}"


def workflow_of(update: str) -> str:
    """The workflow that an update's id belongs to."""
    return update.partition(UPDATE)[0]


def run_id(id: str, run: int) -> str:  # noqa: A002
    """Names one run of a workflow that was retried, as the parent of its children."""
    return f"{id}~{run}" if run else id


def run_number(id: str, run: str) -> int:  # noqa: A002
    """Which run of a call has this name, see `run_id`."""
    return int(run[len(id) + 1 :] or 0)


def seed(run: str, created_at: float) -> str:
    """What the random numbers of a run come from.

    The instant of acceptance keeps equal ids in two databases from making equal UUIDs.
    """
    return f"{run} {created_at!r}"


def callback_name(command: int, run: str) -> str:
    """Under what name a run of a call, see `run_id`, receives what completes its `command`, a callback."""
    number = run.rpartition("/")[2].partition("~")[2]
    return f"{CALLBACK}{command}.{number}" if number else f"{CALLBACK}{command}"


def callback_token(name: str, partition: int, id: str) -> str:  # noqa: A002
    """What whoever is to complete a callback gets; it says where to."""
    return f"{name.removeprefix(CALLBACK)}~{partition}~{id}"


def read_callback_token(token: str) -> tuple[str, int, str] | None:
    """The name, partition and id that a token was made of; None if it is none."""
    place, _, rest = token.partition("~")
    partition, _, id_ = rest.partition("~")
    number, _, run = place.partition(".")
    if not (number.isdecimal() and (run or "0").isdecimal() and partition.isdecimal() and id_):
        return None
    return f"{CALLBACK}{place}", int(partition), id_


def is_valid(id: str) -> bool:  # noqa: A002
    """Whether a user may choose this id."""
    return 0 < len(id) <= limit.ID_LENGTH_MAX and id.isprintable() and not {"/", "~"} & set(id)


def partition_of(text: str, count: int) -> int:
    """The partition of a call's id: the first four bytes of its SHA-256, modulo `count`."""
    return int.from_bytes(sha256(text.encode()).digest()[:4], "big") % count


def partition_of_entity(entity: str, key: str, count: int) -> int:
    """The partition of an entity, which is also that of every operation on it."""
    return partition_of(f"{entity}/{key}", count)


def home_of(id: str, entity: str | None, key: str | None, count: int) -> int:  # noqa: A002
    """The partition in which a call is accepted, and to which all that is sent to it is addressed.

    Also once it was given to another: what one sender sends is in order on one way, and not on two.
    """
    if entity is not None and key is not None:
        return partition_of_entity(entity, key, count)
    return partition_of(workflow_of(id) if UPDATE in id else id, count)
