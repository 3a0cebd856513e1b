"""Prices as a router takes them up: at once, unless they make no sense; from its file where Redis has none."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from pointsman.contracts.config_pools import Prices
from pointsman.contracts.price_book import PriceBook, PricePeriod
from pointsman.router.price_watch import PriceWatch
from pointsman.store.price_projection import PriceVersion, projected

BASE = Prices.model_validate({"input": 1, "output": 2})
NOW = time.time_ns() // 1_000_000
AHEAD = 86_400_000
"""Milliseconds from `NOW` on that no test run takes."""


def text_of(*periods: tuple[int, int]) -> bytes:
    """What Redis holds: versions 1, 2, … of the pool `p`, each with its beginning from now and its input price."""
    versions = [
        PriceVersion(
            PricePeriod("p", number, NOW + since, None, Prices.model_validate({"input": price, "output": 1})),
            NOW,
            "me",
            "",
            None,
            None,
        )
        for number, (since, price) in enumerate(periods, 1)
    ]
    return projected(versions, now=NOW)


class Redis:
    """What `PriceReader` reads; None where it was emptied, an exception where it is away."""

    def __init__(self) -> None:
        self.found: bytes | Exception | None = None

    async def text(self) -> bytes | None:
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


@pytest.fixture
def book() -> PriceBook:
    return PriceBook({"p": BASE.price_list()})


def watch_of(redis: Redis, book: PriceBook, file: Path) -> PriceWatch:
    return PriceWatch(redis, book, file)  # type: ignore[arg-type]


def test_what_redis_has_holds_and_is_known_to_the_next_process(book: PriceBook, tmp_path: Path) -> None:
    redis, file = Redis(), tmp_path / "prices.json"
    watch = watch_of(redis, book, file)
    asyncio.run(watch.begin())
    assert book.at("p", NOW).version == 0
    redis.found = text_of((-1000, 5), (AHEAD, 6))
    asyncio.run(watch.begin())
    assert (book["p"].input, book.at("p", NOW + AHEAD).prices.input) == (5, 6)
    held = book.at("p", NOW).prices
    asyncio.run(watch.begin())
    assert book.at("p", NOW).prices is held  # nothing is made anew where nothing has changed

    for nothing in (RedisConnectionError("away"), None):  # away, then back and empty
        redis.found = nothing
        asyncio.run(watch.begin())
        assert book["p"].input == 5
    fresh = PriceBook({"p": BASE.price_list()})
    late = watch_of(redis, fresh, file)
    asyncio.run(late.begin())
    assert (fresh["p"].input, fresh.at("p", NOW + AHEAD).version) == (5, 2)
    redis.found = text_of((-1000, 5))
    asyncio.run(late.begin())
    assert fresh.at("p", NOW + AHEAD).version == 1


@pytest.mark.parametrize(
    "nonsense",
    [b"", b"no JSON", b"{}", b'[{"pool": "p"}]', text_of((0, 5))[:-5]],
    ids=["nothing", "no JSON", "no list", "no period", "cut"],
)
def test_nonsense_changes_nothing(book: PriceBook, tmp_path: Path, nonsense: bytes) -> None:
    redis, file = Redis(), tmp_path / "prices.json"
    watch = watch_of(redis, book, file)
    redis.found = text_of((-1000, 5))
    asyncio.run(watch.begin())
    redis.found = nonsense
    asyncio.run(watch.begin())
    assert book["p"].input == 5
    file.write_bytes(nonsense)
    redis.found = None
    fresh = PriceBook({"p": BASE.price_list()})
    asyncio.run(watch_of(redis, fresh, file).begin())
    assert fresh["p"].input == 1


def test_a_file_that_cannot_be_is_no_reason_to_fail(book: PriceBook, tmp_path: Path) -> None:
    redis = Redis()
    redis.found = text_of((-1000, 5))
    asyncio.run(watch_of(redis, book, tmp_path / "nowhere" / "prices.json").begin())
    assert book["p"].input == 5
    redis.found = None
    asyncio.run(watch_of(redis, book, tmp_path).begin())  # a folder
    assert book["p"].input == 5
