"""What lies between simulated processes and their database: latency, lost connections, a server that is away.

Faults change the attributes of a `Network` for a while. What a request asks for is done on the server,
whatever has become of the process that asked; the answer reaches the process if it still lives.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from typing import Any

from fenbu._testing.database import SimulatedDatabase
from fenbu._testing.loop import Process, SimulatedLoop, process_now
from fenbu.errors import Unavailable

Request = Coroutine[Any, Any, Any]
"""A method of the storage in memory: its one suspension is the way to the server."""


class Connection:
    """A process's connection to the server. Requests on it are done one after the other."""

    def __init__(self, *, ordered: bool) -> None:
        self.ordered = ordered
        self.is_broken = False
        """The process knows that it is of no use any more."""
        self.is_closed = False
        """The server does."""
        self.free_at = 0.0
        self.ended: Callable[[], None] = lambda: None
        """Called on the server when it sees that the connection has broken."""


class Network:
    """See the module. Rates are probabilities for each request, times are virtual seconds."""

    def __init__(
        self, loop: SimulatedLoop, database: SimulatedDatabase, trace: Callable[[str, str], None]
    ) -> None:
        self.loop = loop
        self.trace = trace
        self.database = database
        self.random = loop.random
        self.latency = 0.001
        """The mean time of one way."""
        self.usual_latency = 0.001
        self.loss = 0.0
        """How often a connection breaks, half of the times when what was asked for has been done already."""
        self.refusal = 0.0
        """How often a commit is refused, as by a full disk."""
        self.hint_loss = 0.0
        self.hint_latency = 0.001
        self.is_down = False
        self.notice_seconds = 0.0
        """How long the server takes to see that a connection has broken: keepalives, at worst."""
        self._asked: dict[asyncio.Future[Any], Process | None] = {}
        """Requests without an answer so far, and who has made them."""
        self._server = copy_context()
        self._server.run(process_now.set, loop.process("server"))

    def delay(self, mean: float | None = None) -> float:
        """How long one way takes."""
        return self.random.expovariate(1.0 / (self.latency if mean is None else mean))

    def later(self, seconds: float, work: Callable[[], object]) -> None:
        """Do something on the server, which nobody crashes."""
        self.loop.call_at(self.loop.time() + seconds, work, context=self._server)

    def lost(self) -> bool:
        return self.loss > 0 and self.random.random() < self.loss

    def break_(self, connection: Connection) -> None:
        """The process finds it broken at its next request, the server after a while."""
        if not connection.is_broken:
            connection.is_broken = True
            self.later(self.delay(max(1e-6, self.notice_seconds)), connection.ended)

    async def ask(self, request: Request, connection: Connection) -> Any:
        """Carry a request to the server and its answer back.

        Raises:
            Unavailable: There is no answer. It may or may not have been done.
        """
        request.send(None)  # It copies what it was given.
        loop = self.loop
        answer: asyncio.Future[Any] = loop.create_future()
        arrival = loop.time() + self.delay()
        if connection.ordered:
            arrival = connection.free_at = max(arrival, connection.free_at)
        travel = _Travel(self, request, connection, answer, copy_context())
        loop.call_at(arrival, travel.arrive, context=self._server)
        self._asked[answer] = process_now.get()
        try:
            return await answer
        finally:
            self._asked.pop(answer, None)

    @property
    def is_busy(self) -> bool:
        """Somebody waits for an answer."""
        return any(each is None or each.is_alive for each in self._asked.values())


class _Travel:
    """One request on its way."""

    __slots__ = ("answer", "client", "connection", "network", "request")

    def __init__(
        self,
        network: Network,
        request: Request,
        connection: Connection,
        answer: asyncio.Future[Any],
        client: Context,
    ) -> None:
        self.network = network
        self.request = request
        self.connection = connection
        self.answer = answer
        self.client = client

    def arrive(self) -> None:
        network, connection = self.network, self.connection
        if connection.is_broken or connection.is_closed or network.is_down or network.lost():
            self.request.close()
            network.break_(connection)
            self._reply(None, Unavailable("the connection broke"))
            return
        value, error = None, None
        try:
            self.request.send(None)
        except StopIteration as done:
            value = done.value
        except Exception as failure:  # noqa: BLE001 - it is the answer
            error = failure
        else:
            raise AssertionError("a request to a storage in memory waits twice")
        if network.lost():
            network.break_(connection)
            value, error = None, Unavailable("the connection broke before there was an answer")
        self._reply(value, error)

    def _reply(self, value: Any, error: Exception | None) -> None:
        loop = self.network.loop
        at = loop.time() + self.network.delay()
        if self.connection.ordered:
            at = self.connection.free_at = max(at, self.connection.free_at)
        loop.call_at(at, self._received, value, error, context=self.client)

    def _received(self, value: Any, error: Exception | None) -> None:
        if not self.answer.done():
            if error is None:
                self.answer.set_result(value)
            else:
                self.answer.set_exception(error)
