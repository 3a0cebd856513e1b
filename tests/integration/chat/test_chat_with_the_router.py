"""`pointsman chat` against the real router and simulated engines: the stub of the other tests tells no tales."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal

import pytest

from support.chat import chat
from support.gateway import Gateway


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with Gateway(tmp_path_factory.mktemp("gw")) as running:
        yield running


def test_each_track_says_why_and_what_it_cost(gateway: Gateway) -> None:
    questions = "hello\n/think\nhello again\n/no_think\nProve that there are infinitely many primes.\n"
    said = chat("--url", gateway.url, "--json", stdin=questions, key=gateway.keys["demo"])
    assert said.returncode == 0, said.stderr
    predicted, thought, direct = (json.loads(line) for line in said.stdout.splitlines())

    assert (predicted["mode"], predicted["source"], predicted["pool"]) == ("no_think", "predictor", "fast")
    assert float(predicted["probability"]) < float(predicted["threshold"])
    assert (thought["mode"], thought["source"], thought["pool"]) == ("think", "client", "deep")
    assert (direct["mode"], direct["source"], direct["pool"]) == ("no_think", "client", "fast")

    assert thought["thinking"]
    assert not direct["thinking"]
    prices = {pool["name"]: pool["prices"] for pool in gateway.pools}
    for reply in (predicted, thought, direct):
        usage, price = reply["usage"], prices[reply["pool"]]
        cached, thinking = usage["prompt_tokens_details"]["cached_tokens"], usage["reasoning_tokens"]
        dollars = (
            (usage["prompt_tokens"] - cached) * Decimal(str(price["input"]))
            + cached * Decimal(str(price.get("cached_input", price["input"])))
            + thinking * Decimal(str(price.get("reasoning", price["output"])))
            + (usage["completion_tokens"] - thinking) * Decimal(str(price["output"]))
        ) / 1_000_000
        assert Decimal(reply["cost_usd"]) == dollars
        assert reply["finish_reason"] == "stop"


def test_a_wrong_key_and_an_engine_that_dies_are_explained(gateway: Gateway) -> None:
    said = chat("--url", gateway.url, "x", key="pk-wrong")
    assert said.returncode == 2
    assert "does not know this key" in said.stderr

    gateway.engines["fast"][0].faults({"kind": "die_midstream"})
    said = chat("--url", gateway.url, "--mode", "no_think", "x", key=gateway.keys["demo"])
    assert said.returncode == 1
    assert "The answer broke off: The engine failed while it was answering" in said.stderr
