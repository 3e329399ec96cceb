"""Tracing with OpenTelemetry: spans of calls, steps, queries and updates, one trace through all processes.

Needs `pip install "fenbu[otel]"`. The trace context travels in the context of calls, by the propagators that
are set for the process: W3C `traceparent` by default.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Final

from opentelemetry import context, propagate, trace
from opentelemetry.trace import Span, SpanKind, StatusCode
from opentelemetry.util.types import AttributeValue

from fenbu import Middleware, Running, Starting

SYSTEM: Final = "fenbu"

BUILT_IN: Final = "fenbu."
"""Handlers that fenbu brings along, as of topics, have no spans: the trace goes through them."""


class Tracing(Middleware):
    """Makes spans of what an app starts and runs: `app.middleware(Tracing())`.

    Register it in each process that starts or runs calls. On the caller's side there is a span `start NAME`,
    until the call is durable or, if it is awaited, until its result; or `query NAME` and `update NAME`. What
    runs has a span `run NAME`, or `step NAME`: one for each attempt of a task or step. The code of a workflow
    or operation has one from its beginning to its end, or until it leaves memory (`fenbu.left_memory`); there
    is none for code that is replayed. Spans of steps, and of what the code starts, are children of the code's
    own; behind a replay they are children of the one that started the call. Errors are recorded.

    Args:
        tracer_provider: Whose spans they are; default: the process's.

    Example:
        ```python
        from fenbu.integrations.opentelemetry import Tracing

        app.middleware(Tracing())
        ```
    """

    def __init__(self, *, tracer_provider: trace.TracerProvider | None = None) -> None:
        self._tracer = trace.get_tracer("fenbu", tracer_provider=tracer_provider)
        self._code: dict[str, Span] = {}
        """Of the code that is in memory, by the call's id."""

    @contextmanager
    def start(self, call: Starting) -> Generator[None]:
        """See `Middleware.start`."""
        if call.name.startswith(BUILT_IN):
            propagate.inject(call.context)
            yield
            return
        attributes: dict[str, AttributeValue] = {}
        if call.kind == "call":
            kind, verb = SpanKind.PRODUCER, "start"
            attributes |= _messaging("send", verb, call.name)
            if call.id is not None:
                attributes |= {"messaging.message.id": call.id, "fenbu.call.id": call.id}
        else:
            kind, verb = SpanKind.CLIENT, call.kind
            attributes |= {**_rpc(call.name, call.kind), "fenbu.call.id": call.id or ""}
        if call.key is not None:
            attributes["fenbu.entity.key"] = call.key
        # A body runs in the span of its own; elsewhere a caller's own span, or none, is the parent.
        with self._span(f"{verb} {call.name}", kind, attributes, None):
            propagate.inject(call.context)
            yield

    @contextmanager
    def run(self, what: Running) -> Generator[None]:
        """See `Middleware.run`."""
        parent = propagate.extract(what.context)
        if what.is_replay or what.name.startswith(BUILT_IN):
            # What it starts from here on belongs to the trace all the same.
            token = context.attach(parent)
            try:
                yield
            finally:
                context.detach(token)
            return
        attributes: dict[str, AttributeValue] = {"fenbu.call.id": what.id}
        if what.key is not None:
            attributes["fenbu.entity.key"] = what.key
        match what.kind:
            case "step":
                kind, verb = SpanKind.INTERNAL, "step"
                attributes |= {"code.function.name": what.name, "fenbu.attempt": what.attempt}
                if what.id in self._code:
                    parent = trace.set_span_in_context(self._code[what.id], parent)
            case "query" | "update":
                kind, verb = SpanKind.SERVER, "serve"
                attributes |= _rpc(what.name, what.kind)
            case _:
                kind, verb = SpanKind.CONSUMER, "run"
                attributes |= _messaging("process", verb, what.name)
                attributes |= {"messaging.message.id": what.id, "fenbu.kind": what.kind}
                if what.kind == "task":
                    attributes["fenbu.attempt"] = what.attempt
        with self._span(f"{verb} {what.name}", kind, attributes, parent) as span:
            if what.kind not in {"workflow", "operation"}:
                yield
                return
            self._code[what.id] = span
            try:
                yield
            finally:
                if self._code.get(what.id) is span:
                    del self._code[what.id]

    @contextmanager
    def _span(
        self,
        name: str,
        kind: SpanKind,
        attributes: Mapping[str, AttributeValue],
        parent: context.Context | None,
    ) -> Generator[Span]:
        with self._tracer.start_as_current_span(
            name, parent, kind, attributes, record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield span
            except GeneratorExit:
                span.set_attributes({"fenbu.left_memory": True})
                raise
            except asyncio.CancelledError:
                span.set_attributes({"fenbu.cancelled": True})
                raise
            except Exception as error:
                span.record_exception(error)
                span.set_attribute("error.type", type(error).__qualname__)
                span.set_status(StatusCode.ERROR, f"{type(error).__name__}: {error}")
                raise


def _messaging(type_: str, name: str, destination: str) -> dict[str, AttributeValue]:
    """The semantic conventions for messaging."""
    return {
        "messaging.system": SYSTEM,
        "messaging.operation.type": type_,
        "messaging.operation.name": name,
        "messaging.destination.name": destination,
    }


def _rpc(method: str, kind: str) -> dict[str, AttributeValue]:
    """The semantic conventions for remote procedure calls."""
    return {"rpc.system": SYSTEM, "rpc.method": method, "fenbu.kind": kind}
