"""`replay`: today's code over histories that were recorded somewhere else, as a test."""

from __future__ import annotations

from pathlib import Path

from fenbu._api.app import App
from fenbu._core import history
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
        How many histories were replayed.

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
    for file in files:
        try:
            found = history.read(file.read_bytes())
        except OSError as error:
            raise UsageError(f"{file} cannot be read: {error.strerror}") from None
        except UsageError as error:
            raise UsageError(f"{file}: {error}") from None
        divergence = rehearse(app.registry, found)
        if divergence is not None:
            raise ReplayDiverged(file, divergence)
    return len(files)
