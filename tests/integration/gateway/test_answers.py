"""What a client of the gateway sees, with the official SDK: both tracks, both ways, and what they cost."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import httpx
import openai
import pytest

from support.gateway import Gateway, events

EASY = "What is the capital of France?"
HARD = "Prove that the square root of 2 is irrational."
TASK = "You are the help desk of a ferry line. Translate every message that a traveller sends into Finnish."


@pytest.fixture
def sdk(gateway: Gateway) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0)


@pytest.mark.parametrize(("question", "mode", "pool"), [(EASY, "no_think", "fast"), (HARD, "think", "deep")])
def test_the_predictor_sends_each_question_down_its_track(
    gateway: Gateway, sdk: openai.OpenAI, question: str, mode: str, pool: str
) -> None:
    raw = sdk.chat.completions.with_raw_response.create(
        model="smollm2", temperature=0, messages=[{"role": "user", "content": question}]
    )
    headers, answer = raw.headers, raw.parse()
    assert headers["x-pointsman-mode"] == mode
    assert headers["x-pointsman-mode-source"] == "predictor"
    assert headers["x-pointsman-pool"] == pool
    assert (float(headers["x-pointsman-think-probability"]) >= float(headers["x-pointsman-threshold"])) == (
        mode == "think"
    )
    assert headers["x-request-id"]
    assert answer.choices[0].message.content
    assert bool(getattr(answer.choices[0].message, "reasoning_content", None)) == (mode == "think")
    usage = answer.usage
    assert usage is not None
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert usage.completion_tokens_details is not None
    reasoning = usage.completion_tokens_details.reasoning_tokens
    assert reasoning == (31 if mode == "think" else 0)  # the mark that closes the thinking counts with it


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        (
            "chat/completions",
            {"messages": [{"role": "system", "content": TASK}, {"role": "user", "content": HARD}]},
        ),
        ("messages", {"system": TASK, "max_tokens": 50, "messages": [{"role": "user", "content": HARD}]}),
        ("responses", {"instructions": TASK, "input": HARD}),
    ],
)
def test_where_the_system_prompt_sets_the_task_a_message_is_mere_material(
    gateway: Gateway, path: str, fields: dict[str, Any]
) -> None:
    answer = httpx.post(
        f"{gateway.url}/v1/{path}",
        json={"model": "smollm2", **fields},
        headers={"authorization": f"Bearer {gateway.key}"},
        timeout=60,
    )
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-pointsman-mode-source"] == "predictor"
    assert answer.headers["x-pointsman-mode"] == "no_think"


@pytest.mark.parametrize(("question", "mode"), [(EASY, "no_think"), (HARD, "think")])
def test_a_stream_arrives_token_by_token_and_ends_with_its_usage(
    gateway: Gateway, sdk: openai.OpenAI, question: str, mode: str
) -> None:
    stream = sdk.chat.completions.create(
        model="smollm2",
        messages=[{"role": "user", "content": question}],
        stream=True,
        stream_options={"include_usage": True},
    )
    assert stream.response.headers["x-pointsman-mode"] == mode
    chunks = list(stream)
    usage = chunks[-1].usage
    assert usage is not None
    assert chunks[-1].choices == []
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    thoughts = [delta for delta in deltas if getattr(delta, "reasoning_content", None)]
    words = [delta for delta in deltas if delta.content]
    assert usage.completion_tokens_details is not None
    # Two tokens are counted and not shown: the mark that closes the thinking, and the end of the text.
    assert usage.completion_tokens_details.reasoning_tokens == len(thoughts) + (mode == "think")
    assert 0 <= usage.completion_tokens - len(words) - len(thoughts) <= 2
    assert bool(thoughts) == (mode == "think")


def test_usage_is_left_out_of_a_stream_that_did_not_ask_for_it(gateway: Gateway) -> None:
    body = {"model": "smollm2", "stream": True, "messages": [{"role": "user", "content": EASY}]}
    with gateway.client() as client:
        parts = events(client.post("/v1/chat/completions", json=body).text)
    assert parts[-1] == "[DONE]"
    assert all(part["choices"] for part in parts[:-1])


def test_a_stream_tells_its_cost_to_those_who_ask(gateway: Gateway) -> None:
    body = {"model": "smollm2", "stream": True, "messages": [{"role": "user", "content": HARD}]}
    with gateway.client(headers={"x-pointsman-include-cost": "true"}) as client:
        parts = events(client.post("/v1/chat/completions", json=body).text)
    usage = parts[-2]["usage"]
    reasoning = usage["completion_tokens_details"]["reasoning_tokens"]
    dollars = (
        usage["prompt_tokens"] * Decimal("0.05")
        + reasoning * Decimal("0.3")
        + (usage["completion_tokens"] - reasoning) * Decimal("0.2")
    ) / 1_000_000
    assert Decimal(parts[-2]["pointsman"]["cost_usd"]) == dollars


def test_completions_are_answered_and_streamed(gateway: Gateway, sdk: openai.OpenAI) -> None:
    answer = sdk.completions.create(model="smollm2", prompt="The capital of France is", max_tokens=8)
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 8
    assert answer.choices[0].finish_reason == "length"
    pieces = list(
        sdk.completions.create(model="smollm2", prompt="The capital of France is", max_tokens=8, stream=True)
    )
    assert "".join(piece.choices[0].text for piece in pieces) == answer.choices[0].text


def test_models_are_listed(sdk: openai.OpenAI) -> None:
    assert [model.id for model in sdk.models.list()] == ["smollm2"]
    assert sdk.models.retrieve("smollm2").id == "smollm2"
    with pytest.raises(openai.NotFoundError):
        sdk.models.retrieve("gpt-4")


def test_the_counters_equal_the_sum_of_the_answers(gateway: Gateway, sdk: openai.OpenAI) -> None:
    """Tokens and dollars per tenant, model, mode and class: exactly what the answers said."""
    classes = ("input", "cached_input", "reasoning", "answer")

    def counted(name: str, mode: str) -> dict[str, Decimal]:
        page = {part: gateway.total(name, tenant="demo", mode=mode, token_class=part) for part in classes}
        return {part: Decimal(str(value)) for part, value in page.items()}

    for mode, question in (("no_think", EASY), ("think", HARD)):
        tokens, cost = counted("pointsman_tokens_total", mode), counted("pointsman_cost_usd_total", mode)
        told, paid = dict.fromkeys(classes, 0), Decimal(0)
        for number in range(5):
            raw = sdk.chat.completions.with_raw_response.create(
                model="smollm2", messages=[{"role": "user", "content": f"{question} ({number})"}]
            )
            usage = raw.parse().usage
            assert usage is not None
            assert usage.completion_tokens_details is not None
            assert usage.prompt_tokens_details is not None
            reasoning = usage.completion_tokens_details.reasoning_tokens or 0
            cached = usage.prompt_tokens_details.cached_tokens or 0
            told["input"] += usage.prompt_tokens - cached
            told["cached_input"] += cached
            told["reasoning"] += reasoning
            told["answer"] += usage.completion_tokens - reasoning
            paid += Decimal(raw.headers["x-pointsman-cost-usd"])
        after = counted("pointsman_tokens_total", mode)
        assert {part: after[part] - tokens[part] for part in classes} == told
        after = counted("pointsman_cost_usd_total", mode)
        spent = sum((after[part] - cost[part] for part in classes), Decimal(0))
        assert spent.quantize(Decimal("1e-9")) == paid


def test_the_engine_gets_what_the_router_sets_and_nothing_private_of_the_client(
    gateway: Gateway, sdk: openai.OpenAI
) -> None:
    sdk.chat.completions.create(
        model="smollm2:think",
        messages=[{"role": "user", "content": EASY}],
        max_completion_tokens=50,
        user="somebody",
        metadata={"team": "finance"},
    )
    (record,) = gateway.engines["deep"][0].received()
    body = record["body"]
    assert set(body) == {"model", "messages", "max_tokens", "stream", "rid", "cache_salt", "custom_params"}
    assert body["max_tokens"] == 50
    assert body["custom_params"] == {"thinking_budget": 25}  # half of 50 is kept for the answer
    assert len(body["rid"]) == 33


def test_a_request_without_a_limit_gets_the_pools(gateway: Gateway, sdk: openai.OpenAI) -> None:
    sdk.chat.completions.create(model="smollm2", messages=[{"role": "user", "content": EASY}])
    (record,) = gateway.engines["fast"][0].received()
    assert record["body"]["max_tokens"] == 1024


@pytest.mark.parametrize(
    ("extra", "headers", "model", "mode"),
    [
        ({}, {"x-pointsman-mode": "think"}, "smollm2", "think"),
        ({}, {"x-pointsman-mode": "auto"}, "smollm2", "no_think"),
        ({"reasoning_effort": "high"}, {}, "smollm2", "think"),
        ({"reasoning_effort": "none"}, {}, "smollm2", "no_think"),
        ({"chat_template_kwargs": {"enable_thinking": True}}, {}, "smollm2", "think"),
        ({}, {}, "smollm2:think", "think"),
        ({"reasoning_effort": "low"}, {"x-pointsman-mode": "think"}, "smollm2:think", "think"),
    ],
)
def test_the_clients_wish_outranks_the_predictor(
    gateway: Gateway, extra: dict[str, object], headers: dict[str, str], model: str, mode: str
) -> None:
    body = {"model": model, "messages": [{"role": "user", "content": EASY}], **extra}
    with gateway.client(headers=headers) as client:
        answer = client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200
    assert answer.headers["x-pointsman-mode"] == mode
    wished = extra or ":" in model or headers.get("x-pointsman-mode") not in (None, "auto")
    assert answer.headers["x-pointsman-mode-source"] == ("client" if wished else "predictor")


def test_the_clients_request_id_is_echoed_and_a_bad_one_replaced(gateway: Gateway) -> None:
    body = {"model": "smollm2", "messages": [{"role": "user", "content": EASY}], "max_tokens": 2}
    with gateway.client() as client:
        answer = client.post("/v1/chat/completions", json=body, headers={"x-request-id": "abc-1"})
        assert answer.headers["x-request-id"] == "abc-1"
        answer = client.post("/v1/chat/completions", json=body, headers={"x-request-id": "a b"})
        assert answer.headers["x-request-id"].startswith("req-")


def test_metrics_and_documentation_are_served(gateway: Gateway) -> None:
    assert "pointsman_requests_in_flight 0.0" in gateway.metrics()
    page = httpx.get(f"{gateway.url}/docs")
    assert page.status_code == 200
    schema = httpx.get(f"{gateway.url}/openapi.json").json()
    assert {"/v1/chat/completions", "/v1/completions", "/v1/models", "/metrics"} <= set(schema["paths"])
    assert httpx.head(f"{gateway.url}/docs").status_code == 200
