"""Webhooks arrive, signed, and are tried again for as long as that makes sense."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

from fenbu import App, Retry, TerminalError, UsageError
from fenbu.contrib import Outbox, Webhook

SECRET = b"not a secret"


class Receiver(ThreadingHTTPServer):
    """Answers as it was told, then with 204, and keeps what came."""

    def __init__(self, answers: list[tuple[int, dict[str, str]]]) -> None:
        super().__init__(("127.0.0.1", 0), _Receive)
        self.answers = answers
        self.got: list[tuple[dict[str, str], bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hook"


class _Receive(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.got.append(({k.lower(): v for k, v in self.headers.items()}, body))
        status, headers = self.server.answers.pop(0) if self.server.answers else (204, {})
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def receiver(*answers: tuple[int, dict[str, str]]) -> Iterator[Receiver]:
    server = Receiver(list(answers))
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


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
