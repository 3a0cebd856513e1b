"""`pointsman traffic` at a running gateway: a mix of both modes, bills that agree, an end without loose ends."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from pointsman.contracts.names import Metric
from support import forking
from support.chat import environment
from support.gateway import DEEP, FAST, Gateway, free_port, wait_for
from support.policies import within

SLOW = {
    **FAST,
    "name": "slow",
    "model": "slow",
    "modes": ["no_think", "think"],
    "family": "qwen3",
    "engine_args": {"simulated": {"decode_speed": 4, "answer_tokens": 200}},
}
TENANTS = ({"name": "acme"}, {"name": "globex"}, {"name": "poor", "limits": {"requests_per_minute": 5}})


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with Gateway(tmp_path_factory.mktemp("gw"), pools=[FAST, DEEP, SLOW], tenants=TENANTS) as running:
        yield running


def play(gateway: Gateway, *options: str, tenants: tuple[str, ...]) -> tuple[int, dict[str, Any], str]:
    """Exit code, what was printed as JSON, and the line."""
    keys = [word for tenant in tenants for word in ("--tenant-key", gateway.keys[tenant])]
    said = forking.run(["traffic", "--json", "--url", gateway.url, *keys, *options], env=environment(), timeout=200)
    return said.returncode, json.loads(said.stdout), said.stderr


def cost(gateway: Gateway, tenants: tuple[str, ...]) -> Decimal:
    headers = {"authorization": f"Bearer {gateway.admin_key}"}
    answer = httpx.get(f"{gateway.url}/admin/v1/costs", params={"by": "tenant"}, headers=headers, timeout=60)
    rows = answer.raise_for_status().json()["data"]
    return sum((Decimal(row["cost_usd"]) for row in rows if row["tenant"] in tenants), Decimal(0))


def test_a_mix_is_played_and_every_client_was_told_what_the_ledger_says(gateway: Gateway) -> None:
    tenants = ("acme", "globex")
    options = ("--rate", "30", "--for", "4s", "--at-once", "30", "--feedback", "1", "--model", "smollm2")
    code, told, line = play(gateway, *options, tenants=tenants)
    assert code == 0, told
    assert told["problems"] == {}
    assert told["cut"] == 0
    assert told["asked"] == sum(told["answered"].values())
    assert told["asked"] == sum(gateway.total(Metric.REQUESTS, tenant=tenant, status="200") for tenant in tenants)
    assert 30 < told["asked"] < 180, "30 a second for 4 seconds"
    assert min(told["answered"]["think"], told["answered"]["no_think"]) > told["asked"] / 5
    assert told["feedback"] > 20
    assert re.search(r"answers/s · \d+ tokens/s · 0 running · \d+ think · \d+ no_think · \$0\.\d+", line)
    within(60, lambda: cost(gateway, tenants) == Decimal(told["cost_usd"]))
    assert all(gateway.total(Metric.REQUESTS, tenant=tenant) for tenant in tenants)


def test_refusals_are_counted_by_their_code(gateway: Gateway) -> None:
    options = ("--rate", "200", "--for", "1s", "--at-once", "50", "--model", "smollm2")
    code, told, line = play(gateway, *options, tenants=("poor",))
    assert code == 1
    assert set(told["problems"]) == {"rate_limit_exceeded"}
    assert 5 <= sum(told["answered"].values()) <= 7  # one comes back each twelve seconds
    assert "rate_limit_exceeded" in line


def test_the_first_ctrl_c_ends_it_and_the_second_drops_what_runs(gateway: Gateway, tmp_path: Path) -> None:
    out, err = tmp_path / "out", tmp_path / "err"
    with out.open("wb") as stdout, err.open("wb") as stderr:
        process = forking.start(
            ["traffic", "--json", "--url", gateway.url, "--model", "slow", "--rate", "50", "--at-once", "3"],
            stdout=stdout.fileno(),
            stderr=stderr.fileno(),
            env=environment(POINTSMAN_API_KEY=gateway.keys["acme"]),
        )
    engine = gateway.engines["slow"][0]
    wait_for(lambda: engine.running() == 3, "three answers to run")
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None, "what runs is read to its end"
    process.send_signal(signal.SIGINT)
    begun = time.monotonic()
    assert process.wait(60) == 0
    assert time.monotonic() - begun < 20, "the answers take fifty"
    told = json.loads(out.read_text())
    assert (told["asked"], told["cut"]) == (3, 3)
    wait_for(lambda: engine.running() == 0, "the engine to hear of it")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--model", "unknown"), "There is no model unknown"),
        (("--tenant-key", "pk-wrong"), "does not know this key"),
        (("--url", f"http://127.0.0.1:{free_port()}"), "No router answers"),
    ],
    ids=["model", "key", "router"],
)
def test_what_cannot_be_played_is_said_at_once(gateway: Gateway, options: tuple[str, ...], words: str) -> None:
    env = environment(POINTSMAN_API_KEY=gateway.keys["acme"], POINTSMAN_URL=gateway.url)
    said = forking.run(["traffic", *options], env=env, timeout=200)
    assert said.returncode == 2
    assert words in said.stderr
    assert os.linesep not in said.stderr.strip()
