"""Parts are killed and started again under mixed load: every request ends well, and afterwards all is as before.

To end well is to end within the timeouts with a well-formed answer or a well-formed error, never in the mode that
was not asked for. The clients read everything, so the books must agree to the last request.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from pointsman.contracts.names import Metric
from soak.gateways import SoakGateway
from soak.mix import GOOD, MAX_BODY, RUDE, Mix, simulated
from soak.rest import at_rest
from support.gateway import sample_sum, wait_for

TIMEOUTS: dict[str, Any] = {"first_byte_timeout": 6, "answer_timeout": 6, "idle_timeout": 6, "place_timeout": 12}
POOLS = [
    simulated("fast", "sound", "no_think", decode_speed=300, answer_tokens="5:40", **TIMEOUTS),
    simulated(
        *("deep", "sound", "think"), decode_speed=300, answer_tokens="5:20", thinking_tokens="5:20", **TIMEOUTS
    ),
]
COPIES = {"fast": 3, "deep": 2}
CLIENTS = 48
PAUSE = 1.5
"""Seconds that a part stays away, and that it is given afterwards."""


@pytest.fixture
def rounds(short: bool) -> int:
    return 1 if short else 4


def test_parts_that_are_killed_harm_no_request(
    folder: Path, rounds: int, say: Callable[[str, object], None]
) -> None:
    tenants = [{"name": GOOD}, {"name": RUDE}]
    router = {"max_body_bytes": MAX_BODY}
    with SoakGateway(folder, observed=True, pools=POOLS, copies=COPIES, tenants=tenants, router=router) as gateway:
        warm_up = Mix(gateway.port, gateway.keys, seed=1, faults=False)
        uvloop.run(warm_up.run(until=lambda: warm_up.tally.requests >= 1000, clients=CLIENTS))
        before = at_rest(gateway)
        counted_before = gateway.metrics()

        mix = Mix(gateway.port, gateway.keys, seed=2, faults=False)
        uvloop.run(load_and_kill(gateway, mix, rounds))
        say("requests", mix.tally.requests)
        statuses: Counter[int] = Counter()
        for (_, _, status), count in mix.tally.statuses.items():
            statuses[status] += count
        say("answers by status", dict(sorted(statuses.items())))
        say("sessions that went wrong", Counter(mix.tally.wrong) or "none")

        wait_for(lambda: is_whole(gateway), "every replica to be back")
        after = at_rest(gateway, before)
        counted = round(
            sample_sum(gateway.metrics(), Metric.REQUESTS, tenant=GOOD)
            - sample_sum(counted_before, Metric.REQUESTS, tenant=GOOD)
        )
        say("requests made, counted", f"{mix.tally.sent[GOOD]}, {counted}")
        for what, value in after.beside(before).items():
            say(what, value)

        assert mix.tally.wrong == []
        assert statuses.keys() <= {200, 400, 401, 404, 502, 503, 504}
        assert statuses[200] > 0.6 * sum(statuses.values())
        assert counted == mix.tally.sent[GOOD]
        assert after.like(before)
        assert gateway.router.popen.poll() is None
        assert gateway.readyz()["status"] == "ready"


async def load_and_kill(gateway: SoakGateway, mix: Mix, rounds: int) -> None:
    """Mixed load for as long as it takes to kill every part `rounds` times."""
    killing = asyncio.create_task(asyncio.to_thread(kill_each_part, gateway, rounds))
    await mix.run(until=killing.done, clients=CLIENTS)
    await killing


def kill_each_part(gateway: SoakGateway, rounds: int) -> None:
    for _ in range(rounds):
        time.sleep(PAUSE)
        replace(gateway, "fast", 1)  # one of several
        replace(gateway, "deep", len(gateway.engines["deep"]))  # all there are: requests wait
        freeze(gateway, "fast")
        gateway.valkey.stop(signal.SIGKILL)
        time.sleep(PAUSE)
        replace(gateway, "fast", 1, starts=0)  # one more dies while its registration can't expire
        gateway.start_valkey()
        gateway.start_engine("fast")
        time.sleep(PAUSE)
        gateway.admin.stop(signal.SIGKILL)
        time.sleep(PAUSE)
        gateway.start_admin()
        wait_for(lambda: is_whole(gateway), "every part to be back")


def replace(gateway: SoakGateway, pool: str, number: int, *, starts: int | None = None) -> None:
    """Kill the oldest `number` replicas of `pool`, and start as many, or `starts`, after a while."""
    victims, gateway.engines[pool] = gateway.engines[pool][:number], gateway.engines[pool][number:]
    for victim in victims:
        victim.process.stop(signal.SIGKILL)
    time.sleep(PAUSE)
    for _ in range(number if starts is None else starts):
        gateway.start_engine(pool)
    time.sleep(PAUSE)


def freeze(gateway: SoakGateway, pool: str) -> None:
    """A replica that neither answers nor dies, for longer than its pool's timeouts."""
    frozen = gateway.engines[pool][-1].process.popen
    frozen.send_signal(signal.SIGSTOP)
    time.sleep(TIMEOUTS["answer_timeout"] + PAUSE)
    frozen.send_signal(signal.SIGCONT)
    time.sleep(PAUSE)


def is_whole(gateway: SoakGateway) -> bool:
    """Whether nothing is missing: each pool has all its replicas, and the admin process answers."""
    ready = gateway.readyz()
    healthy = {name: pool["healthy"] for name, pool in ready["pools"].items()}
    with gateway.client() as client:
        return ready["status"] == "ready" and healthy == COPIES and client.get("/v1/models").status_code == 200
