"""Runs whose database must see no plain value: the key that encrypts changes while calls are in flight."""

from __future__ import annotations

from fenbu import Compression, Encryption
from fenbu._api.hook import one_hook
from fenbu._core.codec import CodecHook
from fenbu._testing.cluster import Cluster
from fenbu._testing.simulation import Plan
from tests.simulation.world import World

KEYS = (bytes(range(32)), bytes(range(32, 64)))

ROTATION_PAYLOADS = 40
"""So many are encrypted with one key, then with the other."""


class Rotating:
    """Now one key is the first, now the other, as at nodes that are deployed one after the other."""

    def __init__(self) -> None:
        self._both = (Encryption(KEYS), Encryption(KEYS[::-1]))
        self._count = 0

    def encode(self, data: bytes) -> bytes:
        self._count += 1
        return self._both[self._count // ROTATION_PAYLOADS % 2].encode(data)

    def decode(self, data: bytes) -> bytes:
        return self._both[0].decode(data)


def hook_of(plan: Plan) -> CodecHook | None:
    """Every third seed has one."""
    return one_hook([Compression(beyond=64), Rotating()]) if plan.seed % 3 == 0 else None


def check_secrets(world: World, cluster: Cluster) -> None:
    """Of what there is at the end, nothing is plain."""
    for call in cluster.database.invocations.values():
        for each in (call.args, call.result):
            world.check(not isinstance(each, str), f"the database sees {each!r} of {call.id}")
        if call.failure is not None:
            text = call.failure.message
            world.check(text.startswith("sealed:"), f"the database sees {text!r} of {call.id}")
        for beat in call.heartbeats:
            world.check(beat.text is None, f"the database sees a heartbeat of {call.id}")
    for id_, streams in cluster.database.chunks.items():
        for chunk in (each for stream in streams.values() for each in stream):
            is_plain = isinstance(chunk.value, str)
            world.check(not is_plain, f"the database sees {chunk.value!r} of a stream of {id_}")
    for state in cluster.database.entities.values():
        world.check(isinstance(state.state, bytes), f"the database sees the state of {state.key}")
