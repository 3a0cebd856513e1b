"""What lies in Redis is not believed, never outlives what it depends on, and is not waited for."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from time import perf_counter
from typing import Any

import pytest
from redis.asyncio import Redis

from pointsman.contracts.names import Header, Metric, RedisKey
from pointsman.router.response_cache import flight, recorded, shared
from pointsman.router.response_cache.keys import idempotent_scope, scope_of
from pointsman.store import response_cache as store
from pointsman.store.response_cache import ALL, AnswerKey, AnswerStore
from support.gateway import Process
from support.recalls import Router, client_of, ended, headers_of, said, until

Play = Callable[[Any], None]
BIG = "pointsman:answer:*"


async def answered(router: Router, text: str, **asked: Any) -> str:
    """What a request got: how, and the text; the engine would say `text`."""
    exchange = router.ask(**asked)
    await until(lambda: client_of(exchange).ended or exchange in router.engine.asked)
    if not client_of(exchange).ended:
        router.answer(exchange, text)
    return f"{headers_of(exchange).get(Header.CACHE)}: {said(exchange)}"


async def written(redis: Redis, number: int = 1) -> list[bytes]:
    """The names of the answers in Redis, once there are `number`."""
    for _ in range(500):
        if len(names := sorted(await redis.keys(BIG))) >= number:
            return names
        await asyncio.sleep(0.005)
    raise AssertionError(number)


def test_what_others_write_into_redis_is_ignored_and_replaced(play: Play) -> None:
    async def scenario(here: Router, there: Router, redis: Redis) -> None:
        assert await answered(here, "mine") == "miss: mine"
        assert await answered(here, "secret", tenant="two") == "miss: secret"
        first, second = await written(redis, 2)
        mine = first if scope_of("one", None).encode() in first else second
        others = second if mine is first else first
        good, foreign = await redis.get(mine), await redis.get(others)
        flipped = bytes([*good[:-1], good[-1] ^ 1])
        poison = [b"x", flipped, foreign, good[:-1], b"A1" + 16 * b"\0" + good[18:], b"z" * (store.LARGEST + 1)]
        for number, entry in enumerate(poison):
            await redis.set(mine, entry)
            assert await answered(there, f"made {number}") == f"miss: made {number}"
            there.answers.memory.clear()
            await until_set(redis, mine, entry)  # by a good one
            assert await answered(there, "not asked") == f"hit: made {number}"
            there.answers.memory.clear()
        await redis.delete(mine)
        await redis.rpush(mine, "a list")
        assert await answered(there, "again") == "miss: again"
        other = Router(there.metrics._directory / "c", str(there_url(redis)), secret="another instance's")
        await other.begin()
        assert await answered(other, "my own") == "miss: my own"
        await other.end()
        refused = there.metrics.counter(Metric.CACHE_REFUSED, {"reason": "forged"}).value
        assert refused == 5  # the one that was too large was not even read

    play(scenario)


def there_url(redis: Redis) -> str:
    return f"unix://{redis.connection_pool.connection_kwargs['path']}"


async def until_set(redis: Redis, name: bytes, entry: bytes) -> None:
    for _ in range(500):
        if await redis.get(name) not in (None, entry):
            return
        await asyncio.sleep(0.005)
    raise AssertionError(name)


def test_invalid_is_what_was_called_so_whose_version_changed_and_what_is_too_old(play: Play) -> None:
    async def scenario(here: Router, there: Router, redis: Redis) -> None:
        keeper = AnswerStore(redis)
        both = (here, there)

        async def known() -> list[str]:
            return [await answered(one, "new", tenant="left") for one in both]

        async def invalidated(scope: str, model: str | None) -> int:
            await written(redis)
            deleted = await keeper.invalidate(scope, model)
            for one in both:
                await one.answers.shared._follow()
            return deleted

        assert await known() == ["miss: new", "hit: new"]
        assert await invalidated(scope_of("", "shared"), None) == 1
        assert await known() == ["miss: new", "hit: new"]
        assert await invalidated(ALL, "m") == 1
        assert await known() == ["miss: new", "hit: new"]
        assert await invalidated(scope_of("", "shared"), "another model") == 0
        assert await known() == ["hit: new", "hit: new"]
        assert await keeper.usage(ALL) == await keeper.usage(scope_of("", "shared"))
        there.versions = "v2"
        await asyncio.sleep(1.2)
        assert await known() == ["hit: new", "miss: new"]

        working = here.ask("slow one", tenant="left")
        await until(lambda: working in here.engine.asked)
        await invalidated(ALL, None)
        here.answer(working, "late")
        await asyncio.sleep(0.05)
        assert await redis.keys(BIG) == []  # it was made of what is invalid now
        assert (await keeper.usage(ALL)).bytes == 0

        view = there.tenants["two"]
        assert await answered(here, "new", tenant="two") == "miss: new"
        await written(redis)
        view.gone = True
        there.answers.heed(view)  # a tenant was deleted; another one may get its name
        for _ in range(200):
            if not await redis.keys(BIG):
                break
            await asyncio.sleep(0.005)
        await here.answers.shared._follow()
        assert await answered(here, "of another", tenant="two") == "miss: of another"

    play(scenario)


def test_answers_expire_and_take_a_bounded_place(
    play: Play, valkey: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "MOST_OF_SCOPE", 10_000)
    monkeypatch.setattr(store, "MOST_ANSWERS_OF_SCOPE", 5)
    monkeypatch.setattr(store, "MOST", 16_000)

    async def scenario(here: Router, there: Router, redis: Redis) -> None:
        keeper = AnswerStore(redis)

        ttls = itertools.count(60_000, 1000)  # so that none expires at the same time as another

        async def keep(scope: str, number: int, size: int, ttl: int | None = None) -> None:
            key = AnswerKey(scope, f"{number:04x}")
            kept = await keeper.keep(key, b"x" * size, ttl=ttl or next(ttls), model="m", generation=0, claim=b"")
            assert kept

        for number in range(8):
            await keep("aa", number, 1000)
        assert await keeper.usage("aa") == (5, 5000)
        assert min(await redis.keys(BIG)).endswith(b"aa:0003")  # the oldest went
        await keep("aa", 9, 9000)
        assert await keeper.usage("aa") == (2, 10_000)
        await keep("bb", 1, 5000)
        assert await keeper.usage(ALL) == (3, 15_000)
        await keep("cc", 2, 2000)
        assert await keeper.usage(ALL) == (3, 16_000)  # of all answers that went which expires first
        await keep("bb", 1, 3000)  # once more, and shorter
        assert await keeper.usage("bb") == (1, 3000)
        await keep("dd", 1, 100, ttl=20)
        await asyncio.sleep(0.05)
        await keep("ee", 1, 100)
        assert await keeper.usage("dd") == (0, 0)
        names = [name.decode() for name in await redis.keys(BIG)]
        assert {name.split(":")[2] for name in names} == {"aa", "bb", "cc", "ee"}
        sums = await redis.hgetall(RedisKey.ANSWER_SIZES)
        members = [size for name, size in sums.items() if not name.startswith(b"=")]
        assert int(sums[b"="]) == sum(int(size.split()[0]) for size in members)

        monkeypatch.setattr(store, "MOST_ANSWERS_OF_SCOPE", 1000)
        for number in range(250):
            await keep("ff", number, 40)
        large = [
            await keeper.keep(AnswerKey("ff", "ffff"), b"x" * 9990, ttl=999_000, model="m", generation=0, claim=b"")
            for _ in range(3)
        ]
        assert large == [False, False, True]  # a hundred others go at a time
        assert await keeper.usage("ff") == (1, 9990)

        here.tenants["one"].cache = here.tenants["one"].cache.model_copy(update={"ttl_seconds": 2})
        assert await answered(here, "old") == "miss: old"
        assert await answered(here, "new") == "hit: old"
        await asyncio.sleep(2.1)
        assert await answered(here, "new") == "miss: new"

    play(scenario)


def test_a_large_answer_is_packed_and_a_huge_one_not_kept(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "BULKY", 10_000)
    monkeypatch.setattr(recorded, "LARGEST", 100_000)
    monkeypatch.setattr(flight, "LARGEST_BODY", 400_000)

    async def scenario(here: Router, there: Router, redis: Redis) -> None:
        text = "The same words again. " * 10_000
        assert await answered(here, text) == f"miss: {text}"
        (name,) = await written(redis)
        assert await redis.strlen(name) < len(text) / 20
        assert await answered(there, "") == f"hit: {text}"
        noise = "".join(chr(33 + (number * number * 7919 + number // 7) % 90) for number in range(500_000))
        assert (await answered(here, noise, question="huge")).startswith("miss")
        assert (await answered(here, "new", question="huge")) == "miss: new"

    play(scenario)


def test_a_redis_that_does_not_answer_is_left_out_at_once(
    play: Play, valkey: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(here: Router, there: Router, redis: Redis) -> None:
        assert await answered(here, "kept") == "miss: kept"
        monkeypatch.setattr(shared, "SLOW", 0.02)
        monkeypatch.setattr(shared, "PATIENCE", 1.5)
        valkey.popen.send_signal(19)  # SIGSTOP
        try:
            first = there.ask("the first")
            await asyncio.sleep(0.1)
            assert await answered(there, "by itself") == "bypass: by itself"  # and does not even look
            assert first not in there.engine.asked
            await until(lambda: first in there.engine.asked)
            there.answer(first)
            assert headers_of(first)[Header.CACHE] == "bypass"
            began = perf_counter()
            for number in range(50):
                assert await answered(there, "by itself", question=f"{number}") == "bypass: by itself"
            assert perf_counter() - began < 10  # nobody waits for it any more
            keyed = {"headers": {Header.IDEMPOTENCY_KEY: "k"}, "tenant": "off"}
            assert await answered(there, "once", **keyed) == "None: once"
            assert await answered(there, "twice", **keyed) == "hit: once"  # as far as this process goes
        finally:
            valkey.popen.send_signal(18)  # SIGCONT
        await until(lambda: not there.answers.shared.away)
        assert await answered(there, "new") == "hit: kept"

    play(scenario)


def test_a_redis_that_stalls_is_left_alone_for_a_while(
    play: Play, valkey: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(here: Router, there: Router, redis: Redis) -> None:
        assert await answered(here, "kept") == "miss: kept"
        monkeypatch.setattr(shared, "STALLED", 0.05)
        valkey.popen.send_signal(19)  # SIGSTOP
        try:
            first = there.ask("the first")
            await asyncio.sleep(0.2)
        finally:
            valkey.popen.send_signal(18)  # SIGCONT
        await there.asked()
        monkeypatch.setattr(shared, "STALLED", 10.0)
        assert await answered(there, "by itself") == "bypass: by itself"
        there.answer(first, "slow")
        assert headers_of(first)[Header.CACHE] == "miss"
        await until(lambda: not there.answers.shared.slow)
        assert await answered(there, "new") == "hit: kept"

    play(scenario)


def test_an_idempotency_key_stands_for_one_request(play: Play) -> None:
    async def scenario(here: Router, there: Router, redis: Redis) -> None:
        def keyed(name: str, **asked: Any) -> dict[str, Any]:
            return {"headers": {Header.IDEMPOTENCY_KEY: name}, "tenant": "off", "temperature": 1, **asked}

        leader, joined = here.ask(**keyed("k")), here.ask(**keyed("k"))
        await here.asked()
        far = there.ask(**keyed("k"))
        here.pipeline.abandon(leader)  # whoever sends a key means to come back
        here.answer(leader, "once")
        await ended(joined, far)
        again = here.ask(**keyed("k"))
        assert {said(one) for one in (joined, far, again)} == {"once"}
        assert client_of(far).sent == client_of(again).sent
        assert headers_of(again)[Header.REPLAYED] == headers_of(far)[Header.REPLAYED] == "true"
        assert headers_of(again)[Header.CACHE] == "hit"
        assert [cost for _, cost in here.books.settled] == [28 * 1000 - 10 * 1000, 0, 0]
        assert await answered(here, "another's", **keyed("k", tenant="two")) == "bypass: another's"
        for router in (here, there):
            for other in ({"question": "What?"}, {"temperature": 0.5}, {"stream": True}):
                wrong = router.ask(**keyed("k", **other))
                await ended(wrong)
                assert client_of(wrong).status == 422
        assert len(here.engine.asked) == 2
        assert not there.engine.asked

        failing, waiting = here.ask(**keyed("f")), here.ask(**keyed("f"))
        await here.asked(3)
        elsewhere = there.ask(**keyed("f", question="What?"))
        await ended(elsewhere)
        assert client_of(elsewhere).status == 422  # while the first one still runs
        here.fail(failing)
        (retried,) = (await here.asked(4))[3:]
        assert retried is waiting
        here.answer(waiting, "then")
        assert await answered(there, "never", **keyed("f")) == "hit: then"

        stream = here.ask(**keyed("s", stream=True))
        await here.asked(5)
        here.begin_stream(stream, "one ")
        live = here.ask(**keyed("s", stream=True))
        here.stream(stream, "two")
        here.end_stream(stream)
        replayed = there.ask(**keyed("s", stream=True))
        await ended(live, replayed)
        assert client_of(live).sent == client_of(replayed).sent == client_of(stream).sent

        for name in ("", "é", "x" * 256, "a\tb"):
            wrong = here.ask(headers={Header.IDEMPOTENCY_KEY: name}, tenant="off")
            assert client_of(wrong).status == 400
        assert (await AnswerStore(redis).usage(idempotent_scope("off"))).answers == 3

    play(scenario)
