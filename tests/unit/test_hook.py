"""Compression and encryption of payloads, and what a hook does to whole structs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fenbu import Compression, Encryption, UsageError
from fenbu._api.hook import encryption_of, one_hook
from fenbu._core.batch import CommitBatch
from fenbu._core.message import Call, Cancel, Reply, Signal, Update, Withheld
from fenbu._core.model import (
    Address,
    Chunk,
    EntityState,
    Entry,
    EntryKind,
    Failure,
    Heartbeat,
    Invocation,
    Loaded,
    Outcome,
    Status,
    Unreadable,
    UnreadableFailure,
)
from fenbu._storage.seal import MARK, Seal

OLD, NEW = Encryption.new_key(), Encryption.new_key()
FAILURE = Failure("shop:Refused", "card 4711", "line 4711", '["4711"]', '{"card":4711}')
payloads = st.text().map(lambda text: f'"{text}"') | st.binary(min_size=2).map(
    lambda data: b"\xc4" + data
)


@given(payload=payloads, hook=st.sampled_from([Compression(beyond=0), Encryption([OLD])]))
def test_a_payload_comes_back_as_it_was(payload: Any, hook: Any) -> None:
    seal = Seal(hook)
    assert seal.open(seal.payload(payload)) == payload


@pytest.mark.parametrize("number", [0, 5, 127, b"\x05", b"\x7f", b"\xc0"])
def test_small_integers_too(number: Any) -> None:
    payload = number if isinstance(number, bytes) else str(number)
    for hook in (Compression(beyond=0), Encryption([OLD])):
        seal = Seal(hook)
        assert seal.open(seal.payload(payload)) == payload


def test_only_what_is_large_and_becomes_smaller_is_compressed() -> None:
    hook = Compression(beyond=100)
    assert Seal(hook).payload('"short"') == '"short"'
    large = '"' + 1000 * "a" + '"'
    assert len(Seal(hook).payload(large)) < 100
    assert hook.decode(b"stored before") == b"stored before"


def test_any_listed_key_decrypts_and_the_first_encrypts() -> None:
    stored = Encryption([OLD]).encode(b"secret")
    both = Encryption([NEW, OLD])
    assert both.decode(stored) == b"secret"
    assert not both.is_current(stored)
    assert both.is_current(both.encode(b"secret"))
    with pytest.raises(UsageError, match=r"encrypted with key [0-9a-f]{8}, and this app has"):
        Encryption([OLD]).decode(both.encode(b"secret"))


def test_what_was_changed_or_has_another_context_is_refused() -> None:
    hook = Encryption([OLD], context="shop")
    stored = hook.encode(b"secret")
    for place in range(2, len(stored)):
        changed = bytearray(stored)
        changed[place] ^= 1
        with pytest.raises(UsageError):
            hook.decode(bytes(changed))
    with pytest.raises(UsageError, match="changed since, or has another context"):
        Encryption([OLD], context="bank").decode(stored)


def test_the_same_value_never_looks_the_same() -> None:
    hook = Encryption([OLD])
    assert len({hook.encode(b"secret") for _ in range(100)}) == 100


@pytest.mark.parametrize("keys", [[], [b"short"], ["no key"], NEW])
def test_what_is_no_key_is_refused(keys: Any) -> None:
    with pytest.raises(UsageError, match="key"):
        Encryption(keys)


def test_compression_comes_first() -> None:
    chain = one_hook([Compression(beyond=0), Encryption([OLD])])
    assert chain is not None
    assert len(chain.encode(10_000 * b"a")) < 200
    assert chain.decode(chain.encode(10_000 * b"a")) == 10_000 * b"a"
    assert encryption_of(chain) is not None
    assert encryption_of(Compression()) is None
    with pytest.raises(UsageError, match="compression comes before"):
        one_hook([Encryption([OLD]), Compression()])


def _call(**fields: Any) -> Invocation:
    return Invocation(id="a", partition=1, handler="h", args='"4711"', **fields)


def _everything() -> CommitBatch:
    parked = _call(
        status=Status.STUCK,
        waiting="4711",
        failure=FAILURE,
        cancel_reason="4711",
        result='"4711"',
        heartbeats=(Heartbeat(0, 1.0, '"4711"'), Heartbeat(1, 2.0, data=b"\xa44711")),
    )
    value = Outcome(Status.COMPLETED, '"4711"')
    return CommitBatch(
        inserted=[parked],
        updated=[parked],
        entries=[
            Entry("a", 1, EntryKind.STEP_COMPLETED, 0.0, value='"4711"', failure=FAILURE),
            Entry("a", 2, EntryKind.CANCEL_REQUESTED, 0.0, name="4711"),
        ],
        entities=[EntityState("Card", "k", 1, '{"number":4711}')],
        inbox=[
            Call(_call()),
            Reply(Address(1, "a", 1), value),
            Signal(1, "a", "paid", '"4711"', FAILURE),
            Update(1, "a", _call(), failure=FAILURE),
            Cancel(1, "a", "4711"),
        ],
        chunks=[Chunk("a", "s", 0, 0, 0, 1.0, '"4711"'), Chunk("a", "s", 0, 0, 1, 1.0, ends=True)],
    )


def test_nothing_of_a_batch_is_left_readable_and_all_of_it_comes_back() -> None:
    seal, batch = Seal(Encryption([OLD])), _everything()
    sealed = seal.batch(batch)
    assert "4711" not in repr(sealed)
    assert "4711" in repr(batch)
    assert seal.open_loaded(Loaded(sealed.inserted[0], sealed.entries)) == Loaded(
        batch.inserted[0], batch.entries
    )
    assert [seal.open_message(each) for each in sealed.inbox] == batch.inbox
    assert [seal.open_chunk(each) for each in sealed.chunks] == batch.chunks
    assert seal.open_state(sealed.entities[0]) == batch.entities[0]
    assert sealed.updated[0].args == ""


def test_what_cannot_be_read_is_written_back_as_it_is() -> None:
    seal, keyless = Seal(Encryption([NEW])), Seal(Encryption([OLD]))
    stored = seal.batch(_everything())
    opened = keyless.open_invocation(stored.inserted[0])
    assert isinstance(opened.args, Unreadable)
    assert isinstance(opened.failure, UnreadableFailure)
    again = keyless.invocation(opened)
    back = seal.open_invocation(again)
    assert (back.args, back.result, back.failure) == ('"4711"', '"4711"', FAILURE)
    assert (back.waiting, back.cancel_reason) == ("4711", "4711")
    assert back.heartbeats == _everything().inserted[0].heartbeats
    for chunk, before in zip(stored.chunks, _everything().chunks, strict=True):
        assert seal.open_chunk(keyless.chunk(keyless.open_chunk(chunk))) == before


def test_a_journal_of_which_a_part_is_unreadable_hides_the_arguments() -> None:
    seal, keyless = Seal(Encryption([NEW])), Seal(Encryption([OLD]))
    (entry, _) = seal.batch(_everything()).entries
    loaded = keyless.open_loaded(Loaded(_call(), [entry]))
    assert isinstance(loaded.invocation.args, Unreadable)
    assert "encrypted with key" in loaded.invocation.args.reason
    beats = seal.invocation(_call(heartbeats=(Heartbeat(0, 1.0, '"4711"'),))).heartbeats
    loaded = keyless.open_loaded(Loaded(_call(heartbeats=beats), []))
    assert isinstance(loaded.invocation.args, Unreadable)


def test_messages_that_cannot_be_read_are_withheld_and_may_be_forwarded() -> None:
    seal, keyless = Seal(Encryption([NEW])), Seal(Encryption([OLD]))
    for message in _everything().inbox[1:4]:
        found = keyless.open_message(seal.message(message))
        assert isinstance(found, Withheld)
        assert seal.open_message(keyless.message(found)) == message


def test_a_text_that_looks_sealed_is_none_to_take_apart() -> None:
    failure = Failure("shop:Refused", f"{MARK} by the customs")
    seal = Seal(Compression())
    assert seal.open_failure(seal.failure(failure)) == failure
    assert seal.open_text(seal.text(failure.message)) == failure.message


def test_a_hook_may_raise_anything_while_it_opens() -> None:
    hook: Any = SimpleNamespace(decode={}.__getitem__)
    found = Seal(hook).open(b"\xc1stored")
    assert isinstance(found, Unreadable)
    assert "KeyError" in found.reason
