"""Code that is run where somebody wants to know something of it beforehand, and then thrown away.

As for a query, nothing of it is acted upon or recorded. What cannot be found out so is left to whoever runs
the code in earnest.
"""

from __future__ import annotations

from collections.abc import Mapping

from fenbu._core.activation import Activation, answers_of
from fenbu._core.answer import arguments
from fenbu._core.command import RunStep, StartCall
from fenbu._core.handler import HandlerSpec, Registry
from fenbu._core.loop import EndlessLoopError
from fenbu._core.middleware import replayed
from fenbu._core.model import Invocation, Loaded, Payload
from fenbu._core.rehearsal import has_begun
from fenbu.errors import EncodingError, NonDeterminismError, UsageError


def refusal(
    registry: Registry, spec: HandlerSpec, call: Invocation, update: Invocation
) -> UsageError | None:
    """Why a workflow that begins would not take an update: no handler for it, or not these arguments.

    None if it would, if its validator has to say, or if its code ends before it waits.
    """
    activation = Activation(call, spec.coroutine(call.args), call.created_at, registry)
    try:
        activation.begin()
        if not activation.main.done():
            handler = answers_of(activation).update(update.key or "", spec.name)
            arguments(registry.codec, handler.signature, update.args)
    except EndlessLoopError:
        return None
    except UsageError as error:
        return error
    finally:
        activation.leave()
    return None


def check_results(
    registry: Registry, spec: HandlerSpec, loaded: Loaded, results: Mapping[int, Payload]
) -> None:
    """Whether other results, by command, can be those of the steps and calls of a workflow.

    As far as its code of today comes to ask for them in its history.

    Raises:
        EncodingError: One cannot; it names the step or call.
    """
    if not has_begun(loaded):
        return
    call, asked = loaded.invocation, dict[int, RunStep | StartCall]()

    def look(position: int) -> None:
        del position
        for number in results:
            found = activation.waiting.get(number)
            if found is not None and isinstance(found[1], RunStep | StartCall):
                asked[number] = found[1]

    try:
        coroutine = replayed(registry.middleware, call, spec.kind, spec.coroutine(call.args))
    except EncodingError:
        return  # These are not the arguments of today's code.
    activation = Activation(call, coroutine, call.started_at or call.created_at, registry)
    try:
        activation.replay(loaded.entries, look)
        look(0)
    except (NonDeterminismError, EndlessLoopError):
        pass  # What it had asked for by then is known.
    finally:
        activation.leave()
    for number, command in sorted(asked.items()):
        _check(registry, number, command, results[number])


def _check(registry: Registry, number: int, command: RunStep | StartCall, result: Payload) -> None:
    if isinstance(command, RunStep):
        kind, codec = "step", command.work.result
    else:
        spec = registry.get(command.name, command.version)
        if spec is None:
            return
        kind, codec = "call", spec.signature.result
    try:
        codec.decode(result)
    except EncodingError as error:
        raise EncodingError(
            f"the result that is given for {kind} {command.name} (command {number}) is none of it: {error}"
        ) from None
