"""Stops calling what does not answer, for a while, over all processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import fenbu
from fenbu import App, Entity
from fenbu.contrib import argument


class CircuitOpen(fenbu.FenbuError):
    """It failed too often just now: it was not tried."""


class CircuitBreaker:
    """After so many failures in a row nobody tries for a while; then one does, and decides for all.

    The pattern is M. Nygard's ("Release It!", 2007): closed, open, half-open.

    Args:
        app: Whose database keeps it. Make the same breaker in each process that runs its nodes.
        name: Names it in the database.
        failures: How many failures in a row open it.
        reset_seconds: How long it stays open before one may try.

    Example:
        ```python
        bank = CircuitBreaker(app, "bank", failures=5, reset_seconds=30)

        @app.workflow
        async def pay(order: Order) -> str:
            async with bank.guard("visa"):
                return await step(charge, order)
        ```
    """

    def __init__(
        self, app: App, name: str = "breaker", *, failures: int = 5, reset_seconds: float = 30.0
    ) -> None:
        argument.count("CircuitBreaker(failures", failures)
        argument.seconds("CircuitBreaker(reset_seconds", reset_seconds, zero=True)

        @app.entity(name=name, retention=0)
        class Circuit(Entity):
            failed: int = 0
            """In a row."""
            tried_at: float = 0.0
            """When it failed last, or when somebody was let through to see."""

            async def admit(self) -> bool:
                now = fenbu.now().timestamp()
                if self.failed < failures:
                    return True
                if now < self.tried_at + reset_seconds:
                    return False
                # Whoever tries may vanish: then another one may, after the same time.
                self.tried_at = now
                return True

            async def report(self, *, ok: bool) -> None:
                self.failed = 0 if ok else self.failed + 1
                self.tried_at = fenbu.now().timestamp()

        self._circuit = Circuit

    @asynccontextmanager
    async def guard(self, key: str = "") -> AsyncGenerator[None]:
        """Try what is in the block, and count whether it raises.

        Raises:
            CircuitOpen: It has failed too often; the block was not run.
        """
        circuit = self._circuit(key or "-")
        if not await circuit.admit():
            raise CircuitOpen(f"{key or 'it'} has failed too often, and is not tried for a while")
        try:
            yield
        except asyncio.CancelledError:
            raise  # It says nothing about what was called.
        except Exception:
            await circuit.report(ok=False)
            raise
        else:
            await circuit.report(ok=True)
