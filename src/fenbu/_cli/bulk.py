"""`fenbu bulk`: tell all calls something that fulfil a condition."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import cast, get_args, overload

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from fenbu._api.bulk import Action, Forks, Steered, narrowed, steer
from fenbu._cli.filter import filter_of, filter_options
from fenbu._cli.present import console, count_of, print_json
from fenbu._cli.target import app_option, find_url, json_option, no_node, url_option, with_database
from fenbu._core.attribute import Condition
from fenbu._node.clock import SystemClock
from fenbu._storage.observer import pages_of
from fenbu._storage.open import Database

EXAMPLE = """
\b
Examples:
  fenbu bulk cancel --handler checkout --where customer=7
  fenbu bulk retry --status failed --since 2h --yes
  fenbu bulk pause --handler send_receipt --reason "the mail server is down"
  fenbu bulk resume --handler send_receipt --dry-run
"""


@click.command(epilog=EXAMPLE)
@click.argument("action", type=click.Choice(get_args(Action)))
@filter_options
@click.option(
    "--step",
    help="For fork alone: the step from which each goes on; else what failed.",
)
@click.option("--reason", default="", help="For who asks later; of cancel, terminate and pause.")
@click.option("--dry-run", is_flag=True, help="Only say how many they are.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@app_option
@url_option
@json_option
def bulk(
    action: str,
    statuses: tuple[str, ...],
    handler: str | None,
    since: float | None,
    before: float | None,
    conditions: tuple[Condition, ...],
    step: str | None,
    reason: str,
    app_name: str | None,
    url: str | None,
    *,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Cancel, terminate, retry, pause, resume or fork all calls that fulfil these conditions.

    Only those to which it means something: without --status, open calls are cancelled, failed, timed out,
    stuck and quarantined ones are tried again, and workflows that failed or timed out are forked. Calls that
    are accepted meanwhile are not among them. It may be repeated, also after it was interrupted: what has
    been forked from there is not forked again. A fork that failed is, like any other that failed.
    """
    place = find_url(app_name, url)
    what = cast("Action", action)
    now = time.time()
    if step is not None and what != "fork":
        raise click.UsageError(f"--step is for fork: {action} is about whole calls")
    where = filter_of(statuses, handler, since, min(before or now, now), conditions)

    async def work(database: Database) -> None:
        meta = await database.open(create=False)
        forks = Forks(SystemClock(), meta.partition_count, step_of(step))
        found = 0
        async for page in pages_of(database, narrowed(what, where)):
            found += len(page)
        if dry_run or not found:
            _say(what, found, Steered(), as_json=as_json)
            return
        if not yes and not as_json:
            click.confirm(f"{action} {count_of(found, 'call')}?", abort=True)
        with Progress(
            TextColumn(action), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
            console=console, transient=True, disable=as_json or not sys.stderr.isatty(),
        ) as bar:  # fmt: skip
            task = bar.add_task(action, total=found)
            steered = await steer(
                what, where, reason=reason, calls=database, forks=forks, send=database.enqueue,
                progress=lambda count: bar.update(task, completed=count),
            )  # fmt: skip
        _say(what, found, steered, as_json=as_json)
        if await database.owner() is None:
            click.echo(f"accepted, but {no_node(place)}", err=True)

    asyncio.run(with_database(place, work))


@overload
def step_of(text: str) -> int | str: ...
@overload
def step_of(text: str | None) -> int | str | None: ...
def step_of(text: str | None) -> int | str | None:
    """The number or name of a step."""
    return int(text) if text is not None and text.isdecimal() else text


def _say(action: str, found: int, steered: Steered, *, as_json: bool) -> None:
    told, before = steered.told, steered.forked_before
    if as_json:
        known = {"forked_before": before} if action == "fork" else {}
        print_json({"action": action, "found": found, "told": told} | known)
    elif told or before:
        but = f"; {before:,} had been forked from there before" if before else ""
        click.echo(f"{action} accepted by {count_of(told, 'call')}{but}")
    else:
        click.echo(f"{count_of(found, 'call')} to {action}")
