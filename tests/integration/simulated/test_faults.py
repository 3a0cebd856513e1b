"""Each fault as a client meets it, and that it strikes exactly the requests it was ordered for."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest

from behaviour.engine import CHAT, EngineUnderTest, eventually
from behaviour.simulated_replica import SimulatedReplica, flags

PROMPT = "Tell me something."


def whole(engine: EngineUnderTest, timeout: float = 60) -> httpx.Response:
    return httpx.post(
        engine.base_url + CHAT, json=engine.chat_body(PROMPT), headers=engine.headers, timeout=timeout
    )


def streamed(engine: EngineUnderTest, timeout: float = 60) -> tuple[list[str], httpx.TransportError | None]:
    """The events of a stream, and the error of the connection that ended it, if one did."""
    events = []
    body = {**engine.chat_body(PROMPT), "stream": True, "stream_options": {"include_usage": True}}
    call = httpx.stream("POST", engine.base_url + CHAT, json=body, headers=engine.headers, timeout=timeout)
    try:
        with call as response:
            for line in response.iter_lines():
                if line:
                    events.append(line)  # noqa: PERF401, what came before an error must be kept
    except httpx.TransportError as error:
        return events, error
    return events, None


def said(events: list[str]) -> int:
    """Tokens in `events`: all but the first, which only carries the role."""
    return sum('"content":"' in event for event in events) - 1


@pytest.mark.parametrize("status", [429, 500, 503])
def test_error(replica: SimulatedReplica, plain: EngineUnderTest, status: int) -> None:
    replica.order({"kind": "error", "status": status, "times": 2})
    for _ in range(2):
        response = whole(plain)
        assert response.status_code == status
        assert response.json()["code"] == status
    assert whole(plain).status_code == 200


@pytest.mark.parametrize("kind", ["die", "garbage"])
def test_no_http_at_all(replica: SimulatedReplica, plain: EngineUnderTest, kind: str) -> None:
    replica.order({"kind": kind, "times": 2})
    with pytest.raises(httpx.RemoteProtocolError if kind == "garbage" else httpx.TransportError):
        whole(plain)
    events, error = streamed(plain)
    assert events == []
    assert error is not None
    assert whole(plain).status_code == 200


def test_a_hang_says_nothing_until_the_client_gives_up(replica: SimulatedReplica, plain: EngineUnderTest) -> None:
    replica.order({"kind": "hang", "times": 2})
    with pytest.raises(httpx.ReadTimeout):
        whole(plain, timeout=2)
    events, error = streamed(plain, timeout=2)
    assert (events, type(error)) == ([], httpx.ReadTimeout)
    assert eventually(lambda: [item["outcome"] for item in replica.requests()] == ["faulted"] * 2, within=60)


def test_a_hang_with_an_end_answers_after_it(replica: SimulatedReplica, plain: EngineUnderTest) -> None:
    replica.order({"kind": "hang", "seconds": 0.5})
    began = time.monotonic()
    assert whole(plain).status_code == 200
    assert time.monotonic() - began >= 0.5


def test_a_hang_in_midstream_holds_back_the_rest(replica: SimulatedReplica, plain: EngineUnderTest) -> None:
    replica.order({"kind": "hang_midstream", "after_tokens": 3})
    events, error = streamed(plain, timeout=2)
    assert said(events) == 3
    assert isinstance(error, httpx.ReadTimeout)


def test_a_hang_in_midstream_with_an_end_goes_on(replica: SimulatedReplica, plain: EngineUnderTest) -> None:
    replica.order({"kind": "hang_midstream", "after_tokens": 3, "seconds": 0.5})
    began = time.monotonic()
    events, error = streamed(plain)
    assert time.monotonic() - began >= 0.5
    assert (said(events), events[-1], error) == (12, "data: [DONE]", None)


@pytest.mark.parametrize("kind", ["die_midstream", "garbage_midstream"])
@pytest.mark.parametrize("after", [0, 1, 5])
def test_a_stream_breaks_after_so_many_tokens(
    replica: SimulatedReplica, plain: EngineUnderTest, kind: str, after: int
) -> None:
    replica.order({"kind": kind, "after_tokens": after})
    events, error = streamed(plain)
    assert max(said(events), 0) == after
    assert isinstance(error, httpx.RemoteProtocolError | httpx.ReadError)


def test_a_fault_later_than_the_answer_is_long_strikes_at_its_end(
    replica: SimulatedReplica, plain: EngineUnderTest
) -> None:
    replica.order({"kind": "die_midstream", "after_tokens": 10_000})
    events, error = streamed(plain)
    assert said(events) == 12
    assert "data: [DONE]" not in events
    assert error is not None


def test_an_error_in_midstream_is_sglangs_event(replica: SimulatedReplica, plain: EngineUnderTest) -> None:
    replica.order({"kind": "error_midstream", "after_tokens": 4})
    events, error = streamed(plain)
    assert error is None
    assert said(events) == 4
    assert events[-2].startswith('data: {"error":{"object":"error","message":')
    assert events[-1] == "data: [DONE]"


def test_a_truncated_stream_ends_in_order_and_too_early(replica: SimulatedReplica, plain: EngineUnderTest) -> None:
    replica.order({"kind": "truncate", "after_tokens": 4})
    events, error = streamed(plain)
    assert error is None
    assert said(events) == 4
    assert '"finish_reason":null' in events[-1]


def test_a_garbage_body_is_http_and_no_json(replica: SimulatedReplica, plain: EngineUnderTest) -> None:
    replica.order({"kind": "garbage_body", "times": 2})
    response = whole(plain)
    assert response.status_code == 200
    with pytest.raises(ValueError):  # noqa: PT011, undecodable or no JSON, either will do
        response.json()
    events, error = streamed(plain)
    assert error is None
    assert events
    assert not any("chat.completion" in event for event in events)


@pytest.mark.parametrize("kind", ["die_midstream", "garbage_midstream", "truncate"])
def test_a_whole_answer_breaks_in_its_middle(replica: SimulatedReplica, plain: EngineUnderTest, kind: str) -> None:
    replica.order({"kind": kind})
    try:
        text = whole(plain).text
    except httpx.RemoteProtocolError:
        return
    assert kind == "truncate"
    assert text.startswith('{"id":')
    assert not text.endswith("}")


def test_slow_takes_as_many_times_longer(replica: SimulatedReplica, plain: EngineUnderTest) -> None:
    replica.order({"kind": "slow", "factor": 100})
    times = []
    for _ in range(2):
        began = time.monotonic()
        assert whole(plain).status_code == 200
        times.append(time.monotonic() - began)
    assert times[0] >= 100 * 12 / 500
    assert times[1] < times[0]


def test_faults_strike_in_order_and_then_no_more(replica: SimulatedReplica, plain: EngineUnderTest) -> None:
    replica.order({"kind": "error", "status": 500}, {"kind": "slow", "factor": 1, "times": 2})
    replica.order({"kind": "error", "status": 503})
    assert [whole(plain).status_code for _ in range(6)] == [500, 200, 200, 503, 200, 200]
    assert [item["fault"] for item in replica.requests()] == ["error", "slow", "slow", "error", None, None]


def test_a_refused_post_uses_up_no_fault(replica: SimulatedReplica, plain: EngineUnderTest) -> None:
    replica.order({"kind": "error", "status": 503})
    assert httpx.post(plain.base_url + CHAT, json=plain.chat_body(PROMPT)).status_code == 403
    assert [whole(plain).status_code for _ in range(2)] == [503, 200]


def test_rates_from_the_command_line_strike_alike_with_the_same_seed() -> None:
    outcomes = []
    for _ in range(2):
        options = flags(decode_speed="inf", fault="error=0.4", fault_seed=5)
        with SimulatedReplica(*options) as replica, httpx.Client(headers=replica.headers) as client:
            body: dict[str, Any] = {"messages": [{"role": "user", "content": PROMPT}], "max_tokens": 1}
            outcomes.append([client.post(replica.base_url + CHAT, json=body).status_code for _ in range(60)])
    assert outcomes[0] == outcomes[1]
    assert 12 < outcomes[0].count(500) < 36


def test_health_can_be_switched_off(replica: SimulatedReplica, plain: EngineUnderTest) -> None:
    replica.order(healthy=False)
    assert plain.get("/health").status_code == 503
    assert whole(plain).status_code == 200
    replica.clear_faults()
    assert plain.get("/health").status_code == 200


@pytest.mark.parametrize("path", ["/simulated/faults", "/simulated/requests"])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_orders_and_records_need_the_secret(plain: EngineUnderTest, path: str, method: str) -> None:
    assert httpx.request(method, plain.base_url + path).status_code == 403


def test_an_order_that_makes_no_sense_is_400(replica: SimulatedReplica, plain: EngineUnderTest) -> None:
    for wrong in ({"next": [{"kind": "explode"}]}, {"rates": {"die": 0.6, "hang": 0.6}}, {"nxt": []}):
        response = plain.post("/simulated/faults", wrong)
        assert response.status_code == 400, wrong
        assert response.json()["object"] == "error"
    assert whole(plain).status_code == 200
