"""What the engine received: a test can rely on it, and it keeps nothing unless told to."""

from __future__ import annotations

import httpx
import pytest

from behaviour.engine import CHAT, COMPLETIONS, EngineUnderTest, eventually
from behaviour.simulated_replica import SimulatedReplica, flags
from pointsman.contracts.modes import Mode
from pointsman.contracts.names import Header


def test_bodies_names_of_headers_and_outcomes_are_kept(replica: SimulatedReplica, plain: EngineUnderTest) -> None:
    plain.chat("Hello", max_tokens=2)
    plain.post(COMPLETIONS, {"model": "smollm2"})
    first, second = replica.requests()
    assert (first["path"], first["outcome"], first["fault"]) == (CHAT, "answered", None)
    assert first["body"] == plain.chat_body("Hello", max_tokens=2)
    assert (second["path"], second["outcome"]) == (COMPLETIONS, "refused")
    assert Header.REPLICA_SECRET in first["headers"]
    assert replica.secret not in str(first)
    assert replica.received() == 2


def test_what_was_refused_for_its_secret_is_not_received(replica: SimulatedReplica, plain: EngineUnderTest) -> None:
    assert httpx.post(plain.base_url + CHAT, json=plain.chat_body("Hello")).status_code == 403
    assert replica.received() == 0


def test_a_client_that_leaves_aborts(replica: SimulatedReplica, plain: EngineUnderTest) -> None:
    with plain.open_stream(CHAT, plain.chat_body("Hello", max_tokens=4000, ignore_eos=True)) as lines:
        next(lines)
        assert [item["outcome"] for item in replica.requests()] == ["running"]
    assert eventually(lambda: [item["outcome"] for item in replica.requests()] == ["aborted"], within=60)
    assert plain.metric("sglang:num_running_reqs") == 0


def test_a_client_that_leaves_a_whole_answer_aborts_it_too(
    replica: SimulatedReplica, plain: EngineUnderTest
) -> None:
    body = plain.chat_body("Hello", max_tokens=4000, ignore_eos=True)
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(plain.base_url + CHAT, json=body, headers=plain.headers, timeout=1)
    assert eventually(lambda: [item["outcome"] for item in replica.requests()] == ["aborted"], within=60)
    assert plain.metric("sglang:num_running_reqs") == 0


def test_by_default_nothing_is_kept_but_the_count() -> None:
    with SimulatedReplica(*flags(keep_requests=0, decode_speed="inf")) as replica:
        engine = EngineUnderTest(replica.base_url, replica.secret, "simulated", Mode.NO_THINK)
        engine.chat("Hello")
        assert (replica.received(), replica.requests()) == (1, [])
