"""Requests with tools, schemas and images: what is wrong is refused by its place, and nothing is fetched for it."""

from __future__ import annotations

import socket
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.contracts.errors import InvalidRequest
from pointsman.router.exchange import Exchange
from pointsman.router.wire import openai_request, tools
from support.exchanges import exchange_with

USER = {"role": "user", "content": "x"}
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
FIND = {"type": "function", "function": {"name": "find", "description": "Finds.", "parameters": CITY}}
PNG = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


def tool(**function: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "f", **function}}


def call(name: str = "a", arguments: str = "{}") -> dict[str, Any]:
    return {"id": name, "type": "function", "function": {"name": "find", "arguments": arguments}}


def calls(*made: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": None, "tool_calls": list(made)}


CHOICE = {"type": "allowed_tools"}


def allowed(*names: str, mode: str = "auto", **fields: Any) -> dict[str, Any]:
    named = [{"type": "function", "function": {"name": name}} for name in names]
    return {"tools": [FIND], "tool_choice": {**CHOICE, "allowed_tools": {"mode": mode, "tools": named}}, **fields}


def result(name: str = "a") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": name, "content": "18 C"}


def image(url: Any, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url, **more}}]}]}


def talk(*messages: Any) -> dict[str, Any]:
    return {"messages": [USER, *messages]}


def form(**schema: Any) -> dict[str, Any]:
    return {"response_format": {"type": "json_schema", "json_schema": schema}}


PARAMETERS = "tools[0].function.parameters"
ARGUMENTS = "messages[1].tool_calls[0].function.arguments"
IMAGE = "messages[0].content[0].image_url"

WRONG: dict[str, tuple[dict[str, Any], str]] = {
    # what is wrong: (the fields of the request, the field that the error names)
    "tools no list": ({"tools": {"a": FIND}}, "tools"),
    "too many tools": ({"tools": [FIND] * 513}, "tools"),
    "a tool that is none": ({"tools": [FIND, 7]}, "tools[1]"),
    "a tool of another type": ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, "tools[0].type"),
    "a tool in Anthropic's form": ({"tools": [{"name": "f", "input_schema": CITY}]}, "tools[0].type"),
    "a tool without a function": ({"tools": [{"type": "function"}]}, "tools[0].function"),
    "a tool without a name": ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
    "a name with a space": ({"tools": [tool(name="a b")]}, "tools[0].function.name"),
    "a name that is too long": ({"tools": [tool(name="a" * 65)]}, "tools[0].function.name"),
    "one name twice": ({"tools": [FIND, FIND]}, "tools[1].function.name"),
    "a field of nobody's": ({"tools": [tool(defer_loading=True)]}, "tools[0].function.defer_loading"),
    "a description that is none": ({"tools": [tool(description=7)]}, "tools[0].function.description"),
    "strictness that is none": ({"tools": [tool(strict="yes")]}, "tools[0].function.strict"),
    "parameters no object": ({"tools": [tool(parameters=[])]}, "tools[0].function.parameters"),
    "a type that is none": (
        {"tools": [FIND, tool(parameters={"type": "object", "properties": {"a": {"type": "strin"}}})]},
        "tools[1].function.parameters.properties.a.type",
    ),
    "required no list": ({"tools": [tool(parameters={"required": "a"})]}, PARAMETERS + ".required"),
    "arguments that are no object": ({"tools": [tool(parameters={"type": "array"})]}, PARAMETERS + ".type"),
    "a choice of nothing": ({"tool_choice": "required"}, "tool_choice"),
    "a choice of nothing by name": (
        {"tools": [], "tool_choice": {"type": "function", "function": {"name": "find"}}},
        "tool_choice",
    ),
    "a choice of a word": ({"tools": [FIND], "tool_choice": "find"}, "tool_choice"),
    "a choice in Anthropic's form": ({"tools": [FIND], "tool_choice": {"type": "tool"}}, "tool_choice.type"),
    "a choice of what is not offered": (
        {"tools": [FIND], "tool_choice": {"type": "function", "function": {"name": "lose"}}},
        "tool_choice.function.name",
    ),
    "none of the tools allowed": (allowed(), "tool_choice.allowed_tools.tools"),
    "tools allowed and forbidden": (allowed("find", mode="none"), "tool_choice.allowed_tools.mode"),
    "a tool allowed by a word": (
        {"tools": [FIND], "tool_choice": {**CHOICE, "allowed_tools": {"mode": "auto", "tools": ["find"]}}},
        "tool_choice.allowed_tools.tools[0]",
    ),
    "a tool allowed that is not offered": (allowed("find", "lose"), "tool_choice.allowed_tools.tools[1]"),
    "parallel calls by word": ({"tools": [FIND], "parallel_tool_calls": "no"}, "parallel_tool_calls"),
    "tools in a message": (talk({"role": "system", "content": "x", "tools": [FIND]}), "messages[1].tools"),
    "a result of no call": (talk(result()), "messages[1].tool_call_id"),
    "a result without an id": (talk(calls(call()), {"role": "tool", "content": "x"}), "messages[2].tool_call_id"),
    "a result of another call": (talk(calls(call()), result("b")), "messages[2].tool_call_id"),
    "a result twice": (talk(calls(call()), result(), result()), "messages[3].tool_call_id"),
    "a result of an earlier turn": (talk(calls(call()), result(), USER, result()), "messages[4].tool_call_id"),
    "a call without a result": (talk(calls(call("a"), call("b")), result("a")), "messages[1].tool_calls[1]"),
    "a call that is talked over": (talk(calls(call()), USER), "messages[1].tool_calls[0]"),
    "two calls of one id": (talk(calls(call(), call()), result()), "messages[1].tool_calls[1].id"),
    "a call without an id": (talk(calls({**call(), "id": None}), result()), "messages[1].tool_calls[0].id"),
    "a call of nothing": (talk(calls({"id": "a"}), result()), "messages[1].tool_calls[0].function"),
    "arguments that are no JSON": (talk(calls(call(arguments="{")), result()), ARGUMENTS),
    "arguments that are a list": (talk(calls(call(arguments="[]")), result()), ARGUMENTS),
    "calls of a user's": (talk({**USER, "tool_calls": [call()]}), "messages[1].tool_calls"),
    "an id of a user's": (talk({**USER, "tool_call_id": "a"}), "messages[1].tool_call_id"),
    "blocks of Anthropic's": (
        {"messages": [{"role": "user", "content": [{"type": "tool_result"}]}]},
        "messages[0].content[0].type",
    ),
    "an image from the engine's disk": (image("/etc/passwd"), IMAGE + ".url"),
    "an image by file": (image("file:///x.png"), IMAGE + ".url"),
    "data that is no image": (image("data:text/html,x"), IMAGE + ".url"),
    "an image without a URL": (image(None), IMAGE + ".url"),
    "a detail that is none": (image("https://a/b.png", detail="most"), IMAGE + ".detail"),
    "a switch beside an image": (
        {"messages": [{"role": "user", "content": [{**PNG, "modalities": "video"}]}]},
        "messages[0].content[0].modalities",
    ),
    "a refusal of the user's": (talk({"role": "user", "content": "x", "refusal": "y"}), "messages[1].refusal"),
    "a refusal without words": (
        talk({"role": "assistant", "content": [{"type": "refusal"}]}),
        "messages[1].content[0].refusal",
    ),
    "an engine's own switch": (image("https://a/b.png", max_dynamic_patch=9), IMAGE + ".max_dynamic_patch"),
    "a form without a schema": (form(name="a"), "response_format.json_schema.schema"),
    "a form without a name": (form(schema=CITY), "response_format.json_schema.name"),
    "a form whose schema is none": (
        form(name="a", schema={"properties": {"a": {"minLength": -1}}}),
        "response_format.json_schema.schema.properties.a.minLength",
    ),
    "a form of an engine's own": ({"response_format": {"type": "structural_tag"}}, "response_format.type"),
    "more than text": ({"modalities": ["text", "audio"]}, "modalities"),
    "words that no model heeds": ({"verbosity": "low"}, "verbosity"),
    "alternatives of nothing": ({"top_logprobs": 2}, "top_logprobs"),
    "alternatives of what is not wanted": ({"logprobs": False, "top_logprobs": 2}, "top_logprobs"),
}  # fmt: skip


def read(**body: Any) -> Exchange:
    exchange: Exchange = exchange_with({"model": "m", "messages": [USER], **body})
    openai_request.read(exchange)
    return exchange


def refusal(**body: Any) -> InvalidRequest | None:
    """Why a request is refused, or None where it is read."""
    try:
        read(**body)
    except InvalidRequest as error:
        return error
    return None


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_is_named(wrong: str) -> None:
    body, field = WRONG[wrong]
    error = refusal(**body)
    assert error is not None
    assert error.param == field
    assert field in error.message


def test_a_conversation_with_tools_goes_on_as_it_came() -> None:
    messages = [
        {"role": "developer", "content": "Be brief."},
        USER,
        # as SDKs send an answer back
        {**calls(call("a"), call("b", '{"city": "Oslo"}')), "refusal": None, "audio": None, "annotations": []},
        result("b"),
        {**result("a"), "content": [{"type": "text", "text": "18 C"}]},
        {"role": "assistant", "content": "Mild.", "reasoning_content": "Hm."},
        {"role": "user", "content": [{"type": "text", "text": "And this?"}, PNG]},
    ]
    asked = {"tools": [FIND], "tool_choice": "auto", "parallel_tool_calls": False, "messages": messages}
    exchange = read(**asked)
    messages[0] = {**messages[0], "role": "system"}  # of which more chat templates know
    messages[2] = {name: item for name, item in messages[2].items() if name not in ("annotations", "refusal")}
    assert openai_request.forwarded(exchange) == asked
    assert exchange.needs == {"tools": "tools", "images": "messages[6].content"}
    assert exchange.toolbox == {"find": tools.Tool(("city",), False, CITY)}


def test_what_sdks_add_is_taken_out_and_a_refusal_is_a_text() -> None:
    marked = {"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}}
    refused = {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}
    asked = talk(
        {"role": "assistant", "content": "{}", "parsed": {"a": 1}, "refusal": None},
        {"role": "user", "content": [marked]},
        {"role": "assistant", "content": None, "refusal": "Never."},
        {"role": "assistant", "content": "Well.", "refusal": "Never."},
        refused,
    )
    fields = {
        "stream": True,
        "stream_options": {"include_usage": True, "include_obfuscation": False},
        "modalities": ["text"],
        "verbosity": "medium",
        "prediction": {"type": "content", "content": "x"},
        "prompt_cache_retention": "24h",
    }
    assert openai_request.forwarded(read(**asked, **fields)) == talk(
        {"role": "assistant", "content": "{}"},
        {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
        {"role": "assistant", "content": "Never."},
        {"role": "assistant", "content": "Well.\nNever."},
        {"role": "assistant", "content": [{"type": "text", "text": "No."}]},
    )


def test_an_image_that_the_engine_would_fetch_is_a_need_of_its_own() -> None:
    assert read(**image("https://a/b.png", detail="low")).needs == {
        "images": "messages[0].content",
        "remote_images": IMAGE + ".url",
    }


@pytest.mark.parametrize("mode", ["auto", "required"])
def test_of_the_tools_those_that_are_allowed_go_on(mode: str) -> None:
    others = [tool(name="keep"), tool(name="lose")]
    exchange = read(**allowed("lose", "find", mode=mode, tools=[others[0], FIND, others[1]]))
    assert exchange.payload["tools"] == [FIND, others[1]]
    assert exchange.payload["tool_choice"] == mode
    assert exchange.toolbox is not None
    assert set(exchange.toolbox) == {"find", "lose"}


def test_without_tools_nothing_is_said_of_calling_them() -> None:
    exchange = read(tools=[], tool_choice="auto", parallel_tool_calls=True)
    assert openai_request.forwarded(exchange).keys() == {"messages"}
    assert exchange.toolbox is None
    assert not exchange.needs


def test_nothing_is_fetched_that_a_schema_refers_to() -> None:
    """A server that would notice; `$schema`, too, says to whom one would have to turn."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.05)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/schema"
        for schema in ({"$schema": url}, {"$ref": url}, {"$id": url, "$dynamicRef": url}):
            read(tools=[tool(parameters={"type": "object", **schema})])
        with pytest.raises(TimeoutError):
            listener.accept()


def test_a_schema_without_a_bottom_is_refused_and_a_large_one_takes_little_time() -> None:
    deep: dict[str, Any] = {"type": "string"}
    for _ in range(130):
        deep = {"properties": {"a": deep}}
    with pytest.raises(InvalidRequest) as refused:
        tools.toolbox_of([tool(parameters=deep)])
    assert refused.value.param == "tools"
    large = [tool(parameters={"type": "object", "anyOf": [{"type": "string"}] * 25_000})]
    began = time.process_time()
    read(tools=large)
    assert time.process_time() - began < 0.25
    with pytest.raises(InvalidRequest, match="bytes long"):
        read(tools=[tool(description="x" * tools.MAX_BYTES)])


def test_the_same_tools_are_looked_at_once() -> None:
    first = read(tools=[FIND]).toolbox
    assert first is not None
    assert read(tools=[FIND]).toolbox is first
    for number in range(tools.REMEMBERED):
        read(tools=[tool(name=f"f{number}")])
    assert len(tools._known) == tools.REMEMBERED
    assert read(tools=[FIND]).toolbox == first


NAMES = st.sampled_from("abc")


@given(
    turns=st.lists(
        st.tuples(st.lists(NAMES, min_size=1, max_size=3, unique=True), st.lists(NAMES, max_size=3)), max_size=4
    )
)
def test_a_conversation_is_valid_where_each_turn_has_each_result_once(
    turns: list[tuple[list[str], list[str]]],
) -> None:
    messages: list[dict[str, Any]] = []
    for made, answered in turns:
        messages += [calls(*map(call, made)), *map(result, answered), USER]
    valid = all(sorted(made) == sorted(answered) for made, answered in turns)
    error = refusal(**talk(*messages))
    assert (error is None) is valid
    assert error is None or str(error.param).startswith("messages[")
