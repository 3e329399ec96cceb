"""Classes that cannot be entities are refused when they are registered, not when they are called."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from fenbu import App, Entity, Lazy, UsageError


class Unset(Entity):
    x: int


class Misfit(Entity):
    x: int = "text"  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]


class LazyMisfit(Entity):
    x: Lazy[int] = 5  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]


class NoType(Entity):
    x: object = object()


class Plain:
    x: int = 0


class Versioned(Entity):
    __version__ = "2"


class Unversioned(Entity):
    __version__ = 0


class Upgraded(Entity):
    def __upgrade__(self, old: dict[str, Any], version: int) -> dict[str, Any]:
        return old


class Waiting(Entity):
    @classmethod
    async def __upgrade__(cls, old: dict[str, Any], version: int) -> dict[str, Any]:
        return old


class Made(Entity):
    def __init__(self, key: str) -> None:  # pyright: ignore[reportMissingSuperCall]
        self.x = key


def function() -> None: ...


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (Unset, "entity Unset: field 'x' needs a default"),
        (Misfit, "entity Misfit: its defaults do not fit: Expected `int`, got `str`"),
        (LazyMisfit, r"entity LazyMisfit: lazy field 'x': write its default as `= Lazy\(5\)`"),
        (NoType, "object cannot be stored"),
        (Plain, r"derived from Entity: `class Plain\(Entity\):`"),
        (Versioned, "entity Versioned: __version__ must be a number from 1, not '2'"),
        (Unversioned, "__version__ must be a number from 1, not 0"),
        (Upgraded, "__upgrade__ .* decorate it with @classmethod"),
        (Waiting, "entity Waiting: __upgrade__ must be a plain `def`"),
        (Made, "must not define __init__"),
        (function, "derived from Entity"),
    ],
)
def test_what_cannot_be_an_entity_is_refused_at_once(wrong: Any, text: str) -> None:
    app = App("wrong", url="memory:")
    with pytest.raises(UsageError, match=text):
        app.entity(wrong)
    with pytest.raises(UsageError, match=text):
        app.entity(wrong)


class Early(Entity):
    later: Later | None = None

    async def set(self, n: int) -> int:
        self.later = Later(n)
        return self.later.n


class Hidden(Entity):
    x: Nowhere | None = None  # type: ignore[name-defined]  # noqa: F821  # pyright: ignore[reportUndefinedVariable, reportUnknownVariableType]

    async def look(self) -> None: ...


app = App("early", url="memory:")
app.entity(Early)


@dataclass
class Later:
    n: int


async def test_an_annotation_may_name_what_is_defined_further_down() -> None:
    async with app:
        assert await Early("a").set(3) == 3


async def test_one_that_names_what_is_nowhere_is_refused_when_the_app_is_opened() -> None:
    app = App("hidden", url="memory:")
    app.entity(Hidden)
    with pytest.raises(UsageError, match="entity Hidden: an annotation names 'Nowhere'"):
        await app.__aenter__()
    with pytest.raises(UsageError, match="'Nowhere'"):
        app.__enter__()
