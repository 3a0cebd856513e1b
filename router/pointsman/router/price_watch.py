"""Take up changed prices while the process runs: what is in Redis is put into the book that requests are billed by.

A task of every worker, so that no request ever asks for a price. New prices begin a little ahead of the moment at
which they are set, further than the interval here: every router knows a price before it holds. Redis may go away or
be empty: what is known holds on, and lies in a file of the state folder, for a process that starts just then.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from redis.exceptions import RedisError

from pointsman.contracts.price_book import PriceBook
from pointsman.router.state_file import replace_file
from pointsman.store.price_projection import PriceReader, periods_of

log = logging.getLogger(__name__)

INTERVAL = 0.5
"""Seconds between two looks."""

PATIENCE = 2.0
"""Seconds that Redis has for one look."""


class PriceWatch:
    """Keeps `book` as `reader` has it. `known` is the file for what is known; it never makes anything fail."""

    def __init__(self, reader: PriceReader, book: PriceBook, known: Path) -> None:
        self._reader = reader
        self._book = book
        self._file = known
        self._text: bytes | None = None
        self._reachable = True

    async def begin(self) -> None:
        """Look for the first time; where nothing is there, read the file."""
        await self._try()
        if self._text is None:
            self._load()

    async def follow(self) -> None:
        """Look at the interval until cancelled."""
        task = asyncio.current_task()
        assert task is not None
        while True:
            await asyncio.sleep(INTERVAL)
            await self._try()
            if task.cancelling():
                return  # asked, because redis-py swallows a cancellation that comes while it waits for an answer

    async def _try(self) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                text = await self._reader.text()
        except (RedisError, OSError) as error:  # TimeoutError is an OSError
            if self._reachable:
                log.warning("prices can't be read (%s): those that are known hold", type(error).__name__)
            self._reachable = False
            return
        self._reachable = True
        if text is not None and text != self._text and self._take(text):
            await self._keep(text)

    def _take(self, text: bytes) -> bool:
        self._text = text
        try:
            periods = periods_of(text)
        except ValueError:
            log.error("the prices in Redis can't be read: those before them hold on")
            return False
        self._book.replace(periods)
        log.info("took up the prices of %d periods", len(periods))
        return True

    def _load(self) -> None:
        try:
            text = self._file.read_bytes()
        except FileNotFoundError:
            return
        except OSError as error:
            log.warning("the prices that were known last can't be read: %s", error.strerror)
            return
        if self._take(text):
            log.warning("Redis has no prices: beginning with those that were known last")
        self._text = None  # whatever Redis has goes before it

    async def _keep(self, text: bytes) -> None:
        try:
            await asyncio.to_thread(replace_file, self._file, text)
        except OSError as error:
            log.warning("the prices that are known can't be written: %s", error.strerror)
