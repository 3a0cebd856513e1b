"""Which requests are valid: for any JSON a clear refusal or a clean request, never a crash."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.contracts.errors import InvalidRequest
from pointsman.router.exchange import Endpoint, Exchange
from pointsman.router.wire import openai_request
from pointsman.router.wire.chat_messages import ROLES
from pointsman.router.wire.private_fields import is_private
from support.exchanges import exchange_with

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**31), 2**31) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
FIELD_NAMES = sorted(set(openai_request.CHAT_FIELDS) | set(openai_request.COMPLETION_FIELDS))


def refusal(exchange: Exchange) -> InvalidRequest | None:
    """Why `exchange` is refused, or None where it is read."""
    try:
        openai_request.read(exchange)
    except InvalidRequest as error:
        return error
    return None


@given(endpoint=st.sampled_from(Endpoint), body=st.dictionaries(st.sampled_from(FIELD_NAMES), JSON, max_size=6))
def test_any_json_is_read_or_refused_by_field(endpoint: Endpoint, body: dict[str, Any]) -> None:
    exchange = exchange_with(body, endpoint=endpoint)
    error = refusal(exchange)
    if error is not None:
        assert error.param is None or error.param.split(".")[0].split("[")[0] in {*FIELD_NAMES, *body}
        return
    forwarded = openai_request.forwarded(exchange)
    assert forwarded.keys() <= body.keys()
    assert not any(is_private(name) for name in forwarded)
    assert all(openai_request.FIELDS[endpoint][name].forwarded for name in forwarded)


@given(body=st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    exchange = Exchange(client=None, endpoint=Endpoint.CHAT, headers={}, body=body)  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest):
        openai_request.read(exchange)  # no short bytes hold both a model and messages


@given(content=JSON, role=st.sampled_from(ROLES))
def test_any_message_is_read_or_refused_by_its_place(content: Any, role: str) -> None:
    body = {"model": "m", "messages": [{"role": role, "content": content}]}
    error = refusal(exchange_with(body))
    if error is None:
        assert isinstance(content, str)
    else:
        assert error.param is not None
        assert error.param.startswith("messages[0]")


@given(word=st.text(alphabet="jkqvwxyz", min_size=9, max_size=12), name=st.sampled_from(FIELD_NAMES))
def test_a_refusal_never_quotes_a_value(word: str, name: str) -> None:
    for value in (word, [word], {word: 1}, [{word: word}]):
        error = refusal(exchange_with({"model": "m", "messages": value, name: value}))
        if error is not None and error.code != "unknown_parameter":  # the name of an unknown field is told
            assert word not in error.message


def test_null_means_not_set() -> None:
    exchange = exchange_with(
        {"model": "m", "messages": [{"role": "user", "content": "x"}], "temperature": None, "stream": None}
    )
    assert openai_request.read(exchange) == "m"
    assert exchange.stream is False
    assert set(openai_request.forwarded(exchange)) == {"messages"}


def test_the_later_of_two_equal_keys_is_the_one_checked_and_forwarded() -> None:
    exchange = exchange_with({})
    exchange.body = b'{"model":"a","model":"b","messages":[{"role":"user","content":"x"}],"top_p":5,"top_p":1}'
    assert openai_request.read(exchange) == "b"
    assert openai_request.forwarded(exchange)["top_p"] == 1


@pytest.mark.parametrize("name", ["decode_dp_rank", "prefill_dp_rank", "session_id", "bootstrap_room", "return_x"])
def test_engine_switches_are_private_by_pattern(name: str) -> None:
    assert is_private(name)
    assert not set(FIELD_NAMES) & {name}


def test_no_public_field_is_private() -> None:
    assert not [name for name in FIELD_NAMES if is_private(name)]


def test_the_body_is_never_changed_by_reading() -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}], "stop": ["a"]}
    exchange = exchange_with(body)
    openai_request.read(exchange)
    assert orjson.loads(exchange.body) == body
