"""How what code asks for leaves its call: commands become messages to other calls, or bodies to run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fenbu._core import fork, update
from fenbu._core.command import (
    AwaitCall,
    CancelCall,
    Command,
    RunStep,
    SendSignal,
    SendUpdate,
    StartCall,
)
from fenbu._core.effect import RunBody
from fenbu._core.message import Call, Cancel, Message, Signal, Subscribe, Update
from fenbu._core.model import Address, Heartbeat, Invocation

if TYPE_CHECKING:
    from fenbu._core.activation import Activation
    from fenbu._core.engine import Engine
    from fenbu._core.handler import HandlerSpec


def message_of(
    engine: Engine, activation: Activation, number: int, command: Command, now: float
) -> Message:
    """The message that carries out a command addressed to another call."""
    invocation = activation.invocation
    here = Address(invocation.partition, invocation.id, number, invocation.attempt)
    match command:
        case StartCall():
            return _call(engine, activation, here, command, now)
        case AwaitCall():
            return Subscribe(command.partition, command.name, here)
        case SendSignal():
            return Signal(
                command.partition, command.id, command.name, command.value, command.failure
            )
        case SendUpdate():
            id_ = command.update_id or fork.child_id(activation, number)
            context = invocation.context if command.context is None else command.context or None
            call = update.call_of(
                command.id, id_, partition=command.partition, name=command.name, args=command.args,
                now=now, parent=here, context=context,
            )  # fmt: skip
            return Update(command.partition, command.id, call, fresh=command.update_id is None)
        case CancelCall():
            return Cancel(command.partition, command.name, command.reason, command.at_once)
        case _:
            raise AssertionError(command)


def _call(
    engine: Engine, activation: Activation, here: Address, command: StartCall, now: float
) -> Call:
    id_ = command.id or fork.child_id(activation, here.command)
    context = activation.invocation.context
    if command.context is not None:
        context = command.context or None
    invocation = Invocation(
        id=id_,
        partition=engine.place(command.entity, command.key, id_),
        handler=command.name,
        version=command.version,
        entity=command.entity,
        key=command.key,
        args=command.args,
        created_at=now,
        parent=here if command.wait else None,
        chain=activation.chain if command.wait else (),
        deadline_at=engine.deadline(command.name, command.version, command.timeout_seconds, now),
        wake_at=now + command.delay_seconds if command.delay_seconds > 0 else None,
        attributes=command.attributes,
        context=context,
    )
    return Call(
        invocation, fresh=command.id is None, waited=command.wait, if_exists=command.if_exists
    )


def task_body(spec: HandlerSpec, invocation: Invocation) -> RunBody:
    """The next attempt of a task.

    Raises:
        EncodingError: The arguments do not fit the function as it is now.
    """
    args, kwargs = spec.signature.decode(invocation.args)
    return RunBody(
        invocation.partition,
        invocation.id,
        0,
        invocation.attempt + 1,
        invocation.id,
        spec.work,
        args,
        kwargs,
        invocation.chain,
        _last(invocation, 0) if invocation.heartbeats else None,
        invocation.context,
    )


def _last(invocation: Invocation, command: int) -> Heartbeat | None:
    """What an earlier attempt of this body has said last."""
    for each in invocation.heartbeats:
        if each.command == command:
            return each
    return None


def step_body(activation: Activation, number: int, command: RunStep) -> RunBody:
    """The next attempt of a step."""
    invocation = activation.invocation
    return RunBody(
        invocation.partition,
        invocation.id,
        number,
        activation.attempts.get(number, 0) + 1,
        activation.run,
        command.work,
        command.args,
        command.kwargs,
        activation.chain,
        _last(invocation, number) if invocation.heartbeats else None,
        invocation.context,
    )
