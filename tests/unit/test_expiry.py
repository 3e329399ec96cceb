"""Entities that are forgotten: by an operation that takes its turn and looks again."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from fenbu._core.event import EntityLoaded
from fenbu._core.expiry import OPERATION, forget, forget_call
from fenbu._core.handler import HandlerSpec
from fenbu._core.model import EntityState, Kind
from fenbu._core.signature import Signature
from tests.unit.drive import Drive

TTL = 60.0


class Cart:
    n: int = 0
    key: str

    async def add(self, n: int) -> int:
        self.n += n
        return self.n


@pytest.fixture
def carts(drive: Drive) -> Drive:
    drive.register_entity(Cart)
    entity = drive.registry.entities["Cart"]
    entity.ttl_seconds = TTL
    entity.forget = HandlerSpec(
        name=f"Cart.{OPERATION}",
        kind=Kind.OPERATION,
        function=forget,
        signature=Signature(forget, drive.registry.codec, skip_first=True),
        retention_seconds=0.0,
        entity=entity,
    )
    drive.registry.add(entity.forget)
    return drive


def add(drive: Drive, id_: str) -> None:
    drive.call("Cart.add", 1, id=id_, key="k")
    drive.event(EntityLoaded(0, "Cart", "k", drive.states.get(("Cart", "k"))))


def expire(drive: Drive, id_: str = "forget") -> None:
    drive.message(forget_call(id_, "Cart", "k", 0, drive.now))


def test_a_change_says_until_when_it_holds(carts: Drive) -> None:
    add(carts, "a")
    assert carts.states["Cart", "k"].expires_at == carts.now + TTL
    carts.tick(10)
    add(carts, "b")
    assert carts.states["Cart", "k"].expires_at == carts.now + TTL


def test_it_is_forgotten_when_its_time_is_over_in_one_batch_and_leaves_no_row(carts: Drive) -> None:
    add(carts, "a")
    carts.tick(TTL)
    expire(carts)
    assert ("Cart", "k") not in carts.states
    batch = carts.batches[-1]
    assert (batch.entities_deleted, batch.inserted, batch.updated) == ([("Cart", "k")], [], [])
    add(carts, "b")
    assert carts.rows["b"].result == "1"


@pytest.mark.guarantee("entity-linear")
def test_what_has_changed_since_it_was_found_stays(carts: Drive) -> None:
    add(carts, "a")
    carts.tick(TTL)
    add(carts, "b")
    expire(carts)
    assert carts.states["Cart", "k"].state == '{"n":2}'
    carts.tick(TTL - 0.001)
    expire(carts, "early")
    assert carts.states["Cart", "k"].state == '{"n":2}'


def test_a_longer_ttl_is_written_down_and_none_forgets_nothing(carts: Drive) -> None:
    add(carts, "a")
    began = carts.now
    carts.tick(TTL)
    carts.registry.entities["Cart"].ttl_seconds = 2 * TTL
    expire(carts)
    state = carts.states["Cart", "k"]
    assert (state.changed_at, state.expires_at) == (began, began + 2 * TTL)
    carts.registry.entities["Cart"].ttl_seconds = None
    carts.tick(9 * TTL)
    expire(carts, "none")
    assert carts.states["Cart", "k"] == state


def test_one_that_was_written_without_a_ttl_has_an_instant_first_and_goes_then(
    carts: Drive,
) -> None:
    state = EntityState("Cart", "k", 0, '{"n":7}', 1, carts.now, None, None)
    carts.states["Cart", "k"] = state
    began = carts.now
    carts.tick(2 * TTL)
    expire(carts)
    carts.event(EntityLoaded(0, "Cart", "k", state))
    assert carts.states["Cart", "k"] == replace(state, expires_at=began + TTL)
    expire(carts, "again")
    assert ("Cart", "k") not in carts.states


def test_one_with_an_alarm_or_without_a_state_is_left_alone(carts: Drive) -> None:
    state = EntityState("Cart", "k", 0, '{"n":7}', 1, carts.now, '{"add":"alarm"}', carts.now + TTL)
    carts.states["Cart", "k"] = state
    carts.tick(2 * TTL)
    expire(carts)
    carts.event(EntityLoaded(0, "Cart", "k", state))
    assert carts.states["Cart", "k"] == state
    carts.message(forget_call("other", "Cart", "other", 0, carts.now))
    carts.event(EntityLoaded(0, "Cart", "other", None))
    assert carts.batches[-1].entities_deleted == []


def test_a_state_that_does_not_fit_its_class_is_forgotten_as_well(carts: Drive) -> None:
    state = EntityState("Cart", "k", 0, '{"n":"text"}', 1, carts.now, None, carts.now + TTL)
    carts.states["Cart", "k"] = state
    carts.tick(TTL)
    expire(carts)
    carts.event(EntityLoaded(0, "Cart", "k", state))
    assert ("Cart", "k") not in carts.states
    assert "forget" not in carts.rows
