"""The options that say which calls are meant."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from fenbu._cli.present import condition_of, instant_of
from fenbu._core.attribute import Condition
from fenbu._core.model import Status
from fenbu._storage.observer import CallFilter

F = TypeVar("F", bound=Callable[..., Any])


def filter_options(function: F) -> F:
    """Give a command the options `--status`, `--handler`, `--since`, `--before` and `--where`."""
    options = (
        click.option(
            "--status", "statuses", multiple=True, type=click.Choice([each.value for each in Status]),
            help="Only calls with this status; may be repeated.",
        ),
        click.option("--handler", help="Only calls of this handler."),
        click.option("--since", type=instant_of, help="Only calls accepted since: 2h (ago), or a date."),
        click.option("--before", type=instant_of, help="Only calls accepted before."),
        click.option(
            "--where", "conditions", multiple=True, type=condition_of, metavar="CONDITION",
            help="Only calls with such an attribute, as customer=7 or 'total>100'; may be repeated.",
        ),
    )  # fmt: skip
    for option in reversed(options):
        function = option(function)
    return function


def filter_of(
    statuses: tuple[str, ...],
    handler: str | None,
    since: float | None,
    before: float | None,
    conditions: tuple[Condition, ...],
    limit: int = 50,
) -> CallFilter:
    """What they say."""
    return CallFilter(
        statuses=tuple(Status(each) for each in statuses) or None,
        handler=handler,
        created_after=since,
        created_before=before,
        where=conditions,
        limit=limit,
    )
