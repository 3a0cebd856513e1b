"""Equal requests run once, in one router and across two, whoever leaves, fails or dies meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from redis.asyncio import Redis

from pointsman.contracts.modes import Mode
from pointsman.contracts.names import Header
from pointsman.router.exchange import Exchange
from pointsman.router.response_cache import flight, waiter
from pointsman.store import response_cache as store
from support.recalls import COST, Router, client_of, ended, headers_of, said, until

Play = Callable[[Any], None]


def test_equal_requests_run_once_and_are_billed_their_share(play: Play) -> None:
    async def scenario(here: Router, there: Router, redis: Redis) -> None:
        crowd = [here.ask() for _ in range(5)]
        (first,) = await here.asked()
        here.answer(first)
        await ended(*crowd)
        later = here.ask()  # from the process's own memory: at once
        elsewhere = there.ask()  # from Redis
        await ended(later, elsewhere)
        assert {said(one) for one in (*crowd, later, elsewhere)} == {"Because."}
        assert len(here.engine.asked) == 1
        assert not there.engine.asked
        assert [headers_of(one)[Header.CACHE] for one in crowd] == ["miss", "hit", "hit", "hit", "hit"]
        assert headers_of(elsewhere)[Header.CACHE] == "hit"
        assert sorted(here.books.settled) == [(200, COST // 4)] * 5 + [(200, COST)]
        assert there.books.settled == [(200, COST // 4)]
        usage = orjson.loads(client_of(elsewhere).sent)["usage"]
        assert (usage["prompt_tokens"], usage["completion_tokens"]) == (10, 4)
        assert orjson.loads(client_of(elsewhere).sent)["id"] == elsewhere.rid + "1"  # its own, not the first one's
        assert headers_of(elsewhere)["x-pointsman-cost-usd"] == f"0.{COST // 4:09d}"

    play(scenario)


def test_nobody_gets_the_answer_of_another_tenant_but_of_his_own_group(play: Play) -> None:
    async def scenario(here: Router, there: Router, redis: Redis) -> None:
        asked = [here.ask(tenant=name) for name in ("one", "two", "left", "right", "off")]
        await here.asked(4)  # the last two share one
        await asyncio.sleep(0.05)
        working = list(here.engine.asked)
        assert {one.tenant.name for one in working if one.tenant} == {"one", "two", "left", "off"}
        for exchange in working:
            assert exchange.tenant is not None
            here.answer(exchange, f"for {exchange.tenant.name}")
        await ended(*asked)
        assert [said(one) for one in asked] == ["for one", "for two", "for left", "for left", "for off"]
        assert Header.CACHE not in headers_of(asked[-1])
        assert here.books.settled.count((200, COST)) == 5  # the group's other member pays all of it by its own rule

    play(scenario)


def test_only_what_is_the_same_each_time_is_kept_unless_the_client_says_so(play: Play) -> None:
    async def scenario(here: Router, there: Router, redis: Redis) -> None:
        async def answered(text: str, *, control: str = "", **body: Any) -> str:
            exchange = here.ask(headers={Header.CACHE_CONTROL: control} if control else None, **body)
            before = len(here.engine.asked)
            await until(lambda: client_of(exchange).ended or exchange in here.engine.asked[before - 1 :])
            if not client_of(exchange).ended:
                here.answer(exchange, text)
            return f"{headers_of(exchange).get(Header.CACHE)}: {said(exchange)}"

        assert await answered("sampled", temperature=0.7) == "None: sampled"
        assert await answered("again", temperature=0.7) == "None: again"
        assert await answered("seeded", temperature=0.7, seed=1) == "miss: seeded"
        assert await answered("other", temperature=0.7, seed=1) == "hit: seeded"
        assert await answered("forced", temperature=0.7, control="force") == "miss: forced"
        assert await answered("other", temperature=0.7, control="force") == "hit: forced"
        assert await answered("past it", temperature=0.7, seed=1, control="bypass") == "bypass: past it"
        assert await answered("fresh", temperature=0.7, seed=1, control="refresh") == "miss: fresh"
        assert await answered("other", temperature=0.7, seed=1) == "hit: fresh"
        assert await answered("thought", temperature=0.7, seed=1, mode=Mode.THINK) == "miss: thought"
        wrong = here.ask(headers={Header.CACHE_CONTROL: "no-store"})
        assert client_of(wrong).status == 400
        assert orjson.loads(client_of(wrong).sent)["error"]["param"] == Header.CACHE_CONTROL

    play(scenario)


def test_a_leader_whose_client_leaves_is_worked_on_as_long_as_somebody_waits(play: Play) -> None:
    async def scenario(here: Router, there: Router, redis: Redis) -> None:
        leader, follower = here.ask(), here.ask()
        (working,) = await here.asked()
        assert working is leader
        here.pipeline.abandon(leader)
        assert not here.engine.stopped
        here.answer(leader)
        await ended(follower)
        assert said(follower) == "Because."
        assert not client_of(leader).ended
        assert sorted(here.books.settled) == [(200, COST // 4), (499, COST)]

        leader, follower = here.ask("And now?"), here.ask("And now?")
        await here.asked(2)
        here.pipeline.abandon(leader)
        here.pipeline.abandon(follower)  # now nobody wants it
        assert here.engine.stopped == [leader]
        assert here.books.settled[2:] == [(499, 0), (499, 0)]

        alone, far = here.ask("Who?"), None
        await here.asked(3)
        far = there.ask("Who?")
        await asyncio.sleep(0.05)
        assert not there.engine.asked  # it waits for the other router
        here.pipeline.abandon(alone)
        assert here.engine.stopped == [leader, alone]
        (taken_over,) = await there.asked()
        there.answer(taken_over, "Me.")
        await ended(far)
        assert said(far) == "Me."

    play(scenario)


def test_where_a_leader_fails_the_others_run_by_themselves(play: Play) -> None:
    async def scenario(here: Router, there: Router, redis: Redis) -> None:
        leader, *others = [here.ask() for _ in range(3)]
        await here.asked()
        here.fail(leader)
        assert client_of(leader).status == 502
        working = (await here.asked(3))[1:]
        assert set(working) == set(others)
        for number, exchange in enumerate(working):
            here.answer(exchange, f"try {number}")
        await ended(*others)
        assert {said(one) for one in others} == {"try 0", "try 1"}
        assert {headers_of(one)[Header.CACHE] for one in others} == {"miss"}
        assert await redis.keys("pointsman:answer:*") == []

    play(scenario)


def test_streams_are_shared_as_they_come_and_replayed_as_they_were(play: Play) -> None:
    async def scenario(here: Router, there: Router, redis: Redis) -> None:
        usage = {"stream": True, "stream_options": {"include_usage": True}}
        leader = here.ask(**usage)
        await here.asked()
        early = here.ask(stream=True)
        here.begin_stream(leader, "one ")
        here.stream(leader, "two ", "three ")
        late = here.ask(**usage)
        assert client_of(late).sent == client_of(early).sent.replace(early.rid.encode(), late.rid.encode())
        assert b"three" in client_of(late).sent  # before the end has come
        here.pipeline.abandon(leader)
        here.stream(leader, "four ", "five")
        here.end_stream(leader)
        await ended(early, late)
        later, far, whole = here.ask(**usage), there.ask(stream=True), here.ask()
        await ended(later, far)
        assert {said(one) for one in (early, late, later, far)} == {"one two three four five"}
        assert b'"usage"' in client_of(late).sent
        assert b'"usage"' not in client_of(early).sent  # who did not ask for it is not told
        assert leader.rid.encode() not in client_of(far).sent
        assert (await here.asked(2))[1] is whole  # a stream's record is no whole answer
        here.answer(whole)
        assert headers_of(far)[Header.CACHE] == headers_of(late)[Header.CACHE] == "hit"
        assert sorted(here.books.settled) == [(200, COST // 4)] * 3 + [(200, COST), (499, COST)]

    play(scenario)


def test_others_get_their_turn_while_many_are_given_long_answers(play: Play) -> None:
    class Turns:
        """How often the event loop comes round while `answers` are given."""

        def __init__(self, *answers: Exchange) -> None:
            self.answers, self.seen = answers, 0

        async def count(self) -> int:
            given = -1
            while given < len(self.answers):
                ended = sum(client_of(answer).ended for answer in self.answers)
                self.seen += 0 < ended < len(self.answers)
                given = ended
                await asyncio.sleep(0)
            return self.seen

    long = "Because. " * 180_000

    async def scenario(here: Router, there: Router, redis: Redis) -> None:
        for number in range(40):
            first = here.ask(f"{number}?")
            here.answer((await here.asked(number + 1))[-1], long)
            await ended(first)
        await until(lambda: not here.answers.shared._writes)
        await asyncio.sleep(0.1)
        assert await Turns(*(there.ask(f"{number}?") for number in range(40))).count() >= 3
        crowd = [here.ask("All of you?") for _ in range(100)]
        here.answer((await here.asked(41))[-1], long)
        assert await Turns(*crowd).count() >= 3
        assert {said(one) for one in crowd} == {long}

    play(scenario)


def test_a_stream_that_breaks_ends_with_its_error_for_all_that_have_seen_of_it(play: Play) -> None:
    async def scenario(here: Router, there: Router, redis: Redis) -> None:
        leader, follower = here.ask(stream=True), here.ask(stream=True)
        await here.asked()
        here.begin_stream(leader, "one ")
        here.fail(leader)
        for exchange in (leader, follower):
            error, done, _ = client_of(exchange).sent.split(b"\n\n")[1:]
            assert orjson.loads(error.removeprefix(b"data: "))["error"]["code"] == "engine_failed"
            assert done == b"data: [DONE]"
        assert sorted(here.books.settled) == [(502, 0), (502, 0)]

    play(scenario)


def test_a_long_stream_goes_to_those_that_wait_and_is_not_kept(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flight, "LARGEST_BODY", 1000)

    async def scenario(here: Router, there: Router, redis: Redis) -> None:
        leader, follower = here.ask(stream=True), here.ask(stream=True)
        await here.asked()
        here.begin_stream(leader, "one ")
        here.stream(leader, *["word " for _ in range(20)])
        newcomer = here.ask(stream=True)  # which can't be given what came before
        assert (await here.asked(2))[1] is newcomer
        here.end_stream(leader)
        assert said(leader) == said(follower) == "one " + 20 * "word "
        here.begin_stream(newcomer, "short")
        here.end_stream(newcomer)
        again = here.ask(stream=True)
        await ended(again)
        assert said(again) == "short"

        here.answers.most_recording = 300  # of all streams together
        asked = len(here.engine.asked)
        first, second = here.ask("first", stream=True), here.ask("second", stream=True)
        await here.asked(asked + 2)
        for exchange in (first, second):
            here.begin_stream(exchange, "one ")
            here.stream(exchange, "two")
        for exchange in (first, second):
            here.end_stream(exchange)
        assert said(first) == said(second) == "one two"
        assert here.answers.recording == 0
        kept, lost = here.ask("first", stream=True), here.ask("second", stream=True)
        await here.asked(asked + 3)
        assert client_of(kept).ended
        assert here.engine.asked[-1] is lost

    play(scenario)


def test_who_reads_slowly_keeps_nothing_from_those_that_read_fast(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flight, "LARGEST_BODY", 1000)

    async def scenario(here: Router, there: Router, redis: Redis) -> None:
        held_back = here.engine.held_back
        leader = here.ask(stream=True)
        await here.asked()
        here.begin_stream(leader, "one ")
        leader.pause()
        assert held_back == {leader}  # nobody else wants it
        follower = here.ask(stream=True)
        assert not held_back
        here.stream(leader, "two ")
        assert b"two" in client_of(follower).sent
        follower.pause()
        assert not held_back  # it is recorded, so that nothing piles up that would not be kept anyway
        here.pipeline.abandon(follower)
        assert held_back == {leader}
        second, third = here.ask(stream=True), here.ask(stream=True)
        second.pause()
        assert not held_back
        here.stream(leader, *["word " for _ in range(20)])
        assert held_back == {leader}  # too long to be recorded: now the slowest sets the pace
        leader.resume()
        assert held_back == {leader}
        second.resume()
        assert not held_back
        third.pause()
        assert held_back == {leader}
        here.pipeline.abandon(leader)  # whoever waits has the work go on
        assert held_back == {leader}
        third.resume()
        here.end_stream(leader)
        assert said(second) == said(third) == "one two " + 20 * "word "
        assert not held_back

    play(scenario)


def test_across_routers_one_works_and_a_dead_one_is_replaced(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "FLIGHT_TTL", 2.0)

    async def scenario(here: Router, there: Router, redis: Redis) -> None:
        near = here.ask()
        await here.asked()
        far = [there.ask(), there.ask()]
        await asyncio.sleep(2.5)  # longer than a flight lasts that nobody renews
        assert not there.engine.asked
        here.answer(near)
        await ended(*far)
        assert [said(one) for one in far] == ["Because."] * 2

        here.ask("And now?")
        await here.asked(2)
        await here.die()
        left = there.ask("And now?")
        there.answer((await there.asked())[0], "Now.")
        await ended(left)
        assert said(left) == "Now."
        await here.begin()

    play(scenario)


def test_nobody_waits_for_ever(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiter, "PATIENCE", 1.0)

    async def scenario(here: Router, there: Router, redis: Redis) -> None:
        here.ask()
        await here.asked()
        follower, far = here.ask(), there.ask()
        keyed = {"headers": {Header.IDEMPOTENCY_KEY: "k"}}
        here.ask(**keyed)
        await here.asked(2)
        second = here.ask(**keyed)
        (impatient,) = (await here.asked(3))[2:]
        assert impatient is follower
        assert await there.asked() == [far]
        await ended(second)
        assert client_of(second).status == 409
        assert orjson.loads(client_of(second).sent)["error"]["param"] == Header.IDEMPOTENCY_KEY
        for exchange in here.engine.asked:
            here.answer(exchange)
        there.answer(far)

    play(scenario)
