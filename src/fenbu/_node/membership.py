"""This node's place among the others: about once a second it hears who lives, and settles its share.

It takes partitions that are free and its own by `_core/assignment.py`, and hands back, one after the other
and when nothing runs in them, those that belong to others now. A node that is gone owns nothing: the locks
that it held are free as soon as its session is.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from msgspec.structs import replace

from fenbu._core import assignment
from fenbu._node.telemetry import log
from fenbu._node.tenure import Tenure
from fenbu._storage.protocol import Beat, Storage
from fenbu.errors import OwnershipLost, Unavailable

BEAT_SECONDS = 1.5

QUIET_SECONDS = 1.0
"""How long a partition that is to go waits for its bodies. After that it stays, and tries again later."""

QUIET_SECONDS_MIN = 0.05
"""How long they wait together when the node stops; after that one by one."""

AGAIN_SECONDS = 10.0

GIFTS_MAX = 5_000
"""Waiting calls that go to other nodes at a beat."""

TOGETHER = 16
"""Partitions that are handed over together …"""

PACE = 0.02
"""… and this part of a beat later the next: what is not taken yet would stand still longer than it has to."""


class Membership:
    """See the module."""

    def __init__(self, storage: Storage, count: int, tenure: Tenure) -> None:
        self._storage = storage
        self._count = count
        self._tenure = tenure
        self._hurry = asyncio.Event()
        self._leaving: asyncio.Task[None] | None = None
        self._others: list[int] = []
        """The ids of the other nodes."""
        self._wanted: list[int] = []
        """The partitions that should be here, as of the last beat."""
        self._stay_until = 0.0
        self._ended_count = 0
        self._given: dict[int, int] = {}
        """Calls given at the last beat, by node."""
        self._going: set[int] = set()
        """Partitions that are being handed over."""
        self._expects = False
        """Another node is leaving."""
        self.missing = False
        """It waits for partitions that others still own."""

    def heard(self) -> None:
        """Somebody gave a hint: perhaps that he hands over what is missing here."""
        if self.missing or self._expects:
            self._hurry.set()

    async def run(self) -> None:
        """Beat for as long as the session lives.

        Raises:
            OwnershipLost: The session has ended.
        """
        while True:
            try:
                await self._until_beat()
                tenure = self._tenure
                beat = await self._beat()
                if beat.has_messages:
                    tenure.read_inbox()
                await self._settle(beat)
                self.share(beat)
                if beat.has_unhandled and self._others:
                    await tenure.claim()
            except Unavailable as error:
                log.warning("the database did not answer a beat, trying again: %s", error)

    async def _until_beat(self) -> None:
        """Wait for the next one, and meanwhile take what others hand over: whoever calls there waits."""
        until = self._now() + BEAT_SECONDS
        while (left := until - self._now()) > 0:
            self._hurry.clear()
            try:
                async with asyncio.timeout(left):
                    await self._hurry.wait()
            except TimeoutError:
                return
            await self._take_missing()

    async def enter(self) -> None:
        """Take the first share.

        Raises:
            OwnershipLost: The session has ended.
        """
        await self._settle(await self._beat())

    async def _beat(self) -> Beat:
        """Ask through the session itself: whoever else answers does not notice that it has ended.

        A node that has joined again is there twice for as long as the database believes in a session that is
        lost: then only the last one is it.
        """
        beat = await self._storage.beat(self._tenure.inbox_position, self._tenure.load)
        last = {each.name: each.id for each in beat.nodes}
        return replace(beat, nodes=[each for each in beat.nodes if last[each.name] == each.id])

    async def _settle(self, beat: Beat) -> None:
        """Take what is free and should be here; begin to hand back what should be elsewhere."""
        nodes, mine = beat.nodes, beat.mine
        if mine is None:
            raise OwnershipLost("the database no longer knows this node")
        self._others = [each.id for each in nodes if each is not mine]
        self._expects = any(each.leaving for each in nodes)
        staying = {each.id: each.partitions for each in nodes if not each.leaving}
        share = self._wanted = assignment.wanted(staying, self._count).get(mine.id, [])
        owned = self._tenure.engine.partitions
        await self._take_missing()
        # Taken at a beat that then failed, and meanwhile somebody else's share.
        stray = set(mine.partitions).difference(owned, share, self._going)
        if stray and self._tenure.has_begun:
            await self._tenure.committer.written()
            await self._storage.release(sorted(stray))
            self._tell_others()
        surplus = sorted(set(owned).difference(share))
        handing_over = self._leaving is not None or mine.leaving
        if surplus and not handing_over and self._now() >= self._stay_until:
            self._leaving = asyncio.create_task(self._leave(surplus))

    async def _take_missing(self) -> None:
        """Take what is free of its share."""
        owned = self._tenure.engine.partitions
        todo = [each for each in self._wanted if each not in owned and each not in self._going]
        if todo:
            taken = set(todo).intersection(await self._storage.take(todo))
            if taken:
                await self._tenure.take(sorted(taken))
        self.missing = any(number not in owned for number in self._wanted)

    def share(self, beat: Beat) -> None:
        """Give calls that wait here for a free place to nodes that have more room, and the same handlers.

        Not those whose turn will have come before long, by what ended since the last beat.
        """
        tenure, given = self._tenure, self._given
        nodes, mine = beat.nodes, beat.mine
        ended, self._ended_count = self._ended_count, tenure.executor.ended_count
        most = tenure.executor.waiting_count - (self._ended_count - ended)
        # What was given to a node a moment ago may not be in what it says of itself.
        self._given = {}
        if mine is None or mine.leaving:
            return
        loads = {
            each.id: each.load + given.get(each.id, 0)
            for each in nodes
            if each.code == mine.code and not each.leaving
        }
        loads[mine.id] = tenure.load
        gifts = assignment.gifts(loads, mine.id, min(most, GIFTS_MAX))
        places = {each.id: each.partitions for each in nodes if each.partitions}
        targets = [
            partitions[number % len(partitions)]
            for id_, count in gifts.items()
            if (partitions := places.get(id_))
            for number in range(count)
        ]
        if targets and tenure.give(targets):
            self._given = gifts

    async def _leave(self, numbers: list[int]) -> None:
        """Hand over a few at a time, so that none of them stands still for long."""
        stay: list[int] = []
        try:
            async for some in self._in_groups(numbers):
                if not await self._give_up(some, QUIET_SECONDS):
                    # Something runs for long in some of them: those stay until it has ended.
                    stay += [each for each in some if not await self._give_up([each], 0.0)]
        except (Unavailable, OwnershipLost) as error:
            log.warning("partitions could not be handed over: %s", error)
        finally:
            self._leaving = None
        if stay:
            self._stay_until = self._now() + AGAIN_SECONDS

    async def _give_up(
        self, numbers: Sequence[int], seconds: float, *, resume: bool = True
    ) -> bool:
        self._going.update(numbers)
        try:
            return await self._tenure.give_up(
                numbers, seconds, resume=resume, released=self._tell_others
            )
        finally:
            self._going.difference_update(numbers)

    def _tell_others(self) -> None:
        """There are partitions to take."""
        self._storage.hint(nodes=self._others)

    async def _in_groups(self, numbers: Sequence[int]) -> AsyncIterator[Sequence[int]]:
        """Some at a time, as quick as the others take them."""
        for start in range(0, len(numbers), TOGETHER):
            if start and self._others:
                await asyncio.sleep(BEAT_SECONDS * PACE)
            yield numbers[start : start + TOGETHER]

    async def retire(self, seconds: float) -> None:
        """The node stops: hand everything over, as soon as nothing runs in it, at most so long.

        What is left then stays.
        """
        await self.stop()
        await self._storage.retire()
        owned, executor = self._tenure.engine.partitions, self._tenure.executor
        try:
            async with asyncio.timeout(seconds):
                if self._others:
                    # By then all of them have heard of it, and are quick to take what they are given.
                    await asyncio.sleep(BEAT_SECONDS)
                while owned:
                    async for some in self._in_groups(sorted(owned)):
                        if not await self._give_up(some, QUIET_SECONDS_MIN, resume=False):
                            for each in some:
                                await self._give_up([each], 0.0, resume=False)
                    if owned:
                        await executor.something_ended()
        except TimeoutError:
            return

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    async def stop(self) -> None:
        """Hand over nothing more."""
        if self._leaving is not None:
            self._leaving.cancel()
            await asyncio.gather(self._leaving, return_exceptions=True)
