from __future__ import annotations

import asyncio

import pytest

from fenbu._core.ids import partition_of
from fenbu._core.message import Call, Cancel, Reply, Retry, Signal, Subscribe
from fenbu._core.model import Address, Outcome, Status
from fenbu._storage.protocol import UNPLACED
from fenbu.errors import CallNotFound
from tests.fixture.row import FAILURE, PARTITIONS, call, full_call, received, write

EVERY_KIND = [
    Call(full_call(), fresh=True, waited=True),
    Call(call("text", 1)),
    Reply(Address(1, "a", 2), Outcome(Status.FAILED, failure=FAILURE)),
    Reply(Address(1, "a", 2), Outcome(Status.COMPLETED, b"\xff")),
    Subscribe(3, "a", Address(1, "b", 2)),
    Signal(3, "a", "approved", "true"),
    Signal(3, "a", "approved", b"\xc3"),
    Cancel(3, "a", "why"),
    Retry(3, "a"),
]


@pytest.mark.guarantee("message-once-in-order")
async def test_every_message_arrives_as_it_was_sent_and_in_order(storage, connect):
    client = await connect()
    await client.enqueue(EVERY_KIND)
    await write(storage, inbox=EVERY_KIND)
    found = await received(storage)
    assert [each.message for each in found] == EVERY_KIND * 2
    numbers = [each.number for each in found]
    assert numbers == sorted(set(numbers))


async def test_the_inbox_is_read_in_parts(storage):
    await storage.enqueue([Cancel(1, str(number), "why") for number in range(5)])
    first = await storage.load_inbox(PARTITIONS, None, limit=2)
    assert not first.complete
    # What comes meanwhile belongs to the next reading, so that this one ends.
    await storage.enqueue([Cancel(1, "5", "why")])
    second = await storage.load_inbox(PARTITIONS, first.position, limit=2)
    third = await storage.load_inbox(PARTITIONS, second.position, limit=9)
    found = [*first.found, *second.found, *third.found]
    if not third.complete:
        third = await storage.load_inbox(PARTITIONS, third.position, limit=9)
        found += third.found
    assert third.complete
    assert [each.message.id for each in found][:5] == ["0", "1", "2", "3", "4"]
    found += await received(storage, third.position)
    assert [each.message.id for each in found] == ["0", "1", "2", "3", "4", "5"]
    assert await storage.inbox_count() == 6


async def test_a_limit_that_is_just_reached_is_no_end_of_reading(storage):
    await storage.enqueue([Retry(1, "a"), Retry(1, "b")])
    read = await storage.load_inbox(PARTITIONS, None, limit=2)
    while not read.complete:
        read = await storage.load_inbox(PARTITIONS, read.position, limit=2)
    assert await received(storage, read.position) == []


@pytest.mark.guarantee("accepted-never-lost")
async def test_only_the_partitions_asked_for_are_read(storage):
    await storage.enqueue([Retry(number, str(number)) for number in (1, 2, 3, 1)])
    read = await storage.load_inbox([1, 3, 9], None, limit=9)
    assert [each.message.id for each in read.found] == ["1", "3", "1"]
    await storage.enqueue([Retry(2, "later"), Retry(3, "later")])
    read = await storage.load_inbox([1, 3, 9], read.position, limit=9)
    assert [each.message for each in read.found] == [Retry(3, "later")]
    assert (await storage.load_inbox([], None, limit=9)).found == []


@pytest.mark.guarantee("accepted-never-lost")
async def test_partitions_that_are_taken_later_catch_up_with_the_others(storage):
    await storage.enqueue([Retry(number, str(number)) for number in (1, 2, 2, 1, 2)])
    others = await storage.load_inbox([1], None, limit=9)
    await storage.enqueue([Retry(1, "after"), Retry(2, "after")])
    found: list[str] = []
    read = None
    while read is None or not read.complete:
        read = await storage.load_inbox(
            [2], None if read is None else read.position, limit=2, until=others.position
        )
        found += [each.message.id for each in read.found]
    assert found == ["2", "2", "2"]
    assert read.position == others.position
    both = await storage.load_inbox([1, 2], read.position, limit=9)
    assert [each.message for each in both.found] == [Retry(1, "after"), Retry(2, "after")]


@pytest.mark.guarantee("accepted-never-lost")
async def test_nothing_is_missed_beside_those_who_send(storage, connect):
    """Whatever order the senders commit in, each message is read once, and those of each in order."""
    clients = [await connect() for _ in range(4)]
    count = 60

    async def send(number, client):
        for order in range(count):
            await client.enqueue([Cancel(number, str(order), "why"), Retry(9, f"{number}/{order}")])

    senders = [asyncio.create_task(send(*each)) for each in enumerate(clients)]
    found: list[Cancel] = []
    elsewhere: list[str] = []
    position = None
    ending = False
    while not ending:
        ending = all(each.done() for each in senders)
        read = None
        while read is None or not read.complete:
            read = await storage.load_inbox([0, 1, 2, 3, 9], position, limit=7)
            position = read.position
            found += [each.message for each in read.found if each.message.partition != 9]
            elsewhere += [each.message.id for each in read.found if each.message.partition == 9]
    await asyncio.gather(*senders)
    for number in range(4):
        mine = [int(each.id) for each in found if each.partition == number]
        assert mine == list(range(count))
        assert [each for each in elsewhere if each.startswith(f"{number}/")] == [
            f"{number}/{order}" for order in range(count)
        ]
    assert len(found) + len(elsewhere) == 4 * count * 2


async def test_numbers_are_not_used_again_when_the_inbox_has_been_empty(storage, connect):
    await storage.enqueue([Retry(1, "a")])
    read = await storage.load_inbox(PARTITIONS, None, limit=9)
    (first,) = read.found
    await write(storage, inbox_deleted=[first.number])
    await (await connect()).enqueue([Retry(1, "b")])
    (second,) = await received(storage, read.position)
    assert second.message == Retry(1, "b")
    assert second.number > first.number


async def test_nothing_enqueued_is_nothing(storage):
    await storage.enqueue([])
    assert await storage.inbox_count() == 0


@pytest.mark.guarantee("accepted-never-lost")
async def test_many_messages_are_put_whole(storage, connect):
    messages = [Call(call(f"{number:05}", number)) for number in range(2500)]
    await (await connect()).enqueue(messages)
    found = await received(storage)
    assert [each.message for each in found] == messages


@pytest.mark.guarantee("message-once-in-order")
async def test_a_message_without_a_partition_goes_where_its_call_was_accepted(storage, connect):
    """Also if the call was given to another: all that is sent to it takes one way."""
    meta = await storage.open()
    operation = call("operation", 1, partition=66, entity="Account", key="a")
    await write(storage, inserted=[call("row", 1, partition=77), operation])
    await storage.enqueue([Call(call("waiting", 1, partition=88))])
    before = await storage.load_inbox(PARTITIONS, None, limit=9)
    await (await connect()).enqueue(
        [
            Call(call("new", 1, partition=99)),
            Signal(UNPLACED, "row", "s", b"\xff"),
            Cancel(UNPLACED, "waiting", "why"),
            Retry(UNPLACED, "new"),
            Subscribe(UNPLACED, "row", Address(1, "b", 2)),
            Cancel(UNPLACED, "operation", "why"),
            Retry(5, "unknown"),
        ]
    )
    found = [each.message for each in await received(storage, before.position)]
    home = partition_of("row", meta.partition_count)
    assert home != 77
    assert found[1:] == [
        Signal(home, "row", "s", b"\xff"),
        Cancel(88, "waiting", "why"),
        Retry(99, "new"),
        Subscribe(home, "row", Address(1, "b", 2)),
        Cancel(66, "operation", "why"),
        Retry(5, "unknown"),
    ]


async def test_a_message_to_an_unknown_call_is_refused_with_all_others(storage):
    await write(storage, inserted=[call("row", 1)])
    with pytest.raises(CallNotFound, match="'nobody'"):
        await storage.enqueue([Retry(UNPLACED, "row"), Retry(UNPLACED, "nobody"), Retry(1, "a")])
    assert await storage.inbox_count() == 0
    await storage.enqueue([Retry(UNPLACED, "row")])
    assert await storage.inbox_count() == 1


async def test_clients_do_not_disturb_each_other(storage, connect):
    clients = [await connect() for _ in range(3)]
    await asyncio.gather(
        *(
            client.enqueue([Cancel(number, str(order), "why")])
            for order in range(10)
            for number, client in enumerate(clients)
        )
    )
    found = [each.message for each in await received(storage)]
    for number in range(3):
        mine = [int(each.id) for each in found if each.partition == number]
        assert mine == list(range(10))
