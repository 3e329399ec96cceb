"""Orders whose shipping needs a rate, a printer that takes one at a time, and a message to the shop.

All three are `fenbu.contrib`: `Cache` asks the carrier once, however many orders ask; `Mutex` lets one
order at a time print; `Outbox` sends webhooks, signed, until the other side has taken them. The server at
the end of this file is that other side, and fails at first.

    python examples/ready_to_use.py
"""

from __future__ import annotations

import asyncio
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from fenbu import App, Retry, step
from fenbu.contrib import Cache, Mutex, Outbox, Webhook

app = App("shipping")


async def fetch_rate(country: str) -> int:
    print(f"asking the carrier for the rate to {country}")
    return {"NO": 1200, "JP": 2900}[country]


rates = Cache(app, "rates", fetch_rate, ttl_seconds=3600)
printer = Mutex(app, "printer", lease_seconds=None)
outbox = Outbox(app, secret=b"of an example", retry=Retry(attempts=9, first_seconds=0.05))


class Printer:
    busy = 0
    most = 0


async def print_label(order: int) -> None:
    Printer.busy += 1
    Printer.most = max(Printer.most, Printer.busy)
    await asyncio.sleep(0.02)
    print(f"label of order {order}")
    Printer.busy -= 1


@app.workflow
async def ship(order: int, country: str, shop: str) -> int:
    rate = await rates.get(country)
    async with printer.hold():
        await step(print_label, order)
    await outbox.send(Webhook(shop, {"type": "order.shipped", "id": order, "rate": rate}))
    return rate


class Shop(BaseHTTPRequestHandler):
    """Stands for a customer's server: it is down for the first message, and knows one that it has had."""

    seen: dict[str, dict[str, int]] = {}
    refused = 0

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if not Shop.refused:
            Shop.refused += 1
            self.send_error(500)
            return
        Shop.seen[self.headers["webhook-id"]] = json.loads(body)
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


async def main(shop: str) -> None:
    async with app:
        countries = ["NO", "JP", "NO", "NO"]
        handles = [await ship.start(n, country, shop) for n, country in enumerate(countries)]
        found = [await each.result() for each in handles]
    print(f"rates {found}, at most {Printer.most} at the printer")
    told = sorted(each["id"] for each in Shop.seen.values())
    print(f"the shop knows of {told}, having failed {Shop.refused} time")


if __name__ == "__main__":
    with ThreadingHTTPServer(("127.0.0.1", 0), Shop) as server:
        thread = Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            asyncio.run(main(f"http://127.0.0.1:{server.server_port}/hook"))
        finally:
            server.shutdown()
            thread.join()
