"""Webhooks that arrive: each is a durable call that is tried again until the other side has taken it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

import msgspec

import fenbu
from fenbu import App, DurableFunction, Retry, RetryLater, TerminalError
from fenbu.contrib import argument

RETRY = Retry(attempts=None, first_seconds=5.0, max_seconds=3600.0, total_seconds=3 * 86_400.0)
"""For three days."""

DEFINITE = frozenset({400, 401, 403, 404, 405, 410, 413, 414, 415, 422})
"""Answers that will be the same the next time."""


class Webhook(msgspec.Struct, frozen=True):
    """What is to be sent where."""

    url: str
    payload: Any
    headers: Mapping[str, str] = {}


class Outbox:
    """Sends webhooks. Started in the transaction of the data that they are about, they go if that commits.

    Each carries the headers of the Standard Webhooks specification (2023): `webhook-id`, by which the other
    side knows one that it has had, `webhook-timestamp`, and, if there is a secret, `webhook-signature`. An
    answer of 2xx is success. 429 and 503 with `Retry-After` are tried again then. Other answers and errors of
    the network are tried again with growing pauses, for three days; those that say that the request is wrong
    are not.

    Args:
        app: Whose nodes send.
        name: Names the task in the database.
        secret: Signs the messages, if given.
        retry: The policy.
        timeout_seconds: For one request.

    Raises:
        UsageError: A value that makes no sense, such as a secret that is a text or empty.

    Example:
        ```python
        outbox = Outbox(app, secret=os.environ["WEBHOOK_SECRET"].encode())

        async with connection.transaction():                      # PostgreSQL
            await connection.execute("INSERT INTO orders …")
            hook = Webhook(customer.url, {"type": "order.created", "id": 7})
            await outbox.send.options(transaction=connection).start(hook)
        ```
    """

    send: DurableFunction[[Webhook], int]
    """The durable call; its result is the HTTP status."""

    def __init__(
        self,
        app: App,
        name: str = "outbox",
        *,
        secret: bytes | None = None,
        retry: Retry = RETRY,
        timeout_seconds: float = 30.0,
    ) -> None:
        if secret is not None:
            argument.secret("Outbox(secret", secret)
        argument.seconds("Outbox(timeout_seconds", timeout_seconds)

        @app.task(name=name, retry=retry)
        def send(hook: Webhook) -> int:
            return _post(hook, secret, timeout_seconds)

        self.send = send


def signature(secret: bytes, id_: str, timestamp: int, body: bytes) -> str:
    """As the specification has it: HMAC-SHA256 over id, timestamp and body."""
    signed = b".".join((id_.encode(), str(timestamp).encode(), body))
    return "v1," + base64.b64encode(hmac.digest(secret, signed, hashlib.sha256)).decode()


def _post(hook: Webhook, secret: bytes | None, timeout_seconds: float) -> int:
    id_, timestamp = fenbu.current_attempt().idempotency_key, int(fenbu.now().timestamp())
    body = msgspec.json.encode(hook.payload)
    headers = {
        "content-type": "application/json",
        **hook.headers,
        "webhook-id": id_,
        "webhook-timestamp": str(timestamp),
    }
    if secret is not None:
        headers["webhook-signature"] = signature(secret, id_, timestamp, body)
    if not hook.url.startswith(("http://", "https://")):
        raise TerminalError(f"{hook.url!r} is no http:// or https:// URL")
    request = urllib.request.Request(hook.url, body, headers, method="POST")  # noqa: S310 - checked above
    try:
        with urllib.request.urlopen(request, timeout=timeout_seconds) as answer:  # noqa: S310
            status: int = answer.status
            return status
    except urllib.error.HTTPError as error:
        error.close()  # It holds the connection.
        if error.code in DEFINITE:
            raise TerminalError(f"{hook.url} answers {error.code} {error.reason}") from None
        after = error.headers.get("retry-after", "")
        if error.code in (429, 503) and after.isdecimal():
            raise RetryLater(f"{hook.url} answers {error.code}", after=int(after)) from None
        raise ConnectionError(f"{hook.url} answers {error.code} {error.reason}") from None
