"""docs/wire-formats.md against the code: paths, how each error is called in each format, and how it looks."""

from __future__ import annotations

import re
from pathlib import Path

import orjson
import pytest

from pointsman.contracts import errors
from pointsman.contracts.errors import ApiError, UpstreamFailed
from pointsman.router.exchange import Endpoint, Exchange
from pointsman.router.wire import anthropic_request, formats, openai
from support.exchanges import exchange_with

PAGE = (Path(__file__).parents[3] / "docs/wire-formats.md").read_text()


def table(head: str) -> list[list[str]]:
    """The cells of the table whose first column is called `head`, the head left out."""
    found = re.search(rf"^\| {re.escape(head)} \|.*\n\| ---.*\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    assert found, head
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in found[1].splitlines()]


def quoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def error_of(code: str, status: int) -> ApiError:
    """The error with this code and status."""
    (kind,) = {
        error
        for error in vars(errors).values()
        if isinstance(error, type) and issubclass(error, ApiError) and (error.code, error.status) == (code, status)
    }
    return kind("x")


def test_the_paths() -> None:
    assert {path.strip("`") for path, *_ in table("path")} == {endpoint.value for endpoint in Endpoint}


def test_what_each_error_is_called_in_each_format() -> None:
    for status, of_openai, of_anthropic, codes in table("status"):
        told = (
            [errors.InvalidRequest("x")]
            if status == "400"
            else [error_of(code, int(status)) for code in quoted(codes)]
        )
        assert told, status
        for error in told:
            chat = orjson.loads(formats.error_answer(error, Endpoint.CHAT).body)
            message = orjson.loads(formats.error_answer(error, f"{Endpoint.MESSAGES}?beta=true").body)
            assert chat["error"]["type"] == of_openai.strip("`")
            assert message["error"]["type"] == of_anthropic.strip("`")
            assert message["error"]["code"] == error.code
            assert formats.error_answer(error, Endpoint.RESPONSES).body == orjson.dumps(chat)


def test_every_status_that_a_query_may_get_has_its_row() -> None:
    named = {code for *_, codes in table("status") for code in quoted(codes)}
    others = {  # of the admin API, by which no query is answered
        "insufficient_role",
        "not_found",
        "cache_unavailable",
        "admin_unavailable",
        "database_unavailable",
        *("already_exists", "managed_elsewhere", "key_ended", "no_candidate"),
        *("precondition_failed", "precondition_required"),
        *("tenant_not_found", "pool_not_found", "key_not_found", "decision_not_found"),
        *("entry_not_found", "price_not_found", "predictor_not_found"),
        *("predictor_in_use", "gate_not_passed"),
    }
    all_codes = {
        error.code
        for error in vars(errors).values()
        if isinstance(error, type) and issubclass(error, ApiError) and error.code is not None
    }
    assert named | others == all_codes
    assert not named & others


@pytest.mark.parametrize("endpoint", [Endpoint.CHAT, Endpoint.MESSAGES], ids=["chat", "messages"])
def test_how_an_error_looks_before_and_after_the_first_byte(endpoint: Endpoint) -> None:
    name = {Endpoint.CHAT: "OpenAI chat, completions", Endpoint.MESSAGES: "Anthropic Messages"}[endpoint]
    ((_, before, after),) = [row for row in table("format") if row[0] == name]
    sent = []
    for streams in (False, True):
        exchange = exchange_with({}, endpoint=endpoint)
        connection = exchange.client
        if endpoint.engine is not endpoint:
            formats.wear(exchange)
        exchange.request_id, exchange.stream_started = "req-1", streams
        exchange.error = UpstreamFailed("The engine failed.")
        _finish(exchange)
        sent.append(connection.sent.decode())  # type: ignore[attr-defined]
    assert quoted(before) == [sent[0]]
    assert quoted(after) == [line for line in sent[1].split("\n") if line]


def test_how_an_error_looks_in_responses() -> None:
    ((_, before, after),) = [row for row in table("format") if row[0] == "OpenAI Responses"]
    exchange = exchange_with({}, endpoint=Endpoint.RESPONSES)
    connection = exchange.client
    formats.wear(exchange)
    exchange.stream_started, exchange.error = True, UpstreamFailed("The engine failed.")
    _finish(exchange)
    assert quoted(before) == [openai.error_answer(exchange.error).body.decode()]
    events = [event.split(b"\n") for event in connection.sent.strip().split(b"\n\n")]  # type: ignore[attr-defined]
    assert [name.decode() for name, _ in events] == [word for word in quoted(after) if word.startswith("event: ")]
    error, failed = (orjson.loads(data.removeprefix(b"data: ")) for _, data in events)
    assert (error["code"], error["message"], error["param"]) == ("engine_failed", "The engine failed.", None)
    assert failed["response"]["error"]["code"] in quoted(after)


def _finish(exchange: Exchange) -> None:
    if exchange.face is not None:
        exchange.face.finish(exchange)
        return
    assert exchange.error is not None
    if exchange.stream_started:
        exchange.client.end_stream(openai.error_event(exchange.error))
    else:
        answer = openai.error_answer(exchange.error)
        exchange.client.respond(answer.status, answer.headers, answer.body)


def test_every_field_of_anthropics_is_on_the_page() -> None:
    named = {name for field, _ in table("field") for name in quoted(field)}
    assert set(anthropic_request.FIELDS) <= named | {"model"}
