"""OpenAI's Responses through a real gateway, by OpenAI's own SDK: answers, streams, errors, modes, bills."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from openai.types.responses import Response

from pointsman.contracts.names import Header
from support.gateway import DEEP, FAST, Gateway, looked_up, wait_for

TENANTS = ({"name": "demo"}, {"name": "cached", "cache": {"enabled": True}})
ASKED: dict[str, Any] = {"model": "smollm2:no_think", "input": "Say it.", "store": False}
THINK: dict[str, Any] = {"model": "smollm2", "reasoning": {"effort": "high"}}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with Gateway(tmp_path_factory.mktemp("gw"), pools=[FAST, DEEP], tenants=TENANTS) as gateway:
        yield gateway


@pytest.fixture
def client(gateway: Gateway) -> openai.OpenAI:
    for engines in gateway.engines.values():
        engines[0].forget()
    return sdk(gateway)


def sdk(gateway: Gateway, tenant: str = "demo") -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.keys[tenant], max_retries=0)


def streamed(client: openai.OpenAI, **fields: Any) -> tuple[list[str], Response]:
    """The types of the events, and the answer at the end, as the SDK puts it together."""
    with client.responses.stream(**{**ASKED, **fields}) as stream:
        types = [event.type for event in stream]
        return types, stream.get_final_response()


def texts(response: Response) -> list[tuple[str, str]]:
    found = []
    for item in response.output:
        if item.type == "message":
            found += [("message", part.text) for part in item.content if part.type == "output_text"]
        elif item.type == "reasoning":
            parts = [*item.summary, *(item.content or [])]
            found += [("reasoning", part.text) for part in parts]
    return found


@pytest.mark.parametrize(
    ("fields", "kinds"),
    [
        ({}, ["message"]),
        (THINK, ["reasoning", "message"]),
        ({**THINK, "reasoning": {"effort": "high", "summary": "auto"}}, ["reasoning", "message"]),
    ],
    ids=["no_think", "think", "think, summary"],
)
def test_an_answer_is_the_same_whole_and_streamed(
    client: openai.OpenAI, fields: dict[str, Any], kinds: list[str]
) -> None:
    whole = client.responses.create(**{**ASKED, **fields})
    types, again = streamed(client, **fields)
    assert types[0] == "response.created"
    assert types[-1] == "response.completed"
    assert [kind for kind, _ in texts(whole)] == kinds
    assert texts(whole) == texts(again)
    assert whole.status == again.status == "completed"
    assert whole.usage is not None
    assert again.usage is not None
    assert whole.usage.input_tokens == again.usage.input_tokens
    assert whole.usage.output_tokens == again.usage.output_tokens
    assert bool(whole.usage.output_tokens_details.reasoning_tokens) == bool(fields)
    assert whole.output_text


def test_a_conversation_is_sent_back_as_it_came(gateway: Gateway, client: openai.OpenAI) -> None:
    """With its items, reasoning too, which a chat knows as one message."""
    first = client.responses.create(**{**ASKED, **THINK})
    second: list[Any] = [
        {"role": "user", "content": "Say it."},
        *(item.model_dump(exclude_none=True) for item in first.output),
        {"role": "user", "content": "And now?"},
    ]
    client.responses.create(**{**ASKED, **THINK, "input": second, "instructions": "be brief"})
    (_, request) = gateway.engines["deep"][0].received()
    system, user, turn, last = request["body"]["messages"]
    assert system == {"role": "system", "content": "be brief"}
    assert (user["content"], last["content"]) == ("Say it.", "And now?")
    thought, said = (text for _, text in texts(first))
    assert (turn["role"], turn["content"], turn["reasoning_content"]) == ("assistant", said, thought)


def test_what_is_cut_says_so(client: openai.OpenAI) -> None:
    whole = client.responses.create(**ASKED, max_output_tokens=16)
    *_, last = client.responses.create(**ASKED, max_output_tokens=16, stream=True)
    assert last.type == "response.incomplete"
    for response in (whole, last.response):
        assert response.status == "incomplete"
        assert response.incomplete_details is not None
        assert response.incomplete_details.reason == "max_output_tokens"
        assert response.usage is not None
        assert response.usage.output_tokens <= 16


def test_the_mode_is_visible_and_its_decision_is_found(gateway: Gateway, client: openai.OpenAI) -> None:
    raw = client.responses.with_raw_response.create(**{**ASKED, **THINK})
    assert (raw.headers[Header.MODE], raw.headers[Header.MODE_SOURCE]) == ("think", "client")
    assert raw.headers[Header.COST_USD] > "0"
    records: list[httpx.Response] = []

    def kept() -> bool:
        path = f"{gateway.url}/v1/decisions/{raw.headers[Header.DECISION_ID]}"
        records[:] = [httpx.get(path, headers={"authorization": f"Bearer {gateway.key}"}, timeout=10)]
        return records[0].status_code == 200

    wait_for(kept, "the record of the decision", gateway.admin)
    record = records[0].json()
    assert record["endpoint"] == "/v1/responses"
    assert [wish["field"] for wish in record["wishes"]] == ["reasoning.effort"]


def test_errors_before_the_first_byte_are_openais(gateway: Gateway, client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(**{**ASKED, "store": True})
    assert refused.value.param == "store"
    with pytest.raises(openai.NotFoundError):
        client.responses.create(**{**ASKED, "model": "nobody"})
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="pk-wrong", max_retries=0).responses.create(**ASKED)
    gateway.engines["fast"][0].faults({"kind": "error", "times": 2})
    with pytest.raises(openai.APIStatusError) as failed:
        client.responses.create(**ASKED)
    assert failed.value.status_code == 502


def test_an_engine_that_dies_in_midstream_ends_it_as_failed(gateway: Gateway, client: openai.OpenAI) -> None:
    gateway.engines["fast"][0].faults({"kind": "die_midstream", "after_tokens": 5})
    found = list(client.responses.create(**ASKED, stream=True))
    assert [event.type for event in found[-2:]] == ["error", "response.failed"]
    assert found[-2].type == "error"
    assert found[-2].code == "engine_failed"
    assert any(event.type == "response.output_text.delta" for event in found)


def test_an_answer_from_the_cache_is_the_same(gateway: Gateway) -> None:
    client = sdk(gateway, "cached")
    asked = {**ASKED, "temperature": 0, "input": "Say it to the cache."}
    first = looked_up(lambda: client.responses.with_raw_response.create(**asked))
    again = looked_up(lambda: client.responses.with_raw_response.create(**asked))
    assert (first.headers[Header.CACHE], again.headers[Header.CACHE]) == ("miss", "hit")
    assert texts(first.parse()) == texts(again.parse())
    chat = client.chat.completions.create(
        model="smollm2:no_think", temperature=0, messages=[{"role": "user", "content": "Say it to the cache."}]
    )
    assert chat.choices[0].message.content == texts(first.parse())[0][1]
