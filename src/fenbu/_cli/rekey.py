"""`fenbu rekey`: rewrite what is stored under an old key."""

from __future__ import annotations

import asyncio

import click
import msgspec

from fenbu._api.hook import encryption_of
from fenbu._cli.present import count_of, print_json
from fenbu._cli.target import app_option, json_option, load_app, url_option, with_database
from fenbu._storage.open import Database
from fenbu._storage.rekey import Rekeyed
from fenbu._storage.rekey import rekey as rewrite_all
from fenbu.errors import FenbuError, UsageError


@click.command(epilog="\b\nExample:\n  fenbu rekey -a shop.py")
@app_option
@url_option
@json_option
def rekey(app_name: str | None, url: str | None, *, as_json: bool) -> None:
    """Rewrite what is not under the first key of the app's Encryption, and what is not encrypted yet.

    Nodes may run meanwhile, if all of them have that key first. When it says that nothing is left, the old
    keys can go from the list. Exit status 1 if something is left.
    """
    if app_name is None:
        raise UsageError("which keys? Pass --app shop.py, or set FENBU_APP")
    app = load_app(app_name, url)
    hook, encryption = app.registry.hook, encryption_of(app.registry.hook)
    if hook is None or encryption is None:
        raise UsageError(f"{app_name} has no Encryption among its hooks: there is no key to change")

    def progress(done: Rekeyed) -> None:
        if not as_json:
            seen = (
                f"{done.calls:,} calls, {done.entities:,} entities, {done.fields:,} lazy fields and "
                f"{done.chunks:,} chunks seen"
            )
            click.echo(f"\r{seen}, {done.rewritten:,} rows rewritten", nl=False, err=True)

    async def work(database: Database) -> Rekeyed:
        return await rewrite_all(database, hook, encryption.is_current, progress)

    done = asyncio.run(with_database(str(app.url), work))
    if as_json:
        print_json(msgspec.to_builtins(done) | {"key": encryption.key_ids[0]})
    else:
        click.echo(err=True)
        click.echo(f"{count_of(done.rewritten, 'row')} rewritten with key {encryption.key_ids[0]}")
    left = [
        (done.unreadable, "rows under keys that this app does not have"),
        (done.changed, "rows that changed meanwhile"),
        (done.waiting, "messages in the inbox"),
    ]
    words = ", ".join(f"{count:,} {what}" for count, what in left if count)
    if words:
        raise FenbuError(f"left: {words}; run it again when nothing of these is left")
