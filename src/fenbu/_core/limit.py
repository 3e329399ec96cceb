"""Every bound and default of the engine, with the relations between them asserted."""

from __future__ import annotations

from typing import Final

PARTITION_COUNT: Final = 256
"""How many partitions a new database has."""

ID_LENGTH_MAX: Final = 200
"""Characters of an invocation id; ids are part of every journal key, so they stay short."""

ID_LENGTH_DERIVED_MAX: Final = 120
"""A derived id (`parent.3`) beyond this is replaced by a hash, so that deep call trees keep short ids."""

UPDATE_ID_LENGTH_MAX: Final = 100
"""Characters of the id that an update is given; that of its call is this behind its workflow's."""

KEY_LENGTH_MAX: Final = 400
"""Characters of an entity key."""

ACTIVE_CALLS_MAX: Final = 65_536
"""Calls of one node with something to run; the rest waits in the database as backlog."""

MAILBOX_OPERATIONS_MAX: Final = 1_024
"""Waiting operations of one entity held in memory; the rest waits in the database."""

IDLE_CALLS_MAX: Final = 20_000
"""Workflows in memory that only wait; beyond it the longest idle are evicted at once."""

ENTITIES_MAX: Final = 50_000
"""Entities whose state is cached; beyond it the least recently used are dropped."""

FIELD_CACHE_BYTES: Final = 64 * 1024 * 1024
"""Of lazy fields of one node's entities that are kept in memory; beyond it the least recently used are
dropped. Running operations keep what they have seen."""

IDLE_SECONDS: Final = 10.0
"""A workflow that has only waited for this long is evicted."""

LOAD_ROWS_MAX: Final = 2_048
"""Calls read from the database at a time."""

INBOX_ROWS_MAX: Final = 256
"""Inbox messages read from the database at a time: what some start is written while others are read."""

HANDLES_PER_DRAIN_MAX: Final = 1_000_000
"""Callbacks that workflow code may run without waiting for anything durable: an endless loop otherwise."""

JOURNAL_ENTRIES_WARN: Final = 10_000
"""A journal this long is slow to replay: the node says so, once."""

JOURNAL_ENTRIES_MAX: Final = 50_000
"""A call whose journal grows beyond this is asked to stop, and fails."""

JOURNAL_ENTRIES_CLEANUP: Final = 1_000
"""So many more it may use for cleaning up."""

RUNS_IN_A_ROW_MAX: Final = 10_000
"""How often a call may continue as new without waiting for anything durable: an endless loop otherwise."""

CRASHES_MAX: Final = 4
"""Crashes of the process, with no progress of the call between them, until it is quarantined."""

STREAM_NAME_LENGTH_MAX: Final = 200
"""Characters of a stream's name, which is part of the key of each of its chunks."""

CHUNK_ROWS_MAX: Final = 200
"""Chunks that one reader of a stream is given at a time."""

STREAM_CURSORS_MAX: Final = 500
"""Readers of streams for whom one statement looks."""

CHUNK_DELETE_ROWS_MAX: Final = 20_000
"""Chunks deleted in one transaction."""

RETENTION_SECONDS: Final = 7 * 86_400.0
"""How long a finished call is kept."""

RETENTION_SECONDS_MIN: Final = 60.0
"""How long a client in another process can find the outcome of a call whose handler keeps nothing."""

DELETE_ROWS_MAX: Final = 2_000
"""Finished calls deleted in one transaction."""

FORGET_SECONDS: Final = 10.0
"""How often a node looks for entities whose time is over: so late they may be forgotten."""

FORGET_ENTITIES: Final = 500
"""That are forgotten, or looked at, at a time."""

FORGET_PAGES: Final = 20
"""So many times `FORGET_ENTITIES` of a class are looked at in a round, when its `ttl` may be another."""

LOOK_SECONDS: Final = 2.0
"""How long a node waits for a hint of another process before it goes round."""

PATIENCE_SECONDS: Final = 10.0
"""How long a caller waits for a database that is away, before it gets an error."""

DRAIN_SECONDS: Final = 30.0
"""How long a stopping node lets running bodies finish."""

LIST_CALLS_MAX: Final = 1_000
"""Calls of one page."""

LIST_ENTITIES_MAX: Final = 1_000
"""Entities of one page."""

BULK_CALLS: Final = 500
"""Calls that are told something in one transaction."""

ATTRIBUTES_MAX: Final = 32
"""Search attributes given at a time."""

ATTRIBUTE_NAME_LENGTH_MAX: Final = 64
"""Characters of an attribute's name."""

ATTRIBUTE_TEXT_BYTES_MAX: Final = 1_000
"""Bytes of an attribute that is a text: it is part of a key of an index."""

TOPIC_NAME_LENGTH_MAX: Final = 64
"""Characters of a topic's name, which is part of ids and keys."""

GROUP_NAME_LENGTH_MAX: Final = 100

TOPIC_SHARDS_MAX: Final = 256

EVENT_KEY_LENGTH_MAX: Final = 200
"""Characters of an event's key, which is part of the key of an entity."""

EVENT_ID_SECONDS: Final = 86_400.0
"""How long publishing with an id again is known to be the same."""

LIST_LOGS_MAX: Final = 10_000

END_OF_TIME: Final = 253_402_300_799.0
"""The last second of the year 9999."""

EVENTS_OF_CALL_MAX: Final = 500
"""That are appended in one operation."""

EVENT_BYTES_MAX: Final = 1024 * 1024
"""Of the events that a group reads in one step, not counting the last one."""

PAYLOAD_BYTES_MAX: Final = 64 * 1024 * 1024
"""The largest single argument list, result, state or signal."""

if (
    LOAD_ROWS_MAX > ACTIVE_CALLS_MAX
    or ID_LENGTH_DERIVED_MAX >= ID_LENGTH_MAX
    or JOURNAL_ENTRIES_WARN >= JOURNAL_ENTRIES_MAX
):
    raise AssertionError("limits contradict each other")
