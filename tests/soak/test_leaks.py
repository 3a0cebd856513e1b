"""Fifty thousand mixed requests leave nothing behind, and every one of them is in the books.

What is left is counted in four ways: open sockets of the router by who is at the other end, live objects inside
it (unfinished asyncio tasks among them, see `observed_router.py`), its memory, and its own and the engines' gauges.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from time import monotonic

import pytest
import uvloop

from pointsman.contracts.names import Metric
from soak.gateways import SoakGateway
from soak.mix import COPIES, GOOD, MAX_BODY, POOLS, RUDE, Mix, Tally
from soak.rest import Rest, at_rest
from support.gateway import sample_sum, wait_for

CLIENTS = 64
"""Connections at a time."""


@pytest.fixture
def requests(short: bool) -> int:
    return 5_000 if short else 50_000


@pytest.fixture
def growth_bound(short: bool) -> float:
    """MiB that the router may grow by after the warm-up."""
    return 4.0 if short else 8.0


def test_mixed_requests_leave_nothing_behind(
    folder: Path, requests: int, growth_bound: float, say: Callable[[str, object], None]
) -> None:
    tenants = [{"name": GOOD}, {"name": RUDE}]
    router = {"max_body_bytes": MAX_BODY}
    with SoakGateway(folder, observed=True, pools=POOLS, copies=COPIES, tenants=tenants, router=router) as gateway:
        warm_up = load(gateway, requests // 2, seed=1)
        before = at_rest(gateway)
        counted_before = gateway.metrics()

        began = monotonic()
        tally = load(gateway, requests, seed=2)
        say("requests", f"{tally.requests} after {warm_up.requests} to warm up, {CLIENTS} at a time")
        say("requests/s", f"{tally.requests / (monotonic() - began):.0f}")
        say("sessions", ", ".join(f"{name} {count}" for name, count in sorted(tally.sessions.items())))
        after = at_rest(gateway, before)
        for what, value in after.beside(before).items():
            say(what, value)
        say("bound of the growth of memory (MiB)", growth_bound)
        say("sessions that went wrong", Counter(tally.wrong) or "none")

        assert after.sockets["clients"] == 0
        assert after.like(before)
        assert after.memory - before.memory < growth_bound
        check_books(tally, counted_before, gateway.metrics(), say)

        # Without engines the idle connections to them must go as well; nothing else is left but what always is.
        for pool in gateway.engines.values():
            for engine in pool:
                engine.process.stop()
        wait_for(lambda: gateway.sockets()["engines"] == 0, "the connections to engines to end")
        at_end = Rest(gateway)
        say("router's sockets without engines", dict(at_end.sockets))
        assert at_end.own_files == before.own_files
        assert gateway.router.popen.poll() is None
        assert tally.wrong == []


def load(gateway: SoakGateway, requests: int, *, seed: int) -> Tally:
    """Send about `requests` mixed requests."""
    mix = Mix(gateway.port, gateway.keys, seed=seed)
    uvloop.run(mix.run(until=lambda: mix.tally.requests >= requests, clients=CLIENTS))
    return mix.tally


def check_books(tally: Tally, before: str, after: str, say: Callable[[str, object], None]) -> None:
    """What the counters say of the good tenant is what it read; of the rude one, what it may have caused."""

    def counted(name: str, **labels: str) -> int:
        return round(sample_sum(after, name, **labels) - sample_sum(before, name, **labels))

    good = tally.sent[GOOD]
    say("requests of the good tenant made, counted", f"{good}, {counted(Metric.REQUESTS, tenant=GOOD)}")
    assert counted(Metric.REQUESTS, tenant=GOOD) == good
    assert counted(Metric.REQUESTS, tenant="", status="401") == tally.sent[""]
    for (tenant, model, status), count in sorted(tally.statuses.items()):
        if tenant == GOOD:
            labels = {"tenant": GOOD, "model": model, "status": str(status)}
            say(
                f"status {status}, model {model or 'not known'}: read, counted",
                f"{count}, {counted(Metric.REQUESTS, **labels)}",
            )
            assert counted(Metric.REQUESTS, **labels) == count
    read_whole = sum(count for (tenant, _, _), count in tally.statuses.items() if tenant == RUDE)
    rude = counted(Metric.REQUESTS, tenant=RUDE)
    say("requests of the rude tenant read whole, counted, sent", f"{read_whole}, {rude}, {tally.sent[RUDE]}")
    assert read_whole <= rude <= tally.sent[RUDE]
    for (mode, token_class), tokens in sorted(tally.tokens.items()):
        labels = {"tenant": GOOD, "model": "sound", "mode": mode, "token_class": token_class}
        say(f"tokens read, counted: {mode}, {token_class}", f"{tokens}, {counted(Metric.TOKENS, **labels)}")
        assert counted(Metric.TOKENS, **labels) == tokens
    assert sum(tally.tokens.values()) > 0
    assert counted(Metric.ESTIMATED, tenant=GOOD, model="sound") == 0
