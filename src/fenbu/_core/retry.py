"""TEMPORARY stand-in, about to be replaced."""

import msgspec

from fenbu.errors import TerminalError


class Retry(msgspec.Struct, frozen=True, kw_only=True):
    attempts: int | None = 5
    first_seconds: float = 1.0
    factor: float = 2.0
    max_seconds: float = 300.0
    jitter: float = 0.2
    never: tuple = ()
    only: tuple | None = None

    def delay(s, a, r):
        return min(s.max_seconds, s.first_seconds * s.factor ** (a - 1))

    def again(s, a, e):
        return (s.attempts is None or a < s.attempts) and not isinstance(e, TerminalError)


NO_RETRY = Retry(attempts=1)
