"""A payment by a bank that answers later, with a webhook: a callback's token travels there and back.

The bank is a coroutine of this file. A real one would send the token back in an HTTP request, whose handler
calls `app.complete` or `app.fail` on a client: `async with app.client(): …`.

    python examples/payment_webhook.py
"""

from __future__ import annotations

import asyncio

from fenbu import App, TerminalError, callback, step

app = App("payments")
requests: asyncio.Queue[tuple[int, str]] = asyncio.Queue()


class CardRefused(TerminalError):
    """The bank does not pay."""


async def ask_bank(cents: int, token: str) -> None:
    """Tell the bank where to answer. The token stays the same if this runs again after a crash."""
    await requests.put((cents, token))


@app.workflow
async def pay(cents: int, patience_seconds: float = 86400) -> str:
    payment = await callback(str)
    await step(ask_bank, cents, payment.token)
    try:
        return f"paid: {await payment.result(timeout=patience_seconds)}"
    except CardRefused as error:
        return f"not paid: {error}"
    except TimeoutError:
        return "not paid: the bank does not answer"


async def bank() -> None:
    while True:
        cents, token = await requests.get()
        if cents > 10_000:
            await app.fail(token, CardRefused(f"{cents} is too much"))
        elif cents != 13:
            await app.complete(token, f"receipt over {cents}")


async def main() -> None:
    async with app:
        answers = asyncio.create_task(bank())
        for cents, patience in ((500, 60), (50_000, 60), (13, 0.2)):
            print(await pay(cents, patience))
        answers.cancel()


if __name__ == "__main__":
    asyncio.run(main())
