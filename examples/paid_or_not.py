"""Whatever comes first: the bank's answer, the customer's change of mind, or the end of the day.

And what operators do when something goes wrong: let a call stand still, and go on from the step that failed
with a result of their own. The tests at the end put a fake in the place of the bank.

    python examples/paid_or_not.py
"""

from __future__ import annotations

import asyncio

import fenbu
import fenbu.testing
from fenbu import App, Retry, RetryLater, SoftTimeout, Status, callback, step, wait_signal

app = App("paid-or-not")

DAY_SECONDS = 86_400.0


async def ask_bank(order: str, token: str) -> None:
    print(f"  the bank is asked about {order}")
    if order == "quick":
        await app.complete(token, "ref-1")


async def ship(order: str) -> str:
    raise ConnectionError(f"no carrier answers about {order}")


@app.workflow
async def purchase(order: str, patience_seconds: float = DAY_SECONDS) -> str:
    payment = await callback(str)
    await step(ask_bank, order, payment.token)
    paid = asyncio.create_task(payment.result())
    cancelled = asyncio.create_task(wait_signal("cancel", str))
    done, others = await asyncio.wait(
        (paid, cancelled), timeout=patience_seconds, return_when=asyncio.FIRST_COMPLETED
    )
    for each in others:
        each.cancel()
    if paid in done:
        return f"{paid.result()}: {await step.options(retry=Retry(attempts=1))(ship, order)}"
    return f"cancelled: {cancelled.result()}" if done else "not paid in time"


looks: list[str] = []


@app.task(retry=Retry(attempts=3, total_seconds=60), soft_timeout=0.2, attempt_timeout=5)
async def invoice(order: str) -> str:
    """The service makes it in its own time, and takes long to send it: then the short form has to do."""
    looks.append(order)
    if len(looks) < 3:
        raise RetryLater("it is being made", after=0.05)  # This spends no attempt.
    try:
        await asyncio.sleep(3600)
    except SoftTimeout:
        return f"short invoice of {order}, at attempt {fenbu.current_attempt().number}"
    return "long invoice"


async def until(handle: fenbu.Handle[str], status: Status) -> None:
    while await handle.status() is not status:  # noqa: ASYNC110 - an operator would look, too
        await asyncio.sleep(0.02)


async def main() -> None:
    async with app:
        slow = await purchase.start("slow", 0.1)
        print("slow:", await slow.result())

        # An operator lets it stand still. The customer changes his mind meanwhile, and is heard afterwards.
        moody = await purchase.start("moody")
        await moody.pause("the bank is closed")
        await until(moody, Status.PAUSED)
        await moody.signal("cancel", "too dear")
        await moody.resume()
        print("moody:", await moody.result())

        # No carrier answers: somebody ships it by hand, and the call goes on from there, without the bank.
        quick = await purchase.start("quick")
        await until(quick, Status.FAILED)
        again = await quick.fork("ship", results={"ship": "shipped by hand"})
        print("quick:", await again.result())

        print("invoice:", await invoice("quick"))


# In a test, for example with pytest:


async def fake_bank(order: str, token: str) -> None:
    await app.complete(token, f"fake payment of {order}")


async def fake_carrier(order: str) -> str:
    return f"{order} is on its way"


def test_a_paid_order_is_shipped() -> None:
    with app.override(ask_bank, fake_bank), app.override(ship, fake_carrier):
        said = fenbu.testing.run(app, lambda: purchase("tea"))
    assert said == "fake payment of tea: tea is on its way"


def test_nobody_waits_longer_than_a_day() -> None:
    async def silence(order: str, token: str) -> None:
        """The bank says nothing; the clock of the test jumps."""

    with app.override(ask_bank, silence):
        assert fenbu.testing.run(app, lambda: purchase("tea")) == "not paid in time"


if __name__ == "__main__":
    asyncio.run(main())
    test_a_paid_order_is_shipped()
    test_nobody_waits_longer_than_a_day()
    print("tested")
