"""Orders are found by customer and total, while nobody who reads the database sees a card number.

`set_attributes` says how far an order is; `app.list_calls` finds it by that, from any process. Payloads are
encrypted with a key from the environment; attributes are not, so nothing secret belongs into them.
"""

import asyncio
import os
from pathlib import Path

from fenbu import App, Compression, Encryption, set_attributes, step

keys = os.environ.get("SHOP_KEYS", Encryption.new_key()).split()
app = App("orders", url="sqlite:///orders.db", hook=[Compression(), Encryption(keys)])


async def price(units: int) -> float:
    return units * 250.0


async def charge(card: str, total: float) -> str:
    return f"{total} from {card}"


@app.workflow
async def order(card: str, units: int) -> str:
    total = await step(price, units)
    set_attributes(stage="priced", total=total)
    receipt = await step(charge, card, total)
    set_attributes(stage="charged", to_check=total > 500)
    return receipt


async def main() -> None:
    async with app:
        for number, customer in enumerate((7, 8, 9, 7)):
            start = order.options(id=f"order-{number + 1}", attributes={"customer": customer})
            await start("4111-1111", number + 1 if number < 3 else 1)

        page = await app.list_calls(where=[("to_check", "=", True), ("total", "<", 1000)])
        for call in page.calls:
            print("to look at:", call.id, call.attributes["total"])

        page = await app.list_calls(handler="order", where=[("customer", "=", 7)])
        print("of customer 7:", ", ".join(call.id for call in page.calls))


if __name__ == "__main__":
    asyncio.run(main())
    stored = b"".join(path.read_bytes() for path in Path().glob("orders.db*"))
    print("the database has seen", "a" if b"4111-1111" in stored else "no", "card")
