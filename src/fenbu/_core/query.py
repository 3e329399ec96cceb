"""A query: a workflow's code is run through its journal, and one of its functions then reads its variables.

Wherever the code is registered, without the node that has the call, and for as long as the call is kept.
Nothing is changed or recorded: what is run here is thrown away.
"""

from __future__ import annotations

from fenbu._core.activation import Activation, answers_of
from fenbu._core.answer import arguments
from fenbu._core.handler import Registry
from fenbu._core.model import FINISHED, Kind, Loaded, Payload
from fenbu._core.rehearsal import has_begun
from fenbu._core.serving import look
from fenbu._core.update import not_for
from fenbu.errors import UsageError


def answer(registry: Registry, loaded: Loaded, name: str, args: Payload) -> Payload | None:
    """What a query of a call returns; None if the code of the call has not begun.

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
    activation = Activation(
        call, spec.coroutine(call.args), call.started_at or call.created_at, registry
    )
    try:
        activation.replay(loaded.entries)
        query = answers_of(activation).query(name, call.handler)
        positional, named = arguments(registry.codec, query.signature, args)
        return query.signature.result.encode(look(activation, query.function, positional, named))
    finally:
        activation.leave()
