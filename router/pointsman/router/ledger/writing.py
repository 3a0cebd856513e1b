"""From the stream into the database: what `pointsman ledger-writer` does all the time.

Stands between what the routers leave in Redis (`shipping.py`) and `store/ledger.py`. A batch leaves the stream only
after SQL has committed it, together with the word to its router that it may forget it; writing one twice changes
nothing. So this process, Redis and the database may be killed at any point, and two of this process may run.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from threading import Event
from time import monotonic
from typing import Any, NamedTuple, Protocol

import orjson
from redis import Redis
from redis.exceptions import RedisError, ResponseError

from pointsman.contracts.errors import DatabaseUnavailable
from pointsman.contracts.names import RedisKey
from pointsman.router.ledger import records
from pointsman.router.ledger.shipping import CLOSED
from pointsman.store.ledger import Batch, LedgerStore, Written

log = logging.getLogger(__name__)

GROUP = "database"
CONSUMER = "ledger-writer"
"""One name for all of them: what one has read and not written, the next one finds among its own."""

ROWS = 1000
"""Entries of one transaction, about."""

MESSAGES = 16
"""Batches that are read at once."""

WAIT = 0.5
"""Seconds that a read waits for the first batch, and a pause lasts after a failure."""

PENDING = 30.0
"""Seconds between two looks for batches that were read and never written."""

TICK = 1.0
"""Seconds between two ticks of whoever follows what is written."""

Messages = Sequence[tuple[bytes, Mapping[bytes, bytes] | None]]


class Message(NamedTuple):
    """One batch, and where it is in the stream. `dead`: its router has died."""

    identity: bytes
    batch: Batch
    dead: bool


class Follower(Protocol):
    """Who else has to know what is in the database. May raise `RedisError` and `DatabaseUnavailable`."""

    def written(self, written: Written, dead: set[str]) -> None:
        """This has been committed, and will be told again if an exception leaves; `dead`: runs that have died."""

    def tick(self) -> None:
        """About a second has passed."""


class LedgerWriting:
    """Writes until `stop`; all in the thread that calls `run`."""

    def __init__(self, store: LedgerStore, redis: Redis, followers: Sequence[Follower]) -> None:
        self._store = store
        self._redis = redis
        self._followers = tuple(followers)
        self._grouped = False
        self._stopping = Event()
        self._unwritable: set[bytes] = set()

    def stop(self) -> None:
        """Finish the batches that are being written, and end."""
        self._stopping.set()

    def run(self) -> None:
        """Write until `stop` is called. Redis or the database being away is waited out."""
        pending_at = tick_at = 0.0
        waiting = False
        while not self._stopping.is_set():
            now = monotonic()
            try:
                if now >= pending_at:
                    self.catch_up()
                    pending_at = now + PENDING
                if now >= tick_at:
                    tick_at = now + TICK
                    for follower in self._followers:
                        follower.tick()
                self.step()
                waiting = False
            except (RedisError, DatabaseUnavailable) as error:
                if not waiting:
                    log.warning("entries wait to be written: %s", type(error).__name__)
                waiting = True
                pending_at = 0.0
                self._stopping.wait(WAIT)

    def catch_up(self) -> None:
        """Write what was read before and never written."""
        last: bytes | None = b"0"
        while last is not None and not self._stopping.is_set():
            last = self.step(last)

    def step(self, start: bytes | str = ">") -> bytes | None:
        """Write some batches: new ones (`>`) or those read before, behind `start`. Returns the last one's place."""
        if not self._grouped:
            self._make_group()
        wait = int(WAIT * 1000) if start == ">" else None
        try:
            found: Any = self._redis.xreadgroup(GROUP, CONSUMER, {RedisKey.LEDGER: start}, MESSAGES, wait)
        except ResponseError as error:
            if not str(error).startswith("NOGROUP"):
                raise
            self._grouped = False  # Redis was emptied
            return None
        messages: Messages = found[0][1] if found else ()
        if not messages:
            return None
        group: list[Message] = []
        rows = 0
        for message in self._read(messages):
            group.append(message)
            rows += len(message.batch.entries)
            if rows >= ROWS:
                self._write(group)
                group, rows = [], 0
        if group:
            self._write(group)
        return messages[-1][0]

    def _write(self, group: Sequence[Message]) -> None:
        """Commit `group`, tell everybody, and let the stream forget it."""
        try:
            written = self._store.add([message.batch for message in group])
        except (RedisError, DatabaseUnavailable):
            raise
        except Exception as error:  # whatever is wrong with one batch must not stop all others
            if len(group) > 1:
                for message in group:
                    self._write([message])
                return
            self._leave(group[0].identity, type(error).__name__)
            return
        dead = {message.batch.run for message in group if message.dead}
        for follower in self._followers:
            follower.written(written, dead)
        told: dict[Any, Any] = dict(written.committed)
        told.update(dict.fromkeys(written.closed, CLOSED))
        identities = [message.identity for message in group]
        with self._redis.pipeline(transaction=True) as pipeline:
            if told:
                pipeline.hset(RedisKey.LEDGER_COMMITTED, mapping=told)
            pipeline.xack(RedisKey.LEDGER, GROUP, *identities)
            pipeline.xdel(RedisKey.LEDGER, *identities)
            pipeline.execute()

    def _read(self, messages: Messages) -> Iterator[Message]:
        for identity, fields in messages:
            if fields is None:
                self._redis.xack(RedisKey.LEDGER, GROUP, identity)  # it was deleted after it was read
                continue
            try:
                yield _message(identity, fields)
            except (ValueError, KeyError, TypeError, records.UnreadableRecord) as error:
                self._leave(identity, type(error).__name__)

    def _leave(self, identity: bytes, kind: str) -> None:
        """Leave a batch that can't be written where it is: it is money, and another release may be able to."""
        if identity not in self._unwritable:
            self._unwritable.add(identity)
            log.error("a batch of the ledger can't be written and stays in the stream: %s", kind)

    def _make_group(self) -> None:
        try:
            self._redis.xgroup_create(RedisKey.LEDGER, GROUP, id="0", mkstream=True)
        except ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise
        self._grouped = True


def _message(identity: bytes, fields: Mapping[bytes, bytes]) -> Message:
    run = fields[b"run"].decode()
    first, base = int(fields[b"first"]), int(fields[b"base"])
    plain = orjson.loads(fields[b"entries"])
    entries = []
    for index, each in enumerate(plain):
        if each is None:
            log.error("entry %d of run %s was damaged on its router's disk", first + index, run)
        else:
            entries.append(records.entry_of(each, router=run, number=first + index))
    batch = Batch(run, first, base, first + len(plain), entries, closed=b"closed" in fields)
    return Message(identity, batch, b"dead" in fields)
