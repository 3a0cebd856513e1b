"""Anthropic's Messages through a real gateway, by Anthropic's own SDK: answers, streams, errors, caches, bills."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx
import pytest

from pointsman.contracts.names import Header
from support.gateway import DEEP, FAST, Gateway, looked_up, wait_for

KIMI = {**FAST, "name": "kimi", "model": "kimi", "family": "kimi_k2"}
TENANTS = (
    {"name": "demo"},
    {"name": "cached", "cache": {"enabled": True, "hit_price_share": 0.5}},
    {
        "name": "ruled",
        "policy": {"rules": [{"name": "hard", "match": {"endpoints": ["/v1/messages"]}, "mode": "think"}]},
    },
)
ASKED: dict[str, Any] = {
    "model": "smollm2:no_think",
    "max_tokens": 100,
    "messages": [{"role": "user", "content": "Say it."}],
}
THINK: dict[str, Any] = {"model": "smollm2", "thinking": {"type": "enabled", "budget_tokens": 30}}
WEATHER = {
    "name": "weather",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    pools = [{**pool, "capabilities": {"tools": True}} for pool in (FAST, DEEP, KIMI)]
    with Gateway(tmp_path_factory.mktemp("gw"), pools=pools, tenants=TENANTS) as gateway:
        yield gateway


@pytest.fixture
def client(gateway: Gateway) -> anthropic.Anthropic:
    for engines in gateway.engines.values():
        engines[0].forget()
    return sdk(gateway)


def sdk(gateway: Gateway, tenant: str = "demo") -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=gateway.url, api_key=gateway.keys[tenant], max_retries=0)


def posted(gateway: Gateway, tenant: str = "demo", **fields: Any) -> httpx.Response:
    headers = {"x-api-key": gateway.keys[tenant], **fields.pop("headers", {})}
    return looked_up(
        lambda: httpx.post(f"{gateway.url}/v1/messages", json={**ASKED, **fields}, headers=headers, timeout=60)
    )


def streamed(client: anthropic.Anthropic, **fields: Any) -> anthropic.types.Message:
    with client.messages.stream(**{**ASKED, **fields}) as stream:
        return stream.get_final_message()


@pytest.mark.parametrize("fields", [{}, THINK], ids=["no_think", "think"])
def test_an_answer_is_the_same_whole_and_streamed(client: anthropic.Anthropic, fields: dict[str, Any]) -> None:
    whole = client.messages.create(**{**ASKED, **fields})
    again = streamed(client, **fields)
    kinds = ["thinking", "text"] if fields else ["text"]
    assert [block.type for block in whole.content] == [block.type for block in again.content] == kinds
    assert [block.text for block in whole.content if block.type == "text"] == [
        block.text for block in again.content if block.type == "text"
    ]
    # Of the second prompt a part was cached.
    assert again.usage.input_tokens + (again.usage.cache_read_input_tokens or 0) == whole.usage.input_tokens
    assert again.usage.output_tokens == whole.usage.output_tokens
    assert whole.usage.output_tokens_details is not None
    assert bool(whole.usage.output_tokens_details.thinking_tokens) == bool(fields)
    assert whole.stop_reason == again.stop_reason == "end_turn"
    assert (whole.model, whole._request_id) == ("smollm2", whole.id.replace("msg_", "req-"))


def test_the_mode_and_the_bill_are_told(gateway: Gateway, client: anthropic.Anthropic) -> None:
    raw = client.messages.with_raw_response.create(**{**ASKED, **THINK})
    assert (raw.headers[Header.MODE], raw.headers[Header.MODE_SOURCE]) == ("think", "client")
    assert float(raw.headers[Header.COST_USD]) > 0
    told = raw.headers[Header.DECISION_ID]
    with gateway.client() as http:
        wait_for(lambda: http.get(f"/v1/decisions/{told}").status_code == 200, "the decision to be kept")
        decision = http.get(f"/v1/decisions/{told}").json()
    assert decision["endpoint"] == "/v1/messages"
    effort = client.messages.with_raw_response.create(
        **{**ASKED, "model": "smollm2", "output_config": {"effort": "high"}}
    )
    assert effort.headers[Header.MODE] == "think"
    ruled = sdk(gateway, "ruled").messages.with_raw_response.create(**{**ASKED, "model": "smollm2"})
    assert (ruled.headers[Header.MODE], ruled.headers[Header.MODE_SOURCE]) == ("think", "policy")
    with pytest.raises(anthropic.BadRequestError) as refused:
        client.messages.create(
            **{**ASKED, **THINK, "output_config": {"effort": "low"}, "model": "smollm2:no_think"}
        )
    assert "'model'" in str(refused.value)
    assert "effort'" in str(refused.value)


def test_tools_in_two_rounds(gateway: Gateway, client: anthropic.Anthropic) -> None:
    asked: dict[str, Any] = {"tools": [WEATHER], "tool_choice": {"type": "any"}}
    whole, again = client.messages.create(**{**ASKED, **asked}), streamed(client, **asked)
    for message in (whole, again):
        (call,) = [block for block in message.content if block.type == "tool_use"]
        assert (call.name, message.stop_reason) == ("weather", "tool_use")
        assert set(call.input) == {"city"}  # type: ignore[call-overload]
        result = {"type": "tool_result", "tool_use_id": call.id, "content": [{"type": "text", "text": "sunny"}]}
        messages = [
            *ASKED["messages"],
            {"role": "assistant", "content": message.content},
            {"role": "user", "content": [result]},
        ]
        after = client.messages.create(**{**ASKED, "tools": [WEATHER], "messages": messages})
        assert after.stop_reason == "end_turn"
        sent = gateway.engines["fast"][0].received()[-1]["body"]["messages"]
        assert sent[-1] == {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
        assert sent[-2]["tool_calls"][0]["id"] == call.id
        assert json.loads(sent[-2]["tool_calls"][0]["function"]["arguments"]) == call.input


def test_a_stop_sequence_and_the_length(client: anthropic.Anthropic) -> None:
    text = client.messages.create(**ASKED).content[0]
    assert text.type == "text"
    word = text.text.split()[3]
    stopped = client.messages.create(**{**ASKED, "stop_sequences": ["nothing like it", word]})
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", word)
    again = streamed(client, stop_sequences=[word])
    assert (again.stop_reason, again.stop_sequence) == ("stop_sequence", word)
    assert client.messages.create(**{**ASKED, "max_tokens": 5}).stop_reason == "max_tokens"


def test_tokens_are_counted_by_the_engine_and_cost_nothing(gateway: Gateway, client: anthropic.Anthropic) -> None:
    asked = {"model": "smollm2:no_think", "messages": ASKED["messages"], "system": "Be brief."}
    counted = client.messages.count_tokens(**asked)
    assert gateway.engines["fast"][0].received() == []  # of which it keeps only what it answers
    used = client.messages.create(max_tokens=5, **asked).usage
    assert counted.input_tokens == used.input_tokens + (used.cache_read_input_tokens or 0)
    told = client.messages.with_raw_response.count_tokens(**asked).headers
    assert Header.COST_USD not in told
    thinking = client.messages.count_tokens(**{**asked, "model": "smollm2"}, thinking=THINK["thinking"])
    assert thinking.input_tokens > 0


def test_a_temperature_means_to_kimi_what_it_means_at_its_makers(
    gateway: Gateway, client: anthropic.Anthropic
) -> None:
    def sent(pool: str) -> Any:
        return gateway.engines[pool][0].received()[-1]["body"].get("temperature")

    for model, pool, got in (("kimi", "kimi", 0.3), ("smollm2:no_think", "fast", 0.5)):
        client.messages.create(**{**ASKED, "model": model}, extra_body={"temperature": 0.5})
        assert sent(pool) == got
    with gateway.client() as http:
        http.post("/v1/chat/completions", json={**ASKED, "model": "kimi", "temperature": 0.5}).raise_for_status()
    assert sent("kimi") == 0.5


def test_the_response_cache_answers_whatever_the_format(gateway: Gateway, client: anthropic.Anthropic) -> None:
    asked = {"temperature": 0, "messages": [{"role": "user", "content": "Say it to all."}]}
    for stream in (False, True):
        first = posted(gateway, "cached", stream=stream, **asked)
        second = posted(gateway, "cached", stream=stream, **asked)
        assert [answer.headers[Header.CACHE] for answer in (first, second)] == ["miss", "hit"]
        body = {**ASKED, **asked, "stream": stream}
        chat = looked_up(
            lambda body=body: httpx.post(  # type: ignore[misc]
                f"{gateway.url}/v1/chat/completions",
                json=body,
                headers={"authorization": f"Bearer {gateway.keys['cached']}"},
                timeout=60,
            )
        )
        assert chat.headers[Header.CACHE] == "hit"
        assert "chatcmpl" not in second.text
    forced = {"headers": {Header.CACHE_CONTROL: "force"}}
    for _ in range(2):
        answer = posted(gateway, "cached", **forced, messages=[{"role": "user", "content": "How long am I?"}])
    assert answer.headers[Header.CACHE] == "hit"
    counting = httpx.post(
        f"{gateway.url}/v1/messages/count_tokens",
        json={"model": "smollm2:no_think", "messages": [{"role": "user", "content": "How long am I?"}]},
        headers={"x-api-key": gateway.keys["cached"], **forced["headers"]},
        timeout=20,
    )
    assert Header.CACHE not in counting.headers
    assert list(counting.json()) == ["input_tokens"]


def test_the_same_idempotency_key_gets_the_same_answer(gateway: Gateway, client: anthropic.Anthropic) -> None:
    named = {"headers": {Header.IDEMPOTENCY_KEY: "once"}}
    first, second = posted(gateway, **named), posted(gateway, **named)
    assert second.headers[Header.REPLAYED] == "true"
    assert first.json()["content"] == second.json()["content"]
    assert posted(gateway, max_tokens=50, **named).json()["error"]["code"] == "idempotency_key_reused"


def test_errors_are_the_sdks_own(gateway: Gateway, client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.AuthenticationError):
        anthropic.Anthropic(base_url=gateway.url, api_key="pk-none", max_retries=0).messages.create(**ASKED)
    with pytest.raises(anthropic.NotFoundError):
        client.messages.create(**{**ASKED, "model": "nobody"})
    with pytest.raises(anthropic.BadRequestError) as refused:
        client.messages.create(**{**ASKED, "thinking": {"type": "enabled", "budget_tokens": 100}})
    assert "'thinking.budget_tokens'" in str(refused.value)
    assert all(engines[0].received() == [] for engines in gateway.engines.values())
    for path, method in (("/v1/messages", "GET"), ("/v1/messages/count_tokens", "PUT")):
        answer = httpx.request(method, gateway.url + path, headers={"x-api-key": gateway.key})
        assert (answer.status_code, answer.json()["type"]) == (405, "error")


@pytest.mark.parametrize("kind", ["die_midstream", "error_midstream"])
def test_an_engine_that_fails_in_the_middle_of_a_stream(
    gateway: Gateway, client: anthropic.Anthropic, kind: str
) -> None:
    gateway.engines["fast"][0].faults({"kind": kind, "times": 1, "after_tokens": 5})
    got: list[str] = []
    with pytest.raises(anthropic.APIStatusError) as failed, client.messages.stream(**ASKED) as stream:
        got.extend(stream.text_stream)
    assert 1 <= len(got) <= 6
    assert failed.value.body["error"]["code"] == "engine_failed"  # type: ignore[index]


def test_an_engine_that_fails_before_the_first_byte(gateway: Gateway, client: anthropic.Anthropic) -> None:
    gateway.engines["fast"][0].faults({"kind": "error", "times": 1})
    assert streamed(client).stop_reason == "end_turn"
    gateway.engines["fast"][0].faults({"kind": "error", "times": 2})
    with pytest.raises(anthropic.InternalServerError) as failed:
        client.messages.create(**ASKED)
    assert failed.value.body["error"]["type"] == "api_error"  # type: ignore[index]


def test_a_key_may_be_limited_to_the_format(gateway: Gateway) -> None:
    with gateway.client() as http:
        made = http.post(
            "/admin/v1/keys",
            json={"tenant": "demo", "endpoints": ["/v1/messages"]},
            headers={"authorization": f"Bearer {gateway.admin_key}"},
        ).raise_for_status()
    key = made.json()["key"]
    limited = anthropic.Anthropic(base_url=gateway.url, api_key=key, max_retries=0)
    wait_for(lambda: _opens(limited), "the key to be known")
    assert limited.messages.count_tokens(model="smollm2", messages=ASKED["messages"]).input_tokens
    answer = httpx.post(
        f"{gateway.url}/v1/chat/completions", json=ASKED, headers={"authorization": f"Bearer {key}"}, timeout=20
    )
    assert answer.status_code == 403


def _opens(client: anthropic.Anthropic) -> bool:
    try:
        return bool(client.messages.create(**ASKED).content)
    except anthropic.AuthenticationError:
        return False
