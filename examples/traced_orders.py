"""An order as one trace, from the request of a customer to the receipt that is sent at the second attempt.

What it prints is a tree of spans. In a service they go to a collector instead: set up OpenTelemetry as its
documentation says, and register `Tracing()`.

    pip install "fenbu[otel]"
    python examples/traced_orders.py
"""

from __future__ import annotations

import asyncio

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from fenbu import App, Entity, Retry, current_attempt, step
from fenbu.integrations.opentelemetry import Tracing

spans = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(spans))

app = App("shop")
app.middleware(Tracing(tracer_provider=provider))


@app.entity
class Stock(Entity):
    units: int = 10

    async def reserve(self, units: int) -> int:
        self.units -= units
        return self.units


async def charge(cents: int) -> str:
    return f"payment of {cents}"


@app.task(retry=Retry(attempts=3, first_seconds=0.01))
async def send_receipt(payment: str) -> None:
    if current_attempt().number == 1:
        raise ConnectionError(f"no receipt for the {payment}")


@app.workflow
async def checkout(sku: str, cents: int) -> str:
    await Stock(sku).reserve(1)
    payment = await step(charge, cents)
    await send_receipt(payment)
    return payment


def show(found: list[ReadableSpan], parent: int | None = None, depth: int = 0) -> None:
    for each in sorted(found, key=lambda span: span.start_time or 0):
        if (None if each.parent is None else each.parent.span_id) == parent:
            attempt = (each.attributes or {}).get("fenbu.attempt", 1)
            error = f": {each.status.description}" if each.status.description else ""
            print(
                f"{'  ' * depth}{each.name}{f' (attempt {attempt})' if attempt != 1 else ''}{error}"
            )
            if each.context is not None:
                show(found, each.context.span_id, depth + 1)


async def main() -> None:
    tracer = provider.get_tracer("web")
    async with app:
        with tracer.start_as_current_span("POST /orders"):
            print(await checkout("tea", 500))
    show(list(spans.get_finished_spans()))


if __name__ == "__main__":
    asyncio.run(main())
