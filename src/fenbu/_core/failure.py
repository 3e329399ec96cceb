"""TEMPORARY stand-in, about to be replaced."""

import sys
import traceback

from fenbu._core.model import Failure
from fenbu.errors import CallFailed


def failure_of(e):
    return Failure(
        f"{type(e).__module__}:{type(e).__qualname__}",
        str(e),
        "".join(traceback.format_exception(e)),
    )


def error_of(f):
    m, q = f.type.split(":")
    c = getattr(sys.modules.get(m), q, None)
    if c:
        return c(f.message)
    return CallFailed(f.type, f.message, f.traceback)
