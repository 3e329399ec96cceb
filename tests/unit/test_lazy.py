"""Lazy fields inside the engine: what is asked for, what is kept in memory, what a replay needs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from fenbu._api.lazy import Lazy
from fenbu._api.step import step
from fenbu._core import history
from fenbu._core.effect import Effect, LoadEntity, LoadFields
from fenbu._core.event import EntityLoaded, FieldsLoaded
from fenbu._core.history import Histories, History
from fenbu._core.journal import fields_seen, recorded
from fenbu._core.message import Cancel
from fenbu._core.model import EntryKind, Status, Unreadable
from fenbu._core.rehearsal import rehearse
from tests.unit.drive import Drive, bodies


async def act(n: int) -> int:
    return n


class Book:
    count: int = 0
    text: Lazy[str]
    other: Lazy[str] = Lazy("-")

    async def write(self, text: str) -> str:
        self.text.set(await self.text.get() + text)
        return await self.text.get()

    async def overwrite(self, text: str) -> None:
        self.text.set(text)

    async def count_up(self) -> int:
        self.count += 1
        return self.count

    async def slowly(self, text: str) -> str:
        before = await self.text.get()
        n = await step(act, 1)
        self.text.set(f"{before}{text}{n}{await self.other.get()}")
        await step(act, 2)
        return await self.text.get()


@pytest.fixture
def books(drive: Drive) -> Drive:
    drive.register_entity(Book)
    return drive


def serve(drive: Drive, effects: Iterable[Effect]) -> list[Effect]:
    """Answer what is asked of the database, and what is asked for then; the other effects."""
    left: list[Effect] = []
    for each in effects:
        match each:
            case LoadEntity():
                state = drive.states.get((each.entity, each.key))
                left += serve(drive, drive.event(EntityLoaded(0, each.entity, each.key, state)))
            case LoadFields():
                left += serve(drive, drive.event(answer(drive, each)))
            case _:
                left.append(each)
    return left


def answer(drive: Drive, asked: LoadFields) -> FieldsLoaded:
    places = {name: (asked.entity, asked.key, name) for name in asked.names}
    found = {name: drive.fields[at] for name, at in places.items() if at in drive.fields}
    return FieldsLoaded(0, asked.batch, asked.entity, asked.key, asked.names, found)


def restart(drive: Drive, *ids: str) -> list[Effect]:
    """Another process, which loads these open calls."""
    drive.start()
    return serve(drive, drive.load_ready(*ids))


def call(drive: Drive, name: str, id_: str, *args: Any) -> list[Effect]:
    return serve(drive, drive.call(f"Book.{name}", *args, id=id_, key="k"))


def asked(drive: Drive, id_: str) -> list[str]:
    texts = [drive.rows[id_].commands, *(each.commands for each in drive.entries.get(id_, []))]
    return [f"{kind} {name}" for text in texts for kind, name, _ in recorded(text)]


def test_a_field_without_a_row_is_not_looked_for_and_needs_no_entry(books: Drive) -> None:
    effects = books.call("Book.write", "a", id="a", key="k")
    assert effects == [LoadEntity(0, "Book", "k")]
    call_effects = serve(books, effects)
    assert not [each for each in call_effects if isinstance(each, LoadFields)]
    assert books.rows["a"].result == '"a"'
    assert books.entries.get("a") is None
    assert asked(books, "a") == ["sees text"]
    assert books.fields == {("Book", "k", "text"): '"a"'}
    assert books.states["Book", "k"].fields == '["text"]'


def test_value_state_and_result_are_one_batch(books: Drive) -> None:
    call(books, "write", "a", "a")
    call(books, "write", "b", "b")
    batch = books.batches[-1]
    assert (len(batch.inserted), len(batch.entities), len(batch.fields)) == (1, 1, 1)
    assert not batch.entries
    call(books, "overwrite", "c", "ab")
    assert (len(books.batches[-1].entities), len(books.batches[-1].fields)) == (0, 0)
    call(books, "count_up", "d")
    assert (len(books.batches[-1].entities), len(books.batches[-1].fields)) == (1, 0)


def test_a_row_is_read_once_it_is_asked_for(books: Drive) -> None:
    call(books, "write", "a", "a")
    restart(books)
    effects = books.call("Book.count_up", id="b", key="k")
    assert not [each for each in serve(books, effects) if isinstance(each, LoadFields)]
    assert books.rows["b"].result == "1"
    (load,) = books.call("Book.write", "b", id="c", key="k")
    assert load == LoadFields(0, load.batch, "Book", "k", ("text",))
    assert books.rows["c"].status is Status.RUNNING
    serve(books, [load])
    assert books.rows["c"].result == '"ab"'
    (entry,) = books.entries["c"]
    assert (entry.kind, entry.name, entry.value) == (EntryKind.FIELD_READ, "text", None)
    assert asked(books, "c") == ["field text"]


@pytest.mark.guarantee("entity-linear")
def test_a_value_that_comes_after_a_change_is_not_taken(books: Drive) -> None:
    call(books, "write", "a", "old")
    restart(books)
    call(books, "count_up", "b")
    (load,) = books.call("Book.write", "x", id="c", key="k")
    assert isinstance(load, LoadFields)
    late = answer(books, load)
    books.message(Cancel(0, "c", "enough", at_once=True))
    call(books, "overwrite", "d", "new")
    books.event(late)
    assert not books.engine.partitions[0].mailboxes["Book", "k"].fields.is_loading
    call(books, "write", "e", "er")
    assert books.rows["e"].result == '"newer"'


@pytest.mark.guarantee("replay-same")
@pytest.mark.parametrize("cold", [False, True])
def test_a_replay_sees_what_was_seen(books: Drive, cold: bool) -> None:
    call(books, "write", "a", "old ")
    if cold:
        restart(books)
    (first,) = bodies(call(books, "slowly", "b", "x"))
    (second,) = bodies(serve(books, books.completed(first, 1)))
    kinds = [each.kind for each in books.entries["b"]]
    assert kinds == [EntryKind.FIELD_READ] * cold + [EntryKind.STEP_COMPLETED]
    assert asked(books, "b") == [
        "field text" if cold else "sees text",
        "step act",
        "sees other",
        "step act",
    ]
    (loaded,) = books.loaded("b")
    assert fields_seen(loaded.invocation, loaded.entries) == ("text", "other")
    for _ in range(2):
        (again,) = bodies(restart(books, "b"))
        assert (again.command, again.run) == (second.command, second.run)
    books.completed(again, 2)
    assert books.rows["b"].result == '"old x1-"'
    assert books.fields["Book", "k", "text"] == '"old x1-"'


def test_a_read_under_way_is_asked_for_again(books: Drive) -> None:
    call(books, "write", "a", "a")
    restart(books)
    books.call("Book.write", "b", id="b", key="k")
    (load,) = books.event(EntityLoaded(0, "Book", "k", books.states["Book", "k"]))
    assert isinstance(load, LoadFields)
    restart(books, "b")
    assert books.rows["b"].result == '"ab"'
    assert len(books.entries["b"]) == 1


def test_memory_is_bounded_and_an_operation_keeps_what_it_has_seen(drive: Drive) -> None:
    drive.options = {"field_cache_bytes": 10}
    drive.start()
    drive.register_entity(Book)
    call(drive, "write", "a", "x" * 20)
    assert drive.engine.next_tick() == drive.engine.now
    drive.tick()
    assert drive.engine.next_tick() is None
    (first,) = bodies(call(drive, "slowly", "b", "y"))
    drive.tick()
    (second,) = bodies(serve(drive, drive.completed(first, 1)))
    drive.completed(second, 2)
    assert drive.rows["b"].result == '"' + "x" * 20 + 'y1-"'
    assert len(drive.entries["b"]) == 3


def test_what_cannot_be_read_parks_the_operation(books: Drive) -> None:
    call(books, "write", "a", "a")
    plain = books.fields["Book", "k", "text"]
    locked = Unreadable(b"?")
    locked.reason, locked.stored = "no key for it", b"?"
    books.fields["Book", "k", "text"] = locked
    restart(books)
    call(books, "write", "b", "b")
    assert books.rows["b"].status is Status.STUCK
    assert "lazy field text: no key for it" in str(books.rows["b"].waiting)
    books.fields["Book", "k", "text"] = plain
    restart(books)
    (first,) = bodies(call(books, "slowly", "c", "c"))
    books.fields["Book", "k", "text"] = locked
    assert not bodies(restart(books, "c"))
    assert books.rows["c"].status is Status.STUCK
    assert "lazy field text of Book('k')" in str(books.rows["c"].waiting)
    assert first.name == "act"


def test_code_that_asks_for_another_field_is_stuck(books: Drive) -> None:
    (first,) = bodies(call(books, "slowly", "a", "x"))
    books.completed(first, 1)
    other = Drive()

    class Renamed(Book):
        async def slowly(self, text: str) -> str:
            await self.other.get()
            await step(act, 1)
            return text

    Renamed.__name__ = "Book"
    other.register_entity(Renamed)
    found = rehearse(other.registry, History(books.loaded("a")[0]))
    assert found is not None
    assert found.position == 0
    assert (found.recorded or "").startswith("sees text at test_lazy.py:")
    assert (found.asked or "").startswith("field other at test_lazy.py:")


def test_a_rehearsal_has_the_values(books: Drive) -> None:
    call(books, "write", "a", "old ")
    (first,) = bodies(call(books, "slowly", "b", "x"))
    books.completed(first, 1)
    state = books.states["Book", "k"]
    found = History(books.loaded("b")[0], state.state, 1, {"text": '"old "'})
    assert history.read(history.write(Histories([found]))).root == found
    assert rehearse(books.registry, found) is None


def test_a_partition_that_is_given_away_leaves_nothing_in_memory(books: Drive) -> None:
    call(books, "write", "a", "x" * 50)
    assert books.engine.fields._size == 52
    books.engine.release([0], books.now)
    assert books.engine.fields._size == 0
