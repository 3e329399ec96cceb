"""The same database, once more."""

from __future__ import annotations

import pytest

from fenbu import App


def again(app: App) -> App:
    """An app of another process, perhaps with other code, on the database of this one."""
    if app.runtime.url == "memory:":
        pytest.skip("a database in memory ends with its app")
    return App("scenario", url=app.runtime.url)
