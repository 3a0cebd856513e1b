"""A process beside the data plane says that it lives, and whether the database answers: routers show what is amiss.

For the admin process and the ledger writer. Threads of its own, beside what they do: a database that hangs must not
keep the word from being said.
"""

from __future__ import annotations

import logging
from threading import Event, Thread
from time import monotonic

import sqlalchemy as sa
from redis.exceptions import RedisError

from pointsman.contracts.errors import DatabaseUnavailable
from pointsman.store.database import Database
from pointsman.store.live import INTERVAL, LiveState, Troubles

log = logging.getLogger(__name__)

PATIENCE = 3.0
"""Seconds after which a database that has not answered is missing."""


class Heartbeat:
    """Says each second that `part` (one of `PARTS`) lives, between `start` and `stop`."""

    def __init__(self, part: str, live: LiveState, database: Database) -> None:
        self._part = part
        self._live = live
        self._database = database
        self._stopped = Event()
        self._answered = monotonic()
        self._refused: str | None = None
        self._threads = [Thread(target=run, daemon=True, name=run.__name__) for run in (self._tell, self._ask)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Say nothing more; returns at once but for a word that is being said."""
        self._stopped.set()
        self._threads[0].join(5.0)
        try:
            self._live.withdraw(self._part)
        except RedisError as error:
            log.info("could not say goodbye: %s", type(error).__name__)

    def troubles(self) -> Troubles:
        """What is missing now."""
        if self._refused is not None:
            return {"database": self._refused}
        if monotonic() - self._answered > PATIENCE:
            return {"database": "does not answer"}
        return {}

    def _tell(self) -> None:
        before: Troubles = {}
        while not self._stopped.wait(INTERVAL):
            troubles = self.troubles()
            if troubles != before:
                log.warning(
                    "degraded: %s", ", ".join(f"{name}: {words}" for name, words in troubles.items()) or "no"
                )
                before = troubles
            try:
                self._live.tell(self._part, troubles)
            except RedisError:
                continue  # routers see by themselves that Redis is away

    def _ask(self) -> None:
        while not self._stopped.wait(INTERVAL):
            try:
                with self._database.reading() as connection:
                    connection.execute(sa.text("SELECT 1"))
            except DatabaseUnavailable as error:
                self._refused = error.message
            else:
                self._refused, self._answered = None, monotonic()
