"""A request that waits for a person, and is escalated when nobody answers in time.

The waiting is a signal with a timeout. It may take days: meanwhile the workflow is a row in the database,
and it survives any number of restarts.

    python examples/human_approval.py
"""

from __future__ import annotations

import asyncio

from fenbu import App, step, wait_signal

app = App("approval")


async def mail(to: str, text: str) -> None:
    print(f"  mail to {to}: {text}")


@app.workflow
async def expense(employee: str, amount: int, patience_seconds: float = 3 * 86400) -> str:
    for boss in ("team lead", "director"):
        await step(mail, boss, f"{employee} wants {amount}. Approve?")
        try:
            async with asyncio.timeout(patience_seconds):
                approved = await wait_signal("decision", bool)
        except TimeoutError:
            continue
        answer = "approved" if approved else "refused"
        await step(mail, employee, f"{answer} by the {boss}")
        return answer
    await step(mail, employee, "nobody answered")
    return "expired"


async def main() -> None:
    async with app:
        quick = await expense.start("ann", 120)
        await quick.signal("decision", value=True)
        slow = await expense.start("bob", 9000, 0.2)
        print("ann:", await quick.result())
        print("bob:", await slow.result())


if __name__ == "__main__":
    asyncio.run(main())
