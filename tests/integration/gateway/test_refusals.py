"""Bad input: refused in OpenAI's form, with the field named, and never forwarded to an engine."""

from __future__ import annotations

import json
from typing import Any

import httpx
import openai
import pytest

from support.gateway import FAST, Gateway

CHAT = "/v1/chat/completions"
MESSAGES = [{"role": "user", "content": "hello"}]
GOOD: dict[str, Any] = {"model": "smollm2", "messages": MESSAGES}
SECRET_WORD = "xyzzy-the-word-that-must-not-leak"


def assert_refused(answer: httpx.Response, status: int, param: str | None) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    error: dict[str, Any] = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["param"] == param
    return error


PIXEL = "data:image/png;base64,AA=="
BAD_BODIES: list[tuple[str, dict[str, Any], str]] = [
    ("no model", {"messages": MESSAGES}, "model"),
    ("top_k over 32 bits", {**GOOD, "top_k": 2**31}, "top_k"),
    ("stop token ids", {**GOOD, "stop_token_ids": [10**9]}, "stop_token_ids"),
    ("model of a wrong type", {**GOOD, "model": 7}, "model"),
    ("no messages", {"model": "smollm2"}, "messages"),
    ("null messages", {**GOOD, "messages": None}, "messages"),
    ("empty messages", {**GOOD, "messages": []}, "messages"),
    ("messages of a wrong type", {**GOOD, "messages": "hi"}, "messages"),
    ("a message of a wrong type", {**GOOD, "messages": ["hi"]}, "messages[0]"),
    ("no role", {**GOOD, "messages": [{"content": "hi"}]}, "messages[0].role"),
    ("an unknown role", {**GOOD, "messages": [{"role": "boss", "content": "hi"}]}, "messages[0].role"),
    ("no content", {**GOOD, "messages": [{"role": "user"}]}, "messages[0].content"),
    ("content of a wrong type", {**GOOD, "messages": [{"role": "user", "content": 3}]}, "messages[0].content"),
    (
        "an unknown content part",
        {**GOOD, "messages": [{"role": "user", "content": [{"type": "video"}]}]},
        "messages[0].content[0].type",
    ),
    (
        "a text part without text",
        {**GOOD, "messages": [{"role": "user", "content": [{"type": "text"}]}]},
        "messages[0].content[0].text",
    ),
    ("max_tokens of 0", {**GOOD, "max_tokens": 0}, "max_tokens"),
    ("max_tokens below 0", {**GOOD, "max_tokens": -5}, "max_tokens"),
    ("max_tokens beyond 32 bits", {**GOOD, "max_tokens": 2**31}, "max_tokens"),
    ("max_tokens that no JSON number of 64 bits holds", {**GOOD, "max_tokens": 2**70}, "max_tokens"),
    ("a budget beyond 32 bits", {**GOOD, "reasoning": {"max_tokens": 2**63}}, "reasoning.max_tokens"),
    ("min_tokens beyond 32 bits", {**GOOD, "min_tokens": 2**31}, "min_tokens"),
    ("max_tokens as a string", {**GOOD, "max_tokens": "5"}, "max_tokens"),
    ("max_tokens as a boolean", {**GOOD, "max_tokens": True}, "max_tokens"),
    ("max_completion_tokens of 0", {**GOOD, "max_completion_tokens": 0}, "max_completion_tokens"),
    ("two limits that differ", {**GOOD, "max_tokens": 5, "max_completion_tokens": 6}, "max_tokens"),
    ("temperature too high", {**GOOD, "temperature": 3}, "temperature"),
    ("temperature as a string", {**GOOD, "temperature": "hot"}, "temperature"),
    ("top_p of 0", {**GOOD, "top_p": 0}, "top_p"),
    ("n of 0", {**GOOD, "n": 0}, "n"),
    ("stream as a string", {**GOOD, "stream": "yes"}, "stream"),
    ("stream_options without stream", {**GOOD, "stream_options": {"include_usage": True}}, "stream_options"),
    (
        "an unknown stream option",
        {**GOOD, "stream": True, "stream_options": {"x": True}},
        "stream_options.x",
    ),
    ("stop of a wrong type", {**GOOD, "stop": [1]}, "stop[0]"),
    ("an unknown effort", {**GOOD, "reasoning_effort": "gigantic"}, "reasoning_effort"),
    ("an unknown template switch", {**GOOD, "chat_template_kwargs": {"tools": True}}, "chat_template_kwargs.tools"),
    ("an unknown field", {**GOOD, "temprature": 1}, "temprature"),
    ("tools on a model without", {**GOOD, "tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
    (
        "an image on a model without",
        {
            **GOOD,
            "messages": [
                {
                    "role": "user",
                    "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}],
                }
            ],
        },
        "messages[0].content",
    ),
    *(
        (f"the engine's own {name}", {**GOOD, name: value}, name)
        for name, value in {
            "rid": "x",
            "input_ids": [1, 2],
            "input_embeds": [[0.1]],
            "custom_logit_processor": "gASV",
            "custom_params": {"thinking_budget": 1},
            "session_params": {"id": "a"},
            "lora_path": "/tmp/x",
            "priority": 9,
            "extra_key": "k",
            "cache_salt": "k",
            "bootstrap_host": "h",
            "bootstrap_port": 1,
            "routed_dp_rank": 0,
            "data_parallel_rank": 0,
            "separate_reasoning": False,
            "skip_special_tokens": False,
            "return_hidden_states": True,
        }.items()
    ),
]


@pytest.mark.parametrize(("body", "param"), [pytest.param(*rest, id=name) for name, *rest in BAD_BODIES])
def test_a_bad_body_is_refused_by_field_and_not_forwarded(
    gateway: Gateway, body: dict[str, Any], param: str
) -> None:
    with gateway.client() as client:
        answer = client.post(CHAT, json=body)
    error = assert_refused(answer, 400, param)
    assert error["type"] == "invalid_request_error"
    assert all(engine.received() == [] for engines in gateway.engines.values() for engine in engines)


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"3", b'"x"', b"null", b"\xff\xfe", b'{"model": NaN}', b'{"a": "\\ud800"}', b"[" * 5000],
)
def test_a_body_that_is_no_json_object_is_refused(gateway: Gateway, body: bytes) -> None:
    with gateway.client() as client:
        error = assert_refused(client.post(CHAT, content=body), 400, None)
    assert error["code"] == "invalid_json"


@pytest.mark.parametrize("body", [{"model": "smollm2"}, {"model": "smollm2", "prompt": [1, 2]}])
def test_completions_need_text(gateway: Gateway, body: dict[str, Any]) -> None:
    with gateway.client() as client:
        answer = client.post("/v1/completions", json=body)
    assert_refused(answer, 400, "prompt[0]" if "prompt" in body else "prompt")


@pytest.mark.parametrize("key", [None, "pk-wrong", "sk-" + "x" * 48])
def test_a_stranger_is_refused_before_anything_else(gateway: Gateway, key: str | None) -> None:
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    for path, body in ((CHAT, b"{not even json"), ("/v1/models", None)):
        answer = httpx.request("POST" if body else "GET", gateway.url + path, content=body, headers=headers)
        error = assert_refused(answer, 401, None)
        assert error["code"] == "invalid_api_key"
        assert key not in error["message"] if key else True


@pytest.mark.parametrize("model", ["gpt-4", "smollm2:maybe", "", "SMOLLM2"])
def test_an_unknown_model_is_not_found(gateway: Gateway, model: str) -> None:
    with gateway.client() as client:
        answer = client.post(CHAT, json={**GOOD, "model": model})
    assert_refused(answer, 404, "model")


def test_contradicting_wishes_are_both_named(gateway: Gateway) -> None:
    body = {**GOOD, "reasoning_effort": "none"}
    with gateway.client(headers={"x-pointsman-mode": "think"}) as client:
        error = assert_refused(client.post(CHAT, json=body), 400, "reasoning_effort")
    assert "x-pointsman-mode" in error["message"]
    assert "reasoning_effort" in error["message"]
    with gateway.client() as client:
        error = assert_refused(
            client.post(
                CHAT, json={**GOOD, "model": "smollm2:think", "chat_template_kwargs": {"enable_thinking": False}}
            ),
            400,
            "chat_template_kwargs.enable_thinking",
        )
    assert "'model'" in error["message"]


def test_an_unknown_mode_word_is_refused(gateway: Gateway) -> None:
    with gateway.client(headers={"x-pointsman-mode": "perhaps"}) as client:
        assert_refused(client.post(CHAT, json=GOOD), 400, "x-pointsman-mode")


@pytest.mark.parametrize("stream", [False, True])
def test_an_overlong_prompt_is_refused_in_the_clients_format(gateway: Gateway, stream: bool) -> None:
    body = {"model": "smollm2", "stream": stream, "messages": [{"role": "user", "content": "word " * 20_000}]}
    with gateway.client() as client:
        error = assert_refused(client.post(CHAT, json=body), 400, "messages")
    assert error["code"] == "context_length_exceeded"


def test_a_body_over_the_limit_is_refused(folder: Any) -> None:
    with Gateway(folder, router={"max_body_bytes": 2048}) as gateway, gateway.client() as client:
        body = {"model": "smollm2", "messages": [{"role": "user", "content": "x" * 5000}]}
        answer = client.post(CHAT, json=body)
        assert_refused(answer, 413, None)
        chunked = client.post(CHAT, content=(part for part in [b"x" * 1500] * 4))
        assert_refused(chunked, 413, None)
        assert client.post(CHAT, json={**GOOD, "max_tokens": 2}).status_code == 200


def test_wrong_methods_and_paths(gateway: Gateway) -> None:
    with gateway.client() as client:
        answer = client.get(CHAT)
        assert_refused(answer, 405, None)
        assert answer.headers["allow"] == "POST"
        assert_refused(client.post("/readyz"), 405, None)
        assert_refused(client.get("/v1/nothing"), 404, None)
        assert_refused(client.post("/v1/models"), 405, None)


def test_an_error_never_quotes_the_request_and_logs_hold_no_prompt(gateway: Gateway) -> None:
    bodies: list[dict[str, Any]] = [
        {**GOOD, "messages": [{"role": "user", "content": SECRET_WORD, "x": 1}], "temperature": SECRET_WORD},
        {**GOOD, "messages": [{"role": SECRET_WORD, "content": "x"}]},
        {**GOOD, "messages": [{"role": "user", "content": SECRET_WORD * 5000}]},
        {**GOOD, "model": SECRET_WORD},
        {**GOOD, "stop": [{SECRET_WORD: 1}]},
    ]
    gateway.engines["fast"][0].faults({"kind": "error", "times": 2})
    with gateway.client() as client:
        client.post(CHAT, json={**GOOD, "messages": [{"role": "user", "content": SECRET_WORD}]})
        for body in bodies:
            answer = client.post(CHAT, json=body)
            assert answer.status_code in (400, 404)
            assert SECRET_WORD not in answer.text
        truncated = json.dumps({**GOOD, "user": SECRET_WORD})[:-4].encode()
        assert SECRET_WORD not in client.post(CHAT, content=truncated).text
    assert SECRET_WORD not in gateway.logs()
    assert gateway.key not in gateway.logs()


def test_the_sdk_raises_its_own_errors(gateway: Gateway) -> None:
    sdk = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0)
    with pytest.raises(openai.BadRequestError) as bad:
        sdk.chat.completions.create(model="smollm2", messages=[])
    assert bad.value.param == "messages"
    with pytest.raises(openai.NotFoundError):
        sdk.chat.completions.create(model="nope", messages=[{"role": "user", "content": "x"}])
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="pk-no", max_retries=0).models.list()


def test_metrics_of_all_tenants_need_the_admin_key_where_the_policy_says_so(folder: Any) -> None:
    with Gateway(folder, router={"metrics_access": "admin"}) as gateway:
        assert httpx.get(f"{gateway.url}/metrics").status_code == 401
        as_tenant = httpx.get(f"{gateway.url}/metrics", headers={"authorization": f"Bearer {gateway.key}"})
        assert as_tenant.status_code == 401
        as_admin = httpx.get(f"{gateway.url}/metrics", headers={"authorization": f"Bearer {gateway.admin_key}"})
        assert as_admin.status_code == 200


@pytest.mark.parametrize("stream", [False, True])
def test_a_body_nested_too_deeply_is_refused_and_holds_no_place(folder: Any, stream: bool) -> None:
    few = {**FAST, "max_ongoing_requests": 2, "place_timeout": 3, "capabilities": {"tools": True}}
    nested: dict[str, Any] = {}
    for _ in range(400):
        nested = {"a": nested}
    tool = {"type": "function", "function": {"name": "f", "parameters": nested}}
    with Gateway(folder, pools=[few]) as gateway, gateway.client() as client:
        for _ in range(3):  # on a new connection, and then on one that is kept
            answer = client.post(CHAT, json={**GOOD, "tools": [tool], "stream": stream})
            assert answer.status_code == 400
            assert answer.json()["error"]["code"] == "invalid_json"
            assert client.post(CHAT, json=GOOD).status_code == 200
        assert gateway.total("pointsman_requests_in_flight") == 0
