"""An order moves to another database in the middle of its life, with its parcels and their mail.

`export_call` writes a call with all that it has started or waits for, as they are in one moment, and
`import_calls` brings them into another database. What was recorded does not run again. Where they come from
they would go on as well, so they are terminated there.
"""

import asyncio
from collections.abc import Awaitable, Callable

from fenbu import App, Handle, step, wait_signal

packed: asyncio.Queue[str] = asyncio.Queue()


async def pack(parcel: str) -> str:
    print("packing", parcel)
    await packed.put(parcel)
    return f"{parcel} packed"


def shop_on(url: str) -> tuple[App, Callable[[str], Awaitable[Handle[list[str]]]]]:
    app = App("shop", url=url)

    @app.workflow
    async def parcel(name: str) -> str:
        return f"{await step(pack, name)}, {await wait_signal('carrier', str)}"

    @app.workflow
    async def order(name: str) -> list[str]:
        async with asyncio.TaskGroup() as group:
            calls = [parcel.options(id=f"{name}-{each}") for each in ("tea", "cup")]
            parcels = [group.create_task(calls[0]("tea")), group.create_task(calls[1]("cup"))]
        return [each.result() for each in parcels]

    return app, lambda name: order.options(id=name).start(name)


async def main() -> None:
    old, start = shop_on("sqlite:///old.db")
    async with old:
        await start("order-1")
        await packed.get()
        await packed.get()
    async with old.client():  # no node runs, so nobody reads the signal
        await old.handle("order-1-tea").signal("carrier", "by bike")
        history = await old.export_call("order-1")
        await old.handle("order-1").terminate("it has moved")

    new, _ = shop_on("sqlite:///new.db")
    async with new:
        moved = await new.import_calls(history, go_on=True)
        print("moved:", ", ".join(sorted(moved)))
        await new.handle("order-1-cup").signal("carrier", "by train")
        print("order-1:", await new.handle("order-1").result())


if __name__ == "__main__":
    asyncio.run(main())
