"""Answers to a chat as OpenAI's Responses: whatever way a stream is cut, its events are well-formed, in order, and
add up to the whole answer."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace
from typing import Any, cast

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from pointsman.contracts.errors import UpstreamFailed
from pointsman.contracts.pricing import Usage
from pointsman.router.exchange import Answer, Endpoint, Exchange
from pointsman.router.snapshot import ModelView
from pointsman.router.wire.responses_face import ResponsesFace
from support.exchanges import RecordingClient, exchange_with

EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
USAGE = Usage(input=7, cached_input=2, reasoning=3, answer=5)
TEXTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
Chat = list[tuple[str, Any]]
"""What a chat says: `reasoning_content`, `content` and `refusal` with texts, `call` with arguments."""

CHATS: st.SearchStrategy[Chat] = st.builds(
    lambda thought, said, refused, calls: [
        *(("reasoning_content", text) for text in thought),
        *(("content", text) for text in said),
        *(("refusal", text) for text in refused),
        *(("call", pieces) for pieces in calls),
    ],
    st.lists(TEXTS, max_size=4),
    st.lists(TEXTS, max_size=4),
    st.lists(TEXTS, max_size=1),
    st.lists(st.dictionaries(TEXTS, TEXTS, max_size=2).map(lambda value: orjson.dumps(value).decode()), max_size=2),
)


def face_of(body: dict[str, Any]) -> tuple[ResponsesFace, Exchange, RecordingClient]:
    exchange = exchange_with({"model": "m", "input": "hello", **body}, endpoint=Endpoint.RESPONSES)
    client = cast(RecordingClient, exchange.client)
    face = ResponsesFace(client)
    exchange.payload = face.translated(orjson.loads(exchange.body), exchange)
    exchange.model, exchange.rid, exchange.usage = ModelView("m", {}, frozenset()), "0" * 32, USAGE
    face.understood(exchange)
    return face, exchange, client


def events_of(chat: Chat, finish: str) -> bytes:
    """The stream of an engine that says `chat`."""
    deltas: list[dict[str, Any]] = []
    for index, (kind, value) in enumerate(chat):
        if kind != "call":
            deltas.append({kind: value})
            continue
        begun = {"index": index, "id": f"c{index}", "type": "function", "function": {"name": "f", "arguments": ""}}
        deltas.append({"tool_calls": [begun]})
        half = len(value) // 2
        deltas += [
            {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}
            for piece in (value[:half], value[half:])
        ]
    chunks = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    chunks.append({"index": 0, "delta": {}, "finish_reason": finish})
    return b"".join(b"data: %b\n\n" % orjson.dumps({"id": "x", "choices": [chunk]}) for chunk in chunks)


def answer_of(chat: Chat, finish: str) -> dict[str, Any]:
    """The same as a whole answer."""
    message: dict[str, Any] = {"role": "assistant"}
    for name in ("reasoning_content", "content", "refusal"):
        message[name] = "".join(value for kind, value in chat if kind == name) or None
    message["tool_calls"] = [
        {"id": f"c{index}", "type": "function", "function": {"name": "f", "arguments": value}}
        for index, (kind, value) in enumerate(chat)
        if kind == "call"
    ]
    return {"choices": [{"index": 0, "message": message, "finish_reason": finish}]}


def streamed(chat: Chat, finish: str, cuts: list[int], **body: Any) -> list[dict[str, Any]]:
    """The events that the client gets of a stream that comes in pieces, each of whole events."""
    face, exchange, client = face_of({"stream": True, **body})
    pieces = events_of(chat, finish).split(b"\n\n")[:-1]
    bounds = sorted({0, *(cut % (len(pieces) + 1) for cut in cuts), len(pieces)})
    blocks = [b"".join(piece + b"\n\n" for piece in pieces[a:b]) for a, b in pairwise(bounds)]
    exchange.stream_started = True
    face.start_stream(b"", first=blocks[0] if blocks else b"")
    for block in blocks[1:]:
        face.send(block)
    face.finish(exchange)
    assert client.ended
    return read(client.sent)


def read(sent: bytes) -> list[dict[str, Any]]:
    """The events, each of which the SDK's own types accept, numbered from 0 on."""
    found = []
    for block in sent.split(b"\n\n")[:-1]:
        name, data = block.split(b"\n")
        event = orjson.loads(data.removeprefix(b"data: "))
        assert name == b"event: " + event["type"].encode()
        EVENT.validate_python(event, strict=False)
        found.append(event)
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    return found


def said_in(response: dict[str, Any]) -> list[Any]:
    """What the items of an answer say, without their ids."""
    said: list[Any] = []
    for item in response["output"]:
        if item["type"] == "function_call":
            said.append(("call", item["call_id"], item["name"], item["arguments"]))
        else:
            parts = [*item.get("summary", []), *(item.get("content") or [])]
            said += [(part["type"], part.get("text", part.get("refusal"))) for part in parts]
    return said


@given(chat=CHATS, cuts=st.lists(st.integers(0, 50), max_size=6), summary=st.sampled_from([None, "auto"]))
@settings(max_examples=120, deadline=None)
def test_a_streams_events_add_up_to_the_whole_answer(chat: Chat, cuts: list[int], summary: str | None) -> None:
    body: dict[str, Any] = {} if summary is None else {"reasoning": {"summary": summary}}
    found = streamed(chat, "stop", cuts, **body)
    face, exchange, client = face_of(body)
    exchange.answer = Answer(200, b"", orjson.dumps(answer_of(chat, "stop")))
    face.finish(exchange)
    whole = orjson.loads(client.sent)
    Response.model_validate(whole)
    last = found[-1]
    assert [event["type"] for event in found[:2]] == ["response.created", "response.in_progress"]
    assert last["type"] == "response.completed"
    assert said_in(last["response"]) == said_in(whole)
    assert last["response"]["usage"] == whole["usage"]
    check_order(found)


def check_order(found: list[dict[str, Any]]) -> None:
    """Each item and each part begins once, ends once, and its pieces add up to what its end tells."""
    texts: dict[tuple[int, str], str] = {}
    items: dict[int, str] = {}
    done: list[Any] = []
    for event in found:
        kind = event["type"]
        if kind == "response.output_item.added":
            assert event["output_index"] == len(items)
            items[event["output_index"]] = event["item"]["id"]
        elif kind == "response.output_item.done":
            assert items[event["output_index"]] == event["item"]["id"]
            done.append(event["item"])
        elif kind.endswith((".delta", ".done")) and "item_id" in event and "part" not in event:
            assert items[event["output_index"]] == event["item_id"]
            place = (event["output_index"], kind.rsplit(".", 1)[0])
            if kind.endswith(".delta"):
                texts[place] = texts.get(place, "") + event["delta"]
            else:
                told = event.get("text", event.get("refusal", event.get("arguments")))
                assert texts.get(place, "") == told
    assert sorted(item["id"] for item in done) == sorted(items.values())
    assert sorted(orjson.dumps(item) for item in done) == sorted(
        orjson.dumps(item) for item in found[-1]["response"]["output"]
    )


def test_what_is_cut_is_incomplete_and_says_why() -> None:
    found = streamed([("content", "I was about")], "length", [])
    response = found[-1]["response"]
    assert (found[-1]["type"], response["status"]) == ("response.incomplete", "incomplete")
    assert response["incomplete_details"] == {"reason": "max_output_tokens"}
    assert response["output"][0]["status"] == "incomplete"


def test_an_error_in_midstream_ends_it_as_failed_with_what_there_was() -> None:
    face, exchange, client = face_of({"stream": True})
    exchange.stream_started = True
    face.start_stream(b"", first=events_of([("content", "so far")], "stop").split(b"\n\n")[0] + b"\n\n")
    exchange.error = UpstreamFailed("The engine failed.")
    face.finish(exchange)
    found = read(client.sent)
    assert [event["type"] for event in found[-2:]] == ["error", "response.failed"]
    assert found[-2]["code"] == "engine_failed"
    assert found[-1]["response"]["error"] == {"code": "server_error", "message": "The engine failed."}


def test_an_answer_repeats_how_it_was_asked_for() -> None:
    body = {
        "instructions": "be brief",
        "temperature": 0.5,
        "max_output_tokens": 99,
        "metadata": {"a": "b"},
        "reasoning": {"effort": "low", "summary": "auto"},
        "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": True}],
        "tool_choice": "none",
        "parallel_tool_calls": False,
    }
    face, exchange, client = face_of(body)
    exchange.answer = Answer(200, b"", orjson.dumps(answer_of([("content", "yes")], "stop")))
    face.finish(exchange)
    told = orjson.loads(client.sent)
    assert {name: told[name] for name in body} == body
    assert (told["store"], told["status"], told["id"]) == (False, "completed", "resp_" + "0" * 32)
    assert told["usage"] == {
        "input_tokens": 9,
        "input_tokens_details": {"cached_tokens": 2},
        "output_tokens": 8,
        "output_tokens_details": {"reasoning_tokens": 3},
        "total_tokens": 17,
    }


def test_arguments_that_are_no_object_are_an_error_and_no_answer() -> None:
    face, exchange, client = face_of({})
    exchange.answer = Answer(200, b"", orjson.dumps(answer_of([("call", "[1]")], "tool_calls")))
    exchange.decision = cast(Any, None)
    face.finish(exchange)
    assert client.status == 502
    assert SimpleNamespace(**orjson.loads(client.sent)["error"]).code == "engine_failed"


@pytest.mark.parametrize("finish", ["stop", "tool_calls"])
def test_calls_that_alternate_are_kept_apart(finish: str) -> None:
    face, exchange, client = face_of({"stream": True})
    exchange.stream_started = True
    pieces = [(0, "a", '{"x"'), (1, "b", '{"y"'), (0, None, ":1}"), (1, None, ":2}")]
    calls = [
        {"index": index, **({"id": name} if name else {}), "function": {"name": name or "", "arguments": piece}}
        for index, name, piece in pieces
    ]
    chunks = [{"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]} for call in calls]
    chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
    face.start_stream(b"", first=b"".join(b"data: %b\n\n" % orjson.dumps(chunk) for chunk in chunks))
    face.finish(exchange)
    found = read(client.sent)
    check_order(found)
    assert said_in(found[-1]["response"]) == [("call", "a", "a", '{"x":1}'), ("call", "b", "b", '{"y":2}')]
