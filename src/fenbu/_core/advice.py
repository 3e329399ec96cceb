"""What people are told when the code of a call cannot go on, or soon cannot: what happened, what to do."""

from __future__ import annotations

from fenbu._core import journal, limit, retry
from fenbu._core.activation import Activation
from fenbu._core.loop import EndlessLoopError
from fenbu._core.model import Invocation
from fenbu.errors import HistoryTooLong, PayloadTooLarge, UsageError


def explained(call: Invocation, error: BaseException) -> BaseException:
    """The error that code ended with, in words that help where asyncio's own do not."""
    if not (isinstance(error, RuntimeError) and "attached to a different loop" in str(error)):
        return retry.explained(error, call.handler)
    foreign = UsageError(
        f"{call.handler} awaits something that belongs to another event loop; workflow and entity code "
        "awaits steps, calls, signals, timers and asyncio's own tools: put everything else into a function "
        "and `await step(function, …)`"
    )
    foreign.__cause__ = error
    return foreign


def refused(call: Invocation, error: UsageError) -> UsageError:
    """Its result, or what it did to its entity, is refused: which of them, if it does not say so already."""
    if isinstance(error, PayloadTooLarge):
        return error.named(f"the result of {call.handler} {call.id}")
    return error


def hopeless(call: Invocation) -> UsageError:
    """The code waits, and nothing will ever wake it."""
    return UsageError(
        f"{call.handler} {call.id} waits for something that nothing will ever do: it is no step, call, "
        "signal or timer. Put work on sockets, threads or other loops into a step"
    )


def endless(call: Invocation) -> EndlessLoopError:
    """The code continues as new again and again."""
    return EndlessLoopError(
        f"{call.handler} {call.id} continued as new {limit.RUNS_IN_A_ROW_MAX:,} times without waiting for a "
        "step, call, signal or timer"
    )


def astray(call: Invocation) -> UsageError:
    """The code was to continue as new, and has come to an end all the same."""
    return UsageError(
        f"{call.handler} {call.id} called continue_as_new() in a task that it did not wait for, or caught "
        "what that raises: call it in the workflow's own body, or in a task that the body awaits"
    )


def long_journal(call: Invocation) -> str:
    """The journal grows."""
    return (
        f"the journal of {call.handler} {call.id} has {limit.JOURNAL_ENTRIES_WARN:,} entries, and may have "
        f"{limit.JOURNAL_ENTRIES_MAX:,}: let it continue as new now and then"
    )


def too_long_journal(call: Invocation) -> HistoryTooLong:
    """The journal has grown too much."""
    return HistoryTooLong(
        f"{call.handler} {call.id} has {limit.JOURNAL_ENTRIES_MAX:,} entries in its journal: let its code "
        "continue as new with `f.continue_as_new(…)` now and then (`fenbu.journal_length()` says when), or "
        "give parts of its work to calls of their own"
    )


def waits_for(activation: Activation) -> str:
    """What code in memory waits for."""
    words = [f"{each.kind} {each.name}" for _, each in activation.waiting.values()]
    words += [
        journal.signal_text(name)
        for name, waiters in activation.signal_waiters.items()
        if any(not each.done() for each in waiters)
    ]
    if activation.conditions:
        words.append("a condition")
    if activation.answers is not None:
        words += [f"update {name}" for name in activation.answers.updates]
    if activation.timers:
        words.append("a timer")
    return ", ".join(words[:5]) + (f" and {len(words) - 5} more" if len(words) > 5 else "")
