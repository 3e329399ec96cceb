"""`replay`: today's code over histories that were recorded somewhere else, as a test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fenbu._api.app import App
from fenbu._core import history
from fenbu._core.history import Histories, History
from fenbu._core.model import FINISHED
from fenbu._core.rehearsal import Divergence, rehearse
from fenbu.errors import UsageError


class ReplayDiverged(AssertionError):
    """Today's code asks for something else than a history has recorded. The message says what and where.

    Attributes:
        divergence: The same as data.
    """

    def __init__(self, file: Path, divergence: Divergence) -> None:
        where = "" if divergence.position is None else f" at journal position {divergence.position}"
        super().__init__(
            f"{file}: {divergence.handler} {divergence.id}{where}: {divergence.reason}"
        )
        self.divergence = divergence


def replay(place: str | Path, app: App) -> int:
    """Run today's code of an app over recorded histories: nothing is called again, time does not pass.

    Args:
        place: A file that `fenbu export` wrote, or a folder of such files (`*.json`).
        app: The app with the code of today.

    Returns:
        How many histories were replayed. A file has one for each call of a tree: those of other services,
        whose code the app does not have, and operations that have ended are passed over.

    Raises:
        ReplayDiverged: The code asks for something else than was recorded, or ends differently.
        UsageError: There is no such file, or it is no history.

    Example:
        ```python
        def test_calls_of_last_year_still_replay():
            assert fenbu.testing.replay("tests/histories", app) > 0
        ```
    """
    path = Path(place)
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    count = 0
    for file in files:
        try:
            found = history.read(file.read_bytes())
        except OSError as error:
            raise UsageError(f"{file} cannot be read: {error.strerror}") from None
        except UsageError as error:
            raise UsageError(f"{file}: {error}") from None
        for each in _replayed(found, app):
            count += 1
            divergence = rehearse(app.registry, each)
            if divergence is not None:
                raise ReplayDiverged(file, divergence)
    return count


def _replayed(found: Histories, app: App) -> Iterator[History]:
    """The call that was exported, and those of its tree whose code is here and can be replayed."""
    yield found.root
    for each in found.calls[1:]:
        call = each.loaded.invocation
        has_ended = call.entity is not None and call.status in FINISHED
        if app.registry.latest(call.handler) is not None and not has_ended:
            yield each
