"""`fenbu nodes`: who runs on a database, and which partitions each one owns."""

from __future__ import annotations

import asyncio
import platform
import sys

import click
import msgspec
from rich.markup import escape
from rich.table import Table

from fenbu._cli.present import console, instant, print_json
from fenbu._cli.target import app_option, find_url, json_option, no_node, url_option, with_database
from fenbu._storage.open import Database
from fenbu._storage.protocol import NodeInfo


@click.command(epilog="\b\nExample:\n  fenbu nodes --url postgresql://shop@localhost/shop")
@app_option
@url_option
@click.option(
    "--here", is_flag=True,
    help="Only those of this host; exit status 1 if there are none, for health checks.",
)  # fmt: skip
@json_option
def nodes(app_name: str | None, url: str | None, *, here: bool, as_json: bool) -> None:
    """List the nodes that run now, oldest first."""
    place = find_url(app_name, url)

    async def work(database: Database) -> list[NodeInfo]:
        return await database.nodes()

    found = asyncio.run(with_database(place, work))
    if here:
        found = [each for each in found if each.host == platform.node()]
    if as_json:
        print_json([msgspec.to_builtins(each) for each in found])
    elif found:
        _print(found)
    else:
        click.echo(no_node(place))
    if here and not found:
        sys.exit(1)


def _print(found: list[NodeInfo]) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("ID", "HOST", "PROCESS", "RUNS SINCE", "PARTITIONS", "LOAD", ""):
        table.add_column(name)
    for each in found:
        table.add_row(
            str(each.id), escape(each.host), str(each.pid), instant(each.started_at),
            _partitions(each), _load(each), "leaving" if each.leaving else "",
        )  # fmt: skip
    console.print(table)


def _load(node: NodeInfo) -> str:
    return f"{node.load:,} waiting" if node.load > 0 else f"{-node.load:,} free"


def _partitions(node: NodeInfo) -> str:
    """How many, and which: `64: 0-31, 70, 96-126`."""
    ranges: list[tuple[int, int]] = []
    for number in node.partitions:
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1] = (ranges[-1][0], number)
        else:
            ranges.append((number, number))
    words = [f"{first}-{last}" if last > first else f"{first}" for first, last in ranges[:6]]
    more = ", …" if len(ranges) > len(words) else ""
    return f"{len(node.partitions)}: {', '.join(words)}{more}" if words else "0"
