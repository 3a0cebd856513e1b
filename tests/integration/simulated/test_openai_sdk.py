"""The official client finds an OpenAI server here, and cannot mistake it for a model."""

from __future__ import annotations

import pytest
from openai import BadRequestError, OpenAI, PermissionDeniedError

from behaviour.simulated_replica import SimulatedReplica
from pointsman.contracts.names import Header


@pytest.fixture
def client(replica: SimulatedReplica) -> OpenAI:
    return OpenAI(base_url=f"{replica.base_url}/v1", api_key="none", default_headers=replica.headers, max_retries=0)


def test_a_chat(client: OpenAI) -> None:
    answer = client.chat.completions.create(model="smollm2", messages=[{"role": "user", "content": "Hello"}])
    assert answer.system_fingerprint == "pointsman-simulated"
    assert (answer.choices[0].message.content or "").startswith("[simulated]")
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_a_streamed_chat(client: OpenAI) -> None:
    stream = client.chat.completions.create(
        model="smollm2",
        messages=[{"role": "user", "content": "Hello"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    assert {chunk.system_fingerprint for chunk in chunks} == {"pointsman-simulated"}
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text.startswith("[simulated]")
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 13


def test_a_completion(client: OpenAI) -> None:
    answer = client.completions.create(model="smollm2", prompt="Hello", max_tokens=5)
    assert answer.choices[0].text.startswith("[simulated]")
    assert answer.choices[0].finish_reason == "length"


def test_models(client: OpenAI) -> None:
    (model,) = client.models.list().data
    assert (model.id, model.owned_by) == ("smollm2", "pointsman-simulated")


def test_its_name_is_in_every_header(client: OpenAI) -> None:
    raw = client.models.with_raw_response.list()
    assert raw.headers["server"] == "pointsman-simulated"


def test_errors_are_the_clients_own(client: OpenAI) -> None:
    with pytest.raises(BadRequestError, match="Messages cannot be empty"):
        client.chat.completions.create(model="smollm2", messages=[])
    with pytest.raises(PermissionDeniedError):
        client.with_options(default_headers={Header.REPLICA_SECRET: "wrong"}).chat.completions.create(
            model="smollm2", messages=[{"role": "user", "content": "Hello"}]
        )
