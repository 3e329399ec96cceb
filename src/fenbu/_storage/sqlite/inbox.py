"""The inbox: how a client's messages come in, and how the owner reads them.

Guarantee: accepted-never-lost. What a client sends is one transaction, durable when it returns.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from fenbu._core.ids import home_of
from fenbu._core.message import Call, Message, Reply, decode
from fenbu._storage.position import read_of
from fenbu._storage.protocol import UNPLACED, InboxRead, Received
from fenbu._storage.rows import text_of
from fenbu._storage.sqlite.migrate import read_meta
from fenbu._storage.sqlite.rows import (
    INBOX_SQL,
    INSERT_MESSAGES,
    INVOCATION_SQL,
    inbox_parameters,
)
from fenbu._storage.sqlite.session import SQL, Session
from fenbu._storage.sqlite.shape import Statement
from fenbu.errors import CallNotFound


def read(
    session: Session, partitions: Sequence[int], after: int, until: int | None, limit: int
) -> InboxRead:
    """See `Storage.load_inbox`."""
    session.execute(SQL["begin_read"])
    if until is None:
        until = session.execute(INBOX_SQL["last_number"]).fetchone()[0]
    parameters = {
        "partitions": text_of(partitions),
        "after": after,
        "until": until,
        "limit": limit + 1,
    }
    rows = session.execute(INBOX_SQL["load"], parameters).fetchall()
    session.commit()
    found = [Received(number, decode(message)) for number, message in rows[:limit]]
    return read_of(found, complete=len(rows) <= limit, last=until or 0)


def prepare(messages: Sequence[Message]) -> list[Statement] | None:
    """Copy the messages into statements, in the caller's thread; None if a partition must be found first."""
    if any(_is_unplaced(each) for each in messages):
        return None
    return INSERT_MESSAGES.statements(inbox_parameters(messages))


def put(session: Session, todo: list[Statement]) -> None:
    """Execute what `prepare` gave, all or none."""
    if len(todo) == 1:
        session.write(*todo[0])
        return
    session.begin()
    for each in todo:
        session.execute(*each)
    session.commit()


def place_and_put(session: Session, messages: Sequence[Message]) -> None:
    """Find the partitions that the sender does not know, then put all messages or none."""
    session.begin()
    parameters = inbox_parameters(_placed(session, messages))
    for each in INSERT_MESSAGES.statements(parameters):
        session.execute(*each)
    session.commit()


def _is_unplaced(message: Message) -> bool:
    return message.partition == UNPLACED and not isinstance(message, Call | Reply)


def _placed(session: Session, messages: Sequence[Message]) -> list[Message]:
    """With every partition filled in, from the call's row or from the message that is to become one."""
    unplaced = [each.id for each in messages if not isinstance(each, Call | Reply)]
    ids = (text_of(unplaced),)
    found = {each.invocation.id: each.partition for each in messages if isinstance(each, Call)}
    found.update(session.execute(INBOX_SQL["calls"], ids).fetchall())
    count = int(read_meta(session, "partition_count") or 0)
    for id_, partition, is_there in session.execute(INVOCATION_SQL["places"], ids).fetchall():
        found[id_] = partition if is_there else home_of(id_, None, None, count)
    placed: list[Message] = []
    for each in messages:
        if isinstance(each, Call | Reply) or each.partition != UNPLACED:
            placed.append(each)
        elif each.id in found:
            placed.append(msgspec.structs.replace(each, partition=found[each.id]))
        else:
            raise CallNotFound(f"no call has the id {each.id!r}, or its retention is over")
    return placed
