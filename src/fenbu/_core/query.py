"""A query: a workflow's code is run through its journal, and one of its functions then reads its variables.

Wherever the code is registered, without the node that has the call, and for as long as the call is kept.
Nothing is changed or recorded: what is run here is thrown away.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fenbu._core.activation import Activation, answers_of
from fenbu._core.answer import arguments
from fenbu._core.handler import Registry
from fenbu._core.middleware import Running, around, replayed
from fenbu._core.model import FINISHED, Kind, Loaded, Payload
from fenbu._core.rehearsal import has_begun
from fenbu._core.serving import look
from fenbu._core.update import not_for
from fenbu.errors import UsageError


def answer(
    registry: Registry,
    loaded: Loaded,
    name: str,
    args: Payload,
    context: Mapping[str, str] | None = None,
) -> Payload | None:
    """What a query of a call returns; None if the code of the call has not begun.

    `context` is what the query carries.

    Raises:
        UsageError: The call is no workflow, has no such query, or its code is not registered here.
        NonDeterminismError: The code that is registered here does not fit the journal.
        Exception: What the query raises.
    """
    call = loaded.invocation
    spec = registry.get(call.handler, call.version)
    if spec is None:
        raise UsageError(
            f"a query runs the code of its call where it is asked, and {call.handler}, version "
            f"{call.version}, is not registered here"
        )
    if spec.kind is not Kind.WORKFLOW:
        raise not_for(spec.kind, call.id)
    if not has_begun(loaded):
        if call.status in FINISHED:
            raise UsageError(f"{call.handler} {call.id} ended before its code began")
        return None
    middleware = registry.middleware
    coroutine = replayed(middleware, call, spec.kind, spec.coroutine(call.args))
    activation = Activation(call, coroutine, call.started_at or call.created_at, registry)
    try:
        activation.replay(loaded.entries)
        query = answers_of(activation).query(name, call.handler)
        positional, named = arguments(registry.codec, query.signature, args)
        function = query.function
        if middleware:

            def function(*args: Any, **kwargs: Any) -> Any:
                what = Running(kind="query", name=name, id=call.id, context=context or {})
                with around(middleware, what):
                    return query.function(*args, **kwargs)

        return query.signature.result.encode(look(activation, function, positional, named))
    finally:
        activation.leave()
