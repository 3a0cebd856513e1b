"""The database: its tables come up whoever starts first, nobody else reads its file, its absence is a plain 503."""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
import shlex
import stat
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

import pointsman.store
import pointsman.store.decisions
from pointsman.contracts.errors import DatabaseUnavailable
from pointsman.contracts.names import StateFile
from pointsman.store.database import Database, DatabaseError, _alembic_config, database_url, metadata, revisions
from support.postgresql import PostgreSQL

ROOT = Path(__file__).parents[3]

for module in pkgutil.iter_modules(pointsman.store.__path__):
    importlib.import_module(f"pointsman.store.{module.name}")  # each hangs its tables on `metadata`


def test_migrations_lead_to_the_tables_that_the_code_has(database: Database) -> None:
    database.migrate()
    database.migrate()
    with database.reading() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        tables = set(sa.inspect(connection).get_table_names())
    assert {"decisions", "decision_feedback", "decision_reviews"} < tables


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_many_may_start_at_once(tmp_path: Path, kind: str, request: pytest.FixtureRequest) -> None:
    url = database_url(None, tmp_path) if kind == "sqlite" else request.getfixturevalue("postgresql").empty()
    starters = [Database(url) for _ in range(6)]
    together = Barrier(len(starters))

    def start(database: Database) -> int:
        together.wait()
        database.migrate()
        with database.writing() as connection:
            return len(sa.inspect(connection).get_table_names())

    with ThreadPoolExecutor(len(starters)) as pool:
        assert len(set(pool.map(start, starters))) == 1
    for database in starters:
        database.close()


def test_many_may_open_a_new_file_at_once(tmp_path: Path) -> None:
    """SQLite refuses without waiting who changes a new file's journal while others do: some in fifty files."""
    together = Barrier(6)

    def open_it(database: Database) -> str | None:
        together.wait()
        return database.revision()

    with ThreadPoolExecutor(together.parties) as pool:
        for number in range(50):
            url = sa.URL.create("sqlite", database=str(tmp_path / f"{number}.db"))
            openers = [Database(url) for _ in range(together.parties)]
            assert set(pool.map(open_it, openers)) == {None}
            for database in openers:
                database.close()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_what_an_earlier_release_kept_is_there_after_the_upgrade(
    tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    url = database_url(None, tmp_path) if kind == "sqlite" else request.getfixturevalue("postgresql").empty()
    engine = sa.create_engine(url)
    config = _alembic_config()
    rows = [
        "INSERT INTO policy_versions VALUES ('demo', 1, '{}', 1, 'me', 'kept')",
        "INSERT INTO decisions (id, at, tenant, model, mode, source, reviewable, queued, record) "
        "VALUES ('dec-1', 1, 'demo', 'm', 'think', 'policy', false, false, '{}')",
    ]
    with engine.begin() as connection:  # as the release before tenants, ledger and prices left it
        config.attributes["connection"] = connection
        command.upgrade(config, "0003")
        for row in rows:
            connection.execute(sa.text(row))
    engine.dispose()

    database = Database(url)
    assert database.revision() == "0003"
    with database.reading() as connection:
        assert connection.scalar(sa.text("SELECT comment FROM policy_versions")) == "kept"
        assert connection.scalar(sa.text("SELECT tenant FROM decisions")) == "demo"
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    assert database.revision() == max(revisions())
    with database.writing() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    database.close()
    with pytest.raises(DatabaseError, match="newer release"):
        Database(url).migrate()


def test_what_pg_dump_takes_along_pg_restore_brings_back(postgresql: PostgreSQL, tmp_path: Path) -> None:
    """With the very options of `docs/backup.md`."""
    database = postgresql.database()
    url = database._engine.url
    address = f"postgresql://postgres@/{url.database}?host={url.query['host']}"
    page = (ROOT / "docs/backup.md").read_text()

    def run(name: str) -> None:
        (line,) = [line for line in page.splitlines() if line.startswith(f"{name} ")]
        words = shlex.split(line, comments=True)
        known = {"$DATABASE": address, "monday.dump": str(tmp_path / "monday.dump")}
        argv = [str(postgresql.program(name)), *(known.get(word, word) for word in words[1:])]
        subprocess.run(argv, check=True, capture_output=True)

    def write(tenant: str) -> None:
        with database.writing() as connection:
            connection.execute(sa.text(f"INSERT INTO policy_versions VALUES ('{tenant}', 1, '{{}}', 1, 'me', '')"))

    write("kept")
    run("pg_dump")
    write("later")
    database.close()
    run("pg_restore")
    with database.reading() as connection:
        assert connection.scalars(sa.text("SELECT tenant FROM policy_versions")).all() == ["kept"]
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    database.close()


def test_its_file_is_this_users_alone_and_bears_the_name_of_the_house(tmp_path: Path) -> None:
    Database(database_url(None, tmp_path)).migrate()
    files = list(tmp_path.glob(f"{StateFile.DATABASE}*"))
    assert tmp_path / StateFile.DATABASE in files
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_changes_are_made_together_or_not_at_all(database: Database) -> None:
    table = pointsman.store.decisions.decisions
    row = dict.fromkeys(("tenant", "model", "mode", "source", "record"), "x")
    whole = {**row, "id": "a", "at": 1, "reviewable": False, "queued": False}

    def twice() -> None:
        with database.writing() as connection:
            for _ in range(2):
                connection.execute(sa.insert(table), whole)

    with pytest.raises(sa.exc.IntegrityError):
        twice()
    with database.reading() as connection:
        assert connection.execute(sa.select(table)).all() == []


def test_a_database_that_is_away_is_told_without_what_was_asked(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "db").write_bytes(b"this is no database" * 100)
    database = Database(sa.make_url(f"sqlite:///{tmp_path}/db"))
    with pytest.raises(DatabaseUnavailable) as refused, database.reading():
        pass
    assert refused.value.status == 503
    assert refused.value.retry_after
    assert "no database" not in caplog.text + refused.value.message


def test_another_database_is_used_where_one_is_named(tmp_path: Path) -> None:
    assert database_url("postgresql+psycopg://me@db/pointsman", tmp_path).get_backend_name() == "postgresql"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql+nosuch://me:secret@db/x", "no driver nosuch"),
        ("postgresql+pg8000://me:secret@db/x", "pg8000 is not installed"),
        ("postgresql://me:secret@db:port/x", "no URL"),
        ("sqlite:////nowhere/secret/db", "cannot be made"),
    ],
)
def test_a_database_that_cannot_be_is_told_without_its_url(tmp_path: Path, url: str, said: str) -> None:
    with pytest.raises(DatabaseError, match=said) as refused:
        Database(database_url(url, tmp_path))
    assert "secret" not in str(refused.value)


def test_who_finds_no_connection_free_is_told_so(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database._engine.pool, "_timeout", 0.05)

    def take_all(taken: contextlib.ExitStack) -> None:
        for _ in range(100):
            taken.enter_context(database.reading())

    with contextlib.ExitStack() as taken, pytest.raises(DatabaseUnavailable, match="too much to do") as refused:
        take_all(taken)
    assert refused.value.retry_after
    with database.reading() as connection:
        assert connection.scalar(sa.text("SELECT 1")) == 1
