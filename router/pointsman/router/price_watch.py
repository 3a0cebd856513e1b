"""Take up changed prices while the process runs: what is in Redis is put into the book that requests are billed by.

A task of every worker, so that no request ever asks for a price. New prices begin a little ahead of the moment at
which they are set, further than the interval here: every router knows a price before it holds. Redis may go away or
be empty: what is known holds on, and lies in a file of the state folder, for a process that starts just then.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from pointsman.contracts.price_book import PriceBook
from pointsman.router.rounds import Rounds
from pointsman.router.state_file import replace_file
from pointsman.store.price_projection import PriceReader, periods_of

log = logging.getLogger(__name__)

INTERVAL = 0.5
"""Seconds between two looks."""

PATIENCE = 2.0
"""Seconds that Redis has for its answer."""


class PriceWatch:
    """Keeps `book` as `reader` has it. `known` is the file for what is known; it never makes anything fail."""

    def __init__(self, reader: PriceReader, book: PriceBook, known: Path) -> None:
        self._reader = reader
        self._book = book
        self._file = known
        self._text: bytes | None = None
        self._rounds = Rounds(self._look, what="prices")

    async def begin(self) -> None:
        """Look for the first time; where nothing is there, read the file."""
        await self._rounds.once(None)
        if self._text is None:
            self._load()

    async def follow(self) -> None:
        """Look at the interval until cancelled."""
        await self._rounds.follow(INTERVAL, None)

    async def _look(self) -> None:
        async with asyncio.timeout(PATIENCE):
            text = await self._reader.text()
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
