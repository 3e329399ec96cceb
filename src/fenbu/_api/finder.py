"""The part of an `App` that finds things in its database: calls, which it also steers, and entities."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import TypeVar

from fenbu._api.bulk import Action
from fenbu._api.callback import CallbackInfo, list_callbacks
from fenbu._api.listing import CallPage, Where, list_calls, steer_calls
from fenbu._api.moving import export_call, import_calls
from fenbu._api.runtime import Runtime
from fenbu._api.state import EntityPage, EntityWatcher, list_entities
from fenbu._core.model import Status

E = TypeVar("E")


class Finder:
    """See the module."""

    runtime: Runtime

    async def list_calls(
        self,
        *,
        handler: str | None = None,
        statuses: Iterable[Status] | None = None,
        where: Sequence[Where] = (),
        since: datetime | None = None,
        before: datetime | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> CallPage:
        """Calls that fulfil all of these, newest first, page by page.

        Calls that no node has read from the inbox yet are not among them.

        Args:
            handler: Only calls of this task, workflow or operation.
            statuses: Only calls with one of these.
            where: Conditions on search attributes; the first leads to the calls, so give the rarest first.
            since: Only calls accepted after it.
            before: Only calls accepted before it.
            limit: At most so many, up to 1,000.
            after: The `next` of the page before.

        Raises:
            UsageError: An argument makes no sense, or this is the code of a workflow or operation.

        Example:
            ```python
            page = await app.list_calls(where=[("customer", "=", 7), ("total", ">", 100)])
            ```
        """
        return await list_calls(
            self.runtime, handler=handler, statuses=statuses, where=where, since=since, before=before,
            limit=limit, after=after,
        )  # fmt: skip

    async def steer_calls(
        self,
        action: Action,
        *,
        handler: str | None = None,
        statuses: Iterable[Status] | None = None,
        where: Sequence[Where] = (),
        since: datetime | None = None,
        before: datetime | None = None,
        reason: str = "",
        step: int | str | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> int:
        """Cancel, terminate, retry, pause, resume or fork all calls that fulfil these; as `fenbu bulk` does.

        Only those to which it means something: by default open calls are cancelled, failed, timed out, stuck
        and quarantined ones are tried again, and workflows that failed or timed out are forked. Calls that
        are accepted meanwhile may be among them or not: give `before`. It can be repeated: a run of a
        workflow is forked once from each place. A fork that fails is a workflow that failed, like others.

        Args:
            action: What they are told.
            handler: As for `list_calls`, and so are `statuses`, `where`, `since` and `before`.
            reason: Of a cancellation or pause.
            step: For `fork` alone, as in `Handle.fork`; a workflow that has none is left out.
            progress: Called with how many have been told so far, each time that they are 500 more.

        Returns:
            How many were told: durably, not when they have done it.

        Raises:
            UsageError: An argument makes no sense, or this is the code of a workflow or operation.
            Unavailable: The database went away; those that were told before are.

        Example:
            ```python
            await app.steer_calls("retry", handler="charge", statuses=[Status.FAILED])
            ```
        """
        return await steer_calls(
            self.runtime, action, handler=handler, statuses=statuses, where=where, since=since,
            before=before, reason=reason, step=step, progress=progress,
        )  # fmt: skip

    async def export_call(self, id: str, *, alone: bool = False) -> bytes:  # noqa: A002
        """A call with its whole history as a file, for `import_calls` and `fenbu.testing.replay`.

        With it come the calls that it has started or waits for, and theirs: with journals, streams, and the
        signals, results and updates that were accepted and not applied yet. All are as they were in one
        moment. They go on here as well: what is imported elsewhere is a second call with the same id.

        Args:
            id: The call.
            alone: Without the calls that it has started or waits for.

        Raises:
            CallNotFound: No call has this id, or its retention is over.
            UsageError: This is the code of a workflow or operation, or a message cannot be read.

        Example:
            ```python
            Path("order-7.json").write_bytes(await app.export_call("order-7"))
            ```
        """
        return await export_call(self.runtime, id, alone=alone)

    async def import_calls(
        self,
        data: bytes,
        *,
        id: str | None = None,  # noqa: A002
        go_on: bool = False,
        alone: bool = False,
        restart_operations: bool = False,
    ) -> list[str]:
        """Bring calls into this database that `export_call` or `fenbu export` wrote: all or none.

        Those that have ended are there as they were. Open ones are parked as `quarantined` until they are
        retried, unless `go_on` is true.

        Args:
            data: The file.
            id: Another id, for a call that has ended or not begun. It comes alone, and no messages with it.
            go_on: Open calls run at once. Be sure that they do not run where they come from as well.
            alone: Only the call that was exported, without those of its tree.
            restart_operations: Operations on entities that have begun and not ended begin anew, on the state
                that their entity has here.

        Returns:
            The ids of the calls: durable, and applied by the nodes soon. The first is the one that was
            exported.

        Raises:
            AlreadyExists: There is a call with one of these ids; nothing was written. Also if the same was
                imported before, so it may be repeated by who is not sure whether it has come.
            UsageError: It is no such file, the calls cannot be brought in like that, or this is the code of a
                workflow or operation.
            Unavailable: It was not written, or perhaps not.

        Example:
            ```python
            await app.import_calls(Path("order-7.json").read_bytes(), go_on=True)
            ```
        """
        return await import_calls(
            self.runtime,
            data,
            id_=id,
            go_on=go_on,
            alone=alone,
            restart_operations=restart_operations,
        )

    async def list_callbacks(self, id: str) -> list[CallbackInfo]:  # noqa: A002
        """The callbacks of a call that nobody has completed yet, with their tokens, oldest first.

        A fork has tokens of its own: completing a callback of the call that was forked does not complete
        that of the fork.

        Args:
            id: The call's id.

        Raises:
            CallNotFound: There is no such call, or its retention is over.
            UsageError: This is the code of a workflow or operation.

        Example:
            ```python
            for each in await app.list_callbacks("order-7"):
                await app.complete(each.token, "ref-7")
            ```
        """
        return await list_callbacks(self.runtime, id)

    async def list_entities(
        self, cls: type[E], *, limit: int = 100, after: str | None = None
    ) -> EntityPage[E]:
        """The entities of a class that have a state, in order of their keys, page by page.

        Each is as some operation has left it; those of one page are of one moment, pages are not. SQL reads
        the same from the view `entities`, by any condition.

        Args:
            cls: The class.
            limit: At most so many, up to 1,000.
            after: The `next` of the page before, or any key: those behind it.

        Raises:
            UsageError: An argument makes no sense, or this is the code of a workflow or operation.

        Example:
            ```python
            page = await app.list_entities(Stock)
            empty = [each.key for each in page.entities if not each.state.units]
            ```
        """
        return await list_entities(self.runtime, cls, limit=limit, after=after)

    def watch(self, entity: E) -> EntityWatcher[E]:
        """Watch an entity: the state that it has, and each later one that is seen, without end.

        In any process: a node sees what is changed there at once, and what is changed elsewhere within a
        quarter of a second; a client sees it within a second.

        Args:
            entity: A reference: `Stock("sku-1")`.

        Raises:
            UsageError: It is no reference to an entity of this app; and, when it is used, this is the code of
                a workflow or operation.
            Unavailable: When it is used: this process stops.

        Example:
            ```python
            async for seen in app.watch(Stock("sku-1")):
                await page.show(0 if seen is None else seen.state.units)
            ```
        """
        return EntityWatcher(self.runtime, entity)
