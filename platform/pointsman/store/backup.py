"""Copies of the SQLite database: taken while it is in use, looked at before they are trusted, put in its place.

Beside `database.py`, whose file it handles: a copy with plain tools would miss what SQLite keeps in a second file
while processes run. PostgreSQL has programs of its own for all this. Synchronous; raises `BackupError` with one
sentence for the user.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from pathlib import Path

from sqlalchemy import URL

from pointsman.store.database import BUSY, revisions

SIDE_FILES = ("-wal", "-shm")
"""What SQLite keeps beside its file, by how the names go on."""


class BackupError(Exception):
    """A copy can't be made, or can't be used. The message is one sentence for the user."""


def file_of(url: URL) -> Path:
    """The file of the SQLite database at `url`. Raises `BackupError` where it is another database."""
    if url.get_backend_name() != "sqlite" or not url.database or url.database == ":memory:":
        raise BackupError(
            "The configuration's database is no SQLite file: for PostgreSQL use its own pg_dump and pg_restore."
        )
    return Path(url.database)


def back_up(source: Path, target: Path) -> str:
    """
    Write all that `source` holds at one moment to the new file `target`, while others go on using it.

    Returns the revision of its tables. The copy is for this user alone, and there once it is whole.
    """
    if not source.is_file():
        raise BackupError(f"There is no database at {source}.")
    if target.exists():
        raise BackupError(f"{target} exists already: a backup never replaces another file.")
    unfinished = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        os.close(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        with contextlib.closing(_opened(source)) as connection:
            connection.execute("VACUUM INTO ?", (str(unfinished),))
        revision = check(unfinished)
        _synced(unfinished)
        unfinished.replace(target)
    except (sqlite3.Error, OSError) as error:
        raise BackupError(f"The backup {target} can't be written: {_reason(error)}.") from None
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)
    return revision


def restore(copy: Path, target: Path) -> Path | None:
    """
    Put what `copy` holds in the place of `target`, which nobody may be using.

    Returns where the database that was there has gone; None where there was none. Whatever happens, `target` holds
    the one or the other.
    """
    check(copy)
    unfinished = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        os.close(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        with contextlib.closing(_opened(copy)) as connection:
            connection.execute("VACUUM INTO ?", (str(unfinished),))
        _synced(unfinished)
        aside = _put_aside(target) if target.exists() else None
        unfinished.replace(target)
        _synced(target.parent)
    except (sqlite3.Error, OSError) as error:
        raise BackupError(f"The database {target} can't be written: {_reason(error)}.") from None
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)
    return aside


def check(copy: Path) -> str:
    """The revision of the tables in `copy`; raises `BackupError` where it is damaged, or none of ours."""
    if not copy.is_file():
        raise BackupError(f"There is no file {copy}.")
    try:
        with contextlib.closing(_opened(copy)) as connection:
            (said,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if said != "ok":
                raise BackupError(f"{copy} is damaged.")
            (revision,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except (sqlite3.Error, TypeError):
        raise BackupError(f"{copy} is no database of Pointsman's.") from None
    if revision not in revisions():
        raise BackupError(f"{copy} was written by a newer release of Pointsman: this one can't use it.")
    return str(revision)


def _put_aside(database: Path) -> Path:
    """Rename `database`, with all that it holds in that one file. Raises `BackupError` where it is in use."""
    try:
        with contextlib.closing(sqlite3.connect(database, timeout=0)) as connection:
            # Only who alone has it open may do this; it brings what is in the second file into the first.
            connection.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.OperationalError:
        raise BackupError(f"The database {database} is in use: stop the processes that use it first.") from None
    except sqlite3.DatabaseError:
        pass  # it is damaged, which may be the reason for all this
    aside = database.with_name(f"{database.name}.{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}")
    for end in ("", *SIDE_FILES):
        with contextlib.suppress(FileNotFoundError):
            database.with_name(database.name + end).replace(aside.with_name(aside.name + end))
    return aside


def _opened(file: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{file.absolute().as_uri()}?mode=rw", uri=True, timeout=BUSY, isolation_level=None)


def _synced(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _reason(error: Exception) -> str:
    return (error.strerror or type(error).__name__) if isinstance(error, OSError) else type(error).__name__
