"""What a PostgreSQL URL says: the driver's part, and our own parameters, which all begin with `fenbu_`.

| parameter | means | default |
|---|---|---|
| `fenbu_schema` | the schema of the tables | `fenbu` |
| `fenbu_direct` | another URL, percent-encoded, that reaches the server without a proxy | none |
| `fenbu_notify` | `off`: hear of changes by asking for them only | `on` |

With `fenbu_direct` the URL itself may lead through a proxy that pools transactions.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

from msgspec import Struct

from fenbu.errors import UsageError

SCHEMES: Final = frozenset({"postgresql", "postgres"})

SCHEMA: Final = "fenbu"

NAME_BYTES_MAX: Final = 63
"""Of any name in PostgreSQL; it would cut longer ones without a word."""

_PARAMETERS: Final = frozenset({"fenbu_schema", "fenbu_direct", "fenbu_notify"})


class Target(Struct, frozen=True):
    """Where a database is and how to use it."""

    url: str
    """For the driver, of reads and of what clients send."""
    direct: str | None
    """For the driver, of sessions; None if `url` serves for these too."""
    schema: str
    notify: bool
    place: str
    """Server, database and schema, in words, without a password."""
    secrets: tuple[str, ...]
    """What must appear in no message."""

    @property
    def session_url(self) -> str:
        """Where a session lasts."""
        return self.direct or self.url

    @property
    def pooled(self) -> bool:
        """Each transaction of `url` may meet another session."""
        return self.direct is not None


def target_of(url: str) -> Target:
    """Read a URL.

    Raises:
        UsageError: A parameter of ours is unknown or has no sense.
    """
    found: dict[str, str] = {}
    plain = _without_ours(url, found)
    unknown = ", ".join(sorted(found.keys() - _PARAMETERS))
    if unknown:
        raise UsageError(
            f"a PostgreSQL URL has no parameter {unknown}: {', '.join(sorted(_PARAMETERS))} are known"
        )
    schema = found.get("fenbu_schema", SCHEMA)
    if not schema.isprintable() or not 0 < len(schema.encode()) <= NAME_BYTES_MAX:
        raise UsageError(f"fenbu_schema={schema!r} is no name: it has 1 to 63 printable characters")
    notify = found.get("fenbu_notify", "on")
    if notify not in {"on", "off"}:
        raise UsageError(f"fenbu_notify={notify!r} means nothing: say on or off")
    direct = found.get("fenbu_direct")
    if direct is not None:
        inner: dict[str, str] = {}
        direct = _without_ours(direct, inner)
        if urlsplit(direct).scheme not in SCHEMES or inner:
            raise UsageError(
                "fenbu_direct has to be a percent-encoded postgresql:// URL without parameters of fenbu"
            )
    parts = urlsplit(plain)
    server = parts.netloc.rpartition("@")[2] or "the local server"
    database = unquote(parts.path.strip("/")) or "the user's database"
    return Target(
        url=plain,
        direct=direct,
        schema=schema,
        notify=notify == "on",
        place=f"PostgreSQL at {server}, database {database}, schema {schema}",
        secrets=tuple({each for one in (plain, direct) if one for each in _secrets(one)}),
    )


def _without_ours(url: str, found: dict[str, str]) -> str:
    parts = urlsplit(url)
    rest: list[tuple[str, str]] = []
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name.startswith("fenbu_"):
            found[name] = value
        else:
            rest.append((name, value))
    return urlunsplit(parts._replace(query=urlencode(rest)))


def _secrets(url: str) -> list[str]:
    parts = urlsplit(url)
    quoted = parts.netloc.rpartition("@")[0].partition(":")[2]
    named = [value for name, value in parse_qsl(parts.query) if "password" in name]
    return [each for each in (quoted, unquote(quoted), *named) if each]
