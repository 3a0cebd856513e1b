"""What is kept in SQL is tested on both databases: SQLite, and a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pointsman.store.database import Database, database_url
from support.postgresql import PostgreSQL


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    with PostgreSQL() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A database of the test's own, with all tables."""
    if request.param == "sqlite":
        made = Database(database_url(None, tmp_path))
    else:
        made = request.getfixturevalue("postgresql").database()
    yield made
    made.close()
