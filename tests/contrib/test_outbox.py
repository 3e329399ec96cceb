"""Webhooks arrive, signed, and are tried again for as long as that makes sense."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from typing import Any

import pytest

from fenbu import App, Retry, TerminalError, Unavailable, UsageError
from fenbu.contrib import Outbox, Webhook
from fenbu.testing import crash_everywhere, simulate
from tests.fixture.receiver import receiver

SECRET = b"not a secret"


def sent(url: str, **options: Any) -> int:
    app = App("hooks", url="memory:")
    outbox = Outbox(app, **options)

    async def main() -> int:
        async with app, asyncio.timeout(30):
            return await outbox.send(Webhook(url, {"id": 7}, {"x-shop": "berlin"}))

    return asyncio.run(main())


def test_it_arrives_signed_as_the_specification_says():
    with receiver() as server:
        assert sent(server.url, secret=SECRET) == 204
    ((headers, body),) = server.got
    assert json.loads(body) == {"id": 7}
    assert headers["x-shop"] == "berlin"
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    wanted = base64.b64encode(hmac.new(SECRET, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{wanted}"


def test_without_a_secret_it_has_no_signature():
    with receiver() as server:
        sent(server.url)
    assert "webhook-signature" not in server.got[0][0]


def test_what_may_pass_is_tried_again_with_the_same_id():
    answers = (500, {}), (503, {"retry-after": "0"}), (302, {}), (429, {})
    with receiver(*answers) as server:
        assert sent(server.url, retry=Retry(attempts=5, first_seconds=0.01)) == 204
    assert len(server.got) == 5
    assert len({headers["webhook-id"] for headers, _ in server.got}) == 1


def test_what_is_wrong_is_not_tried_again():
    with receiver((422, {})) as server, pytest.raises(TerminalError, match="answers 422"):
        sent(server.url)
    assert len(server.got) == 1


def test_only_the_web_is_reached():
    with pytest.raises((TerminalError, UsageError), match=r"no http:// or https:// URL"):
        sent("file:///etc/passwd")


def test_it_survives_crashes_anywhere() -> None:
    app = App("hooks", url="memory:")
    outbox = Outbox(app, retry=Retry(attempts=3, first_seconds=1))

    @app.workflow(name="order")
    async def order(url: str) -> int:
        return await outbox.send(Webhook(url, {"id": 7}))

    with receiver() as server:
        assert crash_everywhere(app, order, server.url) >= 2
    # It may arrive twice; by its id the other side knows.
    assert len({headers["webhook-id"] for headers, _ in server.got}) == 1
    assert {body for _, body in server.got} == {b'{"id":7}'}


def test_each_arrives_under_faults_and_its_id_is_its_own() -> None:
    app = App("hooks", url="memory:")
    outbox = Outbox(app, retry=Retry(attempts=None, first_seconds=1))

    with receiver() as server:

        async def patient(n: int) -> int:
            while True:
                try:
                    return await outbox.send.options(id=f"h{n}")(Webhook(server.url, n))
                except Unavailable:
                    await asyncio.sleep(1)

        async def scenario() -> None:
            server.got.clear()
            server.answers[:] = [(500, {}), (429, {"retry-after": "3"})]
            assert await asyncio.gather(*map(patient, range(3))) == [204] * 3
            ids = {(body, headers["webhook-id"]) for headers, body in server.got}
            assert {body for body, _ in ids} == {b"0", b"1", b"2"}
            assert len({id_ for _, id_ in ids}) == len(ids) == 3

        simulate(app, scenario, seeds=15)
