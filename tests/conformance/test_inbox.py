from __future__ import annotations

import asyncio

import pytest

from fenbu._core.message import Call, Cancel, Reply, Retry, Signal, Subscribe
from fenbu._core.model import Address, Outcome, Status
from fenbu._storage.protocol import UNPLACED
from fenbu.errors import CallNotFound
from tests.fixture.row import FAILURE, call, full_call, write

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
    found = await storage.load_inbox(0, limit=99)
    assert [each.message for each in found] == EVERY_KIND * 2
    numbers = [each.number for each in found]
    assert numbers == sorted(set(numbers))


async def test_the_inbox_is_read_in_parts(storage):
    await storage.enqueue([Cancel(1, str(number), "why") for number in range(5)])
    first = await storage.load_inbox(0, limit=2)
    rest = await storage.load_inbox(first[-1].number, limit=9)
    assert [each.message.id for each in (*first, *rest)] == ["0", "1", "2", "3", "4"]
    assert await storage.load_inbox(rest[-1].number, limit=9) == []
    assert await storage.inbox_count() == 5


async def test_numbers_are_not_used_again_when_the_inbox_has_been_empty(storage, connect):
    await storage.enqueue([Retry(1, "a")])
    (first,) = await storage.load_inbox(0, limit=9)
    await write(storage, inbox_deleted=[first.number])
    await (await connect()).enqueue([Retry(1, "b")])
    (second,) = await storage.load_inbox(first.number, limit=9)
    assert second.message == Retry(1, "b")


async def test_nothing_enqueued_is_nothing(storage):
    await storage.enqueue([])
    assert await storage.inbox_count() == 0


@pytest.mark.guarantee("accepted-never-lost")
async def test_many_messages_are_put_whole(storage, connect):
    messages = [Call(call(f"{number:05}", number)) for number in range(2500)]
    await (await connect()).enqueue(messages)
    found = await storage.load_inbox(0, limit=9999)
    assert [each.message for each in found] == messages


async def test_a_message_without_a_partition_goes_where_its_call_is(storage, connect):
    await write(storage, inserted=[call("row", 1, partition=77)])
    await storage.enqueue([Call(call("waiting", 1, partition=88))])
    await (await connect()).enqueue(
        [
            Call(call("new", 1, partition=99)),
            Signal(UNPLACED, "row", "s", b"\xff"),
            Cancel(UNPLACED, "waiting", "why"),
            Retry(UNPLACED, "new"),
            Subscribe(UNPLACED, "row", Address(1, "b", 2)),
            Retry(5, "unknown"),
        ]
    )
    found = [each.message for each in await storage.load_inbox(1, limit=9)]
    assert found[1:] == [
        Signal(77, "row", "s", b"\xff"),
        Cancel(88, "waiting", "why"),
        Retry(99, "new"),
        Subscribe(77, "row", Address(1, "b", 2)),
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
    found = [each.message for each in await storage.load_inbox(0, limit=99)]
    for number in range(3):
        mine = [int(each.id) for each in found if each.partition == number]
        assert mine == list(range(10))
