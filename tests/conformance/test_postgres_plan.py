"""What is asked again and again goes through an index, whatever the tables held when it was planned."""

from __future__ import annotations

import re

import pytest

from fenbu._storage.postgres.storage import PostgresStorage
from tests.fixture.postgres import Session, new_url

REPEATED = [
    "invocation.load",
    "invocation.load_ready",
    "invocation.load_operations",
    "invocation.load_due",
    "invocation.next_due",
    "invocation.last_sequences",
    "invocation.revive",
    "invocation.unhandled",
    "invocation.outcomes",
    "invocation.places",
    "invocation.delete_finished",
    "invocation.find",
    "invocation.operations_before",
    "invocation.run_of",
    "invocation.children",
    "invocation.awaited",
    "entity.load",
    "entity.misdated",
    "inbox.load",
    "inbox.find",
    "chunk.load",
    "chunk.of_calls",
    "chunk.streams",
    "commit.invocation_update",
    "commit.invocation_delete",
    "commit.entry_delete",
    "commit.entity_delete",
    "commit.inbox_delete",
]


@pytest.fixture(scope="module")
def planner(postgres):
    """A session that plans as those of the storage do; each query as it is planned for any parameters."""
    import asyncio

    storage = PostgresStorage(new_url(postgres))

    async def create() -> dict[str, str]:
        await storage.open()
        sql = storage._pool.sql
        await storage.close()
        return sql

    sql = asyncio.run(create())
    with Session(storage._target.url) as session:
        session.value(sql["session.configure"], "planner", "1000")

        def plan(name: str) -> list[str]:
            query = sql[name]
            count = max(map(int, re.findall(r"\$(\d+)", query)))
            session.execute(f"PREPARE q AS {query}")
            nulls = ", ".join(["NULL"] * count)
            lines = [row[0] for row in session.rows(f"EXPLAIN EXECUTE q ({nulls})")]
            session.execute("DEALLOCATE q")
            return lines

        yield plan


@pytest.mark.parametrize("name", REPEATED)
def test_no_table_is_read_from_end_to_end(planner, name):
    steps = planner(name)
    assert not [
        each
        for each in steps
        if re.search(r"Seq Scan on (invocation|entry|inbox|entity|entity_field|chunk)\b", each)
    ], steps


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("invocation.load_ready", "open_call"),
        ("invocation.load_operations", "open_operation"),
        ("invocation.load_due", "due_call"),
        ("invocation.next_due", "due_call"),
        ("invocation.last_sequences", "open_call"),
        ("invocation.revive", "parked_call"),
        ("invocation.delete_finished", "finished_call"),
        ("invocation.children", "child_call"),
        ("inbox.load", "inbox_order"),
        ("inbox.find", "inbox_call"),
        ("chunk.load", "chunk_order"),
        ("field.load", "entity_field_pkey"),
    ],
)
def test_the_index_is_the_one_that_was_made_for_it(planner, name, index):
    assert re.search(rf"using {index}\b|on {index}\b", "\n".join(planner(name)))


@pytest.mark.parametrize(
    "name", ["invocation.load_ready", "invocation.load_operations", "invocation.next_due"]
)
def test_no_more_is_read_than_is_wanted(planner, name):
    assert "Sort" not in "\n".join(planner(name))
