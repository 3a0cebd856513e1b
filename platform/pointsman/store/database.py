"""The SQL database: the source of truth for what must outlive Redis and every process.

Stands under everything that keeps rows (`policies.py` and `decisions.py` beside it), each of which hangs its tables
on `metadata` here and brings a migration of its own. SQLite in the state folder unless another database is named;
the SQL above it is kept to what PostgreSQL says alike. Synchronous: the admin process alone uses it, in threads.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from sqlalchemy import URL, Connection, Engine, MetaData, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, NoSuchModuleError
from sqlalchemy.exc import TimeoutError as NoConnectionLeft

from pointsman.contracts.errors import DatabaseUnavailable
from pointsman.contracts.names import StateFile

if TYPE_CHECKING:
    from alembic.config import Config as AlembicConfig

MIGRATIONS = Path(__file__).with_name("migrations")

BUSY = 10.0
"""Seconds that a writer of SQLite waits for another one, and whoever asks for a connection until one is free."""
_ONE_STARTER = 0x706F696E74
"""The key of PostgreSQL's advisory lock that the process which migrates holds."""

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)
"""All tables of the platform; named constraints, so that a migration can change any of them."""

logging.getLogger("alembic").setLevel(logging.WARNING)


class DatabaseError(Exception):
    """The database that is configured can't be used; the message never holds the URL, which may hold a password."""


def database_url(configured: str | None, state_dir: Path) -> URL:
    """
    The URL of the database: the one configured, or the SQLite file in the state folder.

    Raises `DatabaseError` where what is configured is no URL.
    """
    if configured is not None:
        try:
            return make_url(configured)
        except (ArgumentError, ValueError):
            raise DatabaseError("it is no URL of a database") from None
    return URL.create("sqlite", database=str(state_dir / StateFile.DATABASE))


class Database:
    """
    One database, its connections, and its tables, which are brought up to date before the first use.

    Raises `DatabaseError` where its driver is not installed, or its file can't be made.
    Safe to share between threads. Both contexts raise `DatabaseUnavailable` where the database is away or too busy;
    what a query holds (which may be a prompt) is in no message.
    """

    def __init__(self, url: URL) -> None:
        self._engine = _engine(url)
        self._writing = Lock() if self.dialect == "sqlite" else None
        self._migrated = False
        self._migrating = Lock()

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`."""
        return self._engine.dialect.name

    def migrate(self) -> None:
        """Bring the tables up to date: harmless where they are, and where another process does so just now."""
        from alembic import command
        from alembic.util import CommandError

        with self._migrating:
            if self._migrated:
                return
            with _translated(), self._connection(writes=True) as connection:
                if self.dialect == "postgresql":
                    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ONE_STARTER})
                config = _alembic_config()
                config.attributes["connection"] = connection
                try:
                    command.upgrade(config, "head")
                except CommandError:
                    raise DatabaseError("it was written by a newer release of Pointsman") from None
            self._migrated = True

    def revision(self) -> str | None:
        """The revision of the tables as they are now, which changes nothing; None where there are none."""
        from alembic.migration import MigrationContext

        with _translated(), self._connection(writes=False) as connection:
            return MigrationContext.configure(connection).get_current_revision()

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection that sees one state of the database."""
        yield from self._used(writes=False)

    @contextlib.contextmanager
    def writing(self) -> Iterator[Connection]:
        """A connection whose changes are all committed at the end, or none of them where an exception leaves."""
        yield from self._used(writes=True)

    def close(self) -> None:
        """Give all connections back; those in use end with their contexts."""
        self._engine.dispose()

    def _used(self, *, writes: bool) -> Iterator[Connection]:
        if not self._migrated:
            self.migrate()
        with _translated(), self._connection(writes=writes) as connection:
            yield connection

    @contextlib.contextmanager
    def _connection(self, *, writes: bool) -> Iterator[Connection]:
        with (
            self._in_turn() if writes else contextlib.nullcontext(),
            self._engine.connect().execution_options(writes=writes) as connection,
            connection.begin(),
        ):
            yield connection

    @contextlib.contextmanager
    def _in_turn(self) -> Iterator[None]:
        """Wait for this process' other writers: SQLite has one at a time, and looks for its lock by the clock."""
        if self._writing is None:
            yield
            return
        if not self._writing.acquire(timeout=BUSY):
            raise DatabaseUnavailable("The database has too much to do.", retry_after=2)
        try:
            yield
        finally:
            self._writing.release()


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except IntegrityError:
        raise
    except DBAPIError as error:
        kind = type(error.orig).__name__
        raise DatabaseUnavailable(f"The database does not answer now ({kind}).", retry_after=2) from None
    except NoConnectionLeft:
        raise DatabaseUnavailable("The database has too much to do.", retry_after=2) from None


def revisions() -> frozenset[str]:
    """The revisions of the tables that this release knows."""
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory.from_config(_alembic_config())
    return frozenset(script.revision for script in scripts.walk_revisions())


def _alembic_config() -> AlembicConfig:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config


def _engine(url: URL) -> Engine:
    try:
        return _new_engine(url)
    except ModuleNotFoundError as error:
        raise DatabaseError(f"its driver {error.name} is not installed") from None
    except NoSuchModuleError:
        raise DatabaseError(f"there is no driver {url.get_driver_name()} for {url.get_backend_name()}") from None
    except OSError as error:
        raise DatabaseError(f"its file cannot be made: {error.strerror or type(error).__name__}") from None


def _new_engine(url: URL) -> Engine:
    if url.get_backend_name() != "sqlite":
        return create_engine(url, pool_pre_ping=True, hide_parameters=True, pool_timeout=BUSY)
    if url.database and url.database != ":memory:":
        # Before SQLite makes it: its files hold what tenants opted into, and are for this user alone.
        Path(url.database).touch(mode=0o600)
    engine = create_engine(url, hide_parameters=True, pool_timeout=BUSY, connect_args={"timeout": BUSY})
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: sqlite3.Connection, record: Any) -> None:
    connection.isolation_level = None  # else Python begins transactions by its own rules: see `_begin_sqlite`
    _write_ahead(connection)
    for pragma in ("synchronous = NORMAL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}")


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Switch the journal to WAL: of several that do so to a new file, SQLite refuses some without waiting."""
    until = time.monotonic() + BUSY
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() >= until:
                raise
            time.sleep(0.01)
        else:
            return


def _begin_sqlite(connection: Connection) -> None:
    """A writer takes the lock at its beginning, where waiting helps; a reader that turns writer may be refused."""
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
