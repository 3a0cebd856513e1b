"""What agents and SDKs' own helpers send, unchanged: parsed answers, tool runners, requests of coding agents."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx
import openai
import pytest
from pydantic import BaseModel, SecretStr

from support.gateway import DEEP, FAST, Gateway

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else it asks the internet for one when it is imported

MODES = ["no_think", "think"]
ASKED = "Call weather."
NO_LOGPROBS = {**FAST, "name": "bare", "model": "bare", "capabilities": {"logprobs": False, "tools": True}}


class weather(BaseModel):
    """The weather in a city."""

    city: str
    days: int


FOUND = weather(city="[simulated]", days=1)
TOOL = openai.pydantic_function_tool(weather)
FUNCTION: dict[str, Any] = {"type": "function", **TOOL["function"]}


def text(said: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": said, **more}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    able = {"capabilities": {"tools": True}}
    pools = [{**FAST, **able}, {**DEEP, **able}, NO_LOGPROBS]
    with Gateway(tmp_path_factory.mktemp("gw"), pools=pools) as gateway:
        yield gateway


@pytest.fixture
def client(gateway: Gateway) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0)


@pytest.fixture
def claude(gateway: Gateway) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=gateway.url, api_key=gateway.key, max_retries=0)


@pytest.mark.parametrize("mode", MODES)
def test_parsed_chats_are_sent_back(client: openai.OpenAI, mode: str) -> None:
    model, asked = f"smollm2:{mode}", {"role": "user", "content": ASKED}
    formed = client.chat.completions.parse(model=model, messages=[asked], response_format=weather)  # type: ignore[list-item]
    assert formed.choices[0].message.parsed == FOUND
    called = client.chat.completions.parse(model=model, messages=[asked], tools=[TOOL])  # type: ignore[list-item]
    (call,) = called.choices[0].message.tool_calls or []
    assert call.function.parsed_arguments == FOUND
    result = {"role": "tool", "tool_call_id": call.id, "content": "18 C"}
    for told, after in ((formed, asked), (called, result)):
        message = told.choices[0].message
        for sent in (message, message.model_dump()):  # both ways in which users send it
            messages: list[Any] = [asked, sent, after]
            assert client.chat.completions.create(model=model, messages=messages, tools=[TOOL]).choices


@pytest.mark.parametrize("mode", MODES)
def test_parsed_responses_are_sent_back(client: openai.OpenAI, mode: str) -> None:
    model, asked = f"smollm2:{mode}", {"role": "user", "content": ASKED}
    formed = client.responses.parse(model=model, input=ASKED, text_format=weather)
    assert formed.output_parsed == FOUND
    with client.responses.stream(model=model, input=ASKED, tools=[FUNCTION]) as stream:
        called = stream.get_final_response()
    (call,) = [item for item in called.output if item.type == "function_call"]
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "18 C"}
    for told, after in ((formed, asked), (called, result)):
        for sent in (told.output, [item.model_dump() for item in told.output]):
            items: Any = [asked, *sent, after]
            assert client.responses.create(model=model, input=items, max_tool_calls=4).output_text


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("mode", MODES)
def test_anthropics_tool_runner_calls_and_goes_on(claude: anthropic.Anthropic, mode: str, *, stream: bool) -> None:
    called = []

    @anthropic.beta_tool
    def weather(city: str) -> str:
        """The weather in a city."""
        called.append(city)
        return "18 C"

    asked: Any = {"role": "user", "content": ASKED}
    turns = claude.beta.messages.tool_runner(
        model=f"smollm2:{mode}", max_tokens=200, tools=[weather], messages=[asked], stream=stream
    )
    reasons = [turn.get_final_message().stop_reason if stream else turn.stop_reason for turn in turns]  # type: ignore[union-attr]
    assert called == ["[simulated]"]
    assert reasons == ["tool_use", "end_turn"]


def test_a_models_page_is_read_by_both_sdks(client: openai.OpenAI, claude: anthropic.Anthropic) -> None:
    assert [model.id for model in client.models.list()] == ["bare", "smollm2"]
    page = claude.models.list()
    assert [(model.type, model.display_name) for model in page] == [("model", "bare"), ("model", "smollm2")]
    assert (page.has_more, page.first_id, page.last_id) == (False, "bare", "smollm2")
    assert claude.models.retrieve("smollm2").created_at.year == 1970


def test_a_coding_agents_request(gateway: Gateway) -> None:
    """With all that such an agent sends on Messages, in the third turn of its work."""
    marked = {"cache_control": {"type": "ephemeral"}}
    schema = {"$schema": "http://json-schema.org/draft-07/schema#", "type": "object", "additionalProperties": False}
    calls = [{"type": "tool_use", "id": f"toolu_{n}", "name": "weather", "input": {"city": "x"}} for n in (1, 2)]
    body = {
        "model": "smollm2",
        "max_tokens": 400,
        "stream": True,
        "temperature": 1,
        "metadata": {"user_id": "somebody"},
        "thinking": {"type": "enabled", "budget_tokens": 40},
        "system": [
            {"type": "text", "text": "You work on code.", **marked},
            {"type": "text", "text": "Linux.", **marked},
        ],
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        "tools": [
            {"name": "weather", "description": "d", "input_schema": schema, "eager_input_streaming": True, **marked}
        ],
        "messages": [
            {
                "role": "user",
                "content": [{"type": "text", "text": "<reminder>"}, {"type": "text", "text": "Hi", **marked}],
            },
            {"role": "assistant", "content": [{"type": "thinking", "thinking": "Hm.", "signature": "s"}, *calls]},
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "a"}]},
                    {"type": "tool_result", "tool_use_id": "toolu_2", "is_error": True, "content": "bad", **marked},
                    text("Go on.", **marked),
                ],
            },
        ],
    }
    headers = {
        "x-api-key": gateway.key,
        "anthropic-version": "2023-06-01",
        "anthropic-beta": "claude-code-20250219",
    }
    answer = httpx.post(f"{gateway.url}/v1/messages?beta=true", json=body, headers=headers, timeout=60)
    assert answer.status_code == 200, answer.text
    assert answer.text.rstrip().endswith('data: {"type":"message_stop"}')
    counted = {
        name: item for name, item in body.items() if name in ("model", "system", "tools", "messages", "thinking")
    }
    told = httpx.post(
        f"{gateway.url}/v1/messages/count_tokens?beta=true", json=counted, headers=headers, timeout=60
    )
    assert told.json()["input_tokens"] > 20


def test_another_coding_agents_request(client: openai.OpenAI) -> None:
    """With all that such an agent sends on Responses."""
    body: dict[str, Any] = {
        "instructions": "You work on code.",
        "tools": [{**FUNCTION, "description": "d", "strict": False}],
        "tool_choice": "auto",
        "parallel_tool_calls": False,
        "reasoning": {"effort": "medium", "summary": "auto"},
        "store": False,
        "include": ["reasoning.encrypted_content"],
        "prompt_cache_key": "a-session",
        "text": {"verbosity": "medium"},
    }
    items: list[Any] = [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": ASKED}]}]
    with client.responses.stream(model="smollm2", input=items, **body) as stream:
        types = [event.type for event in stream]
        first = stream.get_final_response()
    assert "response.reasoning_summary_text.delta" in types
    assert "response.function_call_arguments.done" in types
    items += [item.model_dump(exclude_none=True) for item in first.output]
    items += [
        {"type": "function_call_output", "call_id": item.call_id, "output": "18 C"}
        for item in first.output
        if item.type == "function_call"
    ]
    assert client.responses.create(model="smollm2", input=items, **body).output_text


def test_log_probabilities_in_responses(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"input": "Say it.", "include": ["message.output_text.logprobs"], "top_logprobs": 2}
    for model in ("smollm2:no_think", "smollm2:think"):
        whole = client.responses.create(model=model, **asked)
        with client.responses.stream(model=model, **asked) as stream:
            deltas = [event for event in stream if event.type == "response.output_text.delta"]
            again = stream.get_final_response()
        for response in (whole, again):
            part = response.output[-1].content[0]  # type: ignore[union-attr,index]
            assert "".join(entry.token for entry in part.logprobs) == part.text  # type: ignore[union-attr]
            assert all(len(entry.top_logprobs) == 2 for entry in part.logprobs)  # type: ignore[union-attr]
        assert all("".join(entry.token for entry in delta.logprobs) == delta.delta for delta in deltas)
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(model="bare", **asked)
    assert (refused.value.code, refused.value.param) == ("unsupported_parameter", "include")


def test_a_call_that_was_cut_is_an_error_in_each_format(client: openai.OpenAI, claude: anthropic.Anthropic) -> None:
    tools: Any = [{"name": "weather", "input_schema": FUNCTION["parameters"]}]
    asked: Any = {"role": "user", "content": ASKED}
    message: Any = {"model": "smollm2:no_think", "max_tokens": 8, "messages": [asked], "tools": tools}
    with pytest.raises(anthropic.InternalServerError) as cut:
        claude.messages.create(**message)
    assert cut.value.body["error"]["code"] == "tool_call_cut"  # type: ignore[index]
    kinds = []
    with pytest.raises(anthropic.APIStatusError) as cut, claude.messages.stream(**message) as stream:
        kinds += [event.type for event in stream]
    assert cut.value.body["error"]["code"] == "tool_call_cut"  # type: ignore[index]
    assert "message_stop" not in kinds
    response: Any = {"model": "smollm2:no_think", "max_output_tokens": 8, "input": ASKED, "tools": [FUNCTION]}
    with pytest.raises(openai.InternalServerError) as refused:
        client.responses.create(**response)
    assert refused.value.code == "tool_call_cut"
    *_, error, last = client.responses.create(**response, stream=True)
    assert (error.type, error.code, last.type) == ("error", "tool_call_cut", "response.failed")
    assert [item.type for item in last.response.output] == []


BAD: dict[str, dict[str, tuple[dict[str, Any], str]]] = {
    "/v1/chat/completions": {
        "a schema that is none": (
            {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": 7}}}]},
            "tools[0].function.parameters.type",
        ),
        "an unknown block": (
            {"messages": [{"role": "user", "content": [{"type": "video"}]}]},
            "messages[0].content[0].type",
        ),
        "an orphan": (
            {"messages": [{"role": "tool", "tool_call_id": "x", "content": "y"}]},
            "messages[0].tool_call_id",
        ),
        "another format": ({"input": "x"}, "input"),
        "blocks of another format": (
            {"messages": [{"role": "user", "content": [{"type": "input_text", "text": "x"}]}]},
            "messages[0].content[0].type",
        ),
    },
    "/v1/responses": {
        "a schema that is none": (
            {"tools": [{**FUNCTION, "parameters": {"type": 7}}]},
            "tools[0].parameters.type",
        ),
        "an unknown block": (
            {"input": [{"role": "user", "content": [{"type": "video"}]}]},
            "input[0].content[0].type",
        ),
        "an orphan": (
            {"input": [{"type": "function_call_output", "call_id": "x", "output": "y"}]},
            "input[0].call_id",
        ),
        "another format": ({"messages": []}, "messages"),
        "blocks of another format": ({"input": [{"type": "tool_result"}]}, "input[0].type"),
    },
    "/v1/messages": {
        "a schema that is none": (
            {"tools": [{"name": "f", "input_schema": {"type": 7}}]},
            "tools[0].input_schema.type",
        ),
        "an unknown block": (
            {"messages": [{"role": "user", "content": [{"type": "video"}]}]},
            "messages[0].content[0].type",
        ),
        "an orphan": (
            {"messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "x"}]}]},
            "messages[0].content[0].tool_use_id",
        ),
        "no room for the answer": (
            {"thinking": {"type": "enabled", "budget_tokens": 50}},
            "thinking.budget_tokens",
        ),
        "another format": ({"max_completion_tokens": 5}, "max_completion_tokens"),
        "blocks of another format": (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "messages[0].content[0].type",
        ),
    },
}
GOOD: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "x"}]},
    "/v1/responses": {"input": "x"},
    "/v1/messages": {"max_tokens": 50, "messages": [{"role": "user", "content": "x"}]},
}


@pytest.mark.parametrize("path", BAD)
def test_bad_input_is_named_in_the_callers_format_and_goes_no_further(gateway: Gateway, path: str) -> None:
    engines = [engine for pool in gateway.engines.values() for engine in pool]
    for engine in engines:
        engine.forget()
    with gateway.client() as http:
        for what, (wrong, field) in BAD[path].items():
            for stream in (False, True):
                body = {"model": "smollm2", **GOOD[path], **wrong, "stream": stream}
                answer = http.post(path, json=body)
                told = answer.json()
                assert answer.status_code == 400, what
                assert ("type" in told) is (path == "/v1/messages"), what
                assert (told["error"]["type"], told["error"]["param"]) == ("invalid_request_error", field), what
                assert f"'{field}'" in told["error"]["message"], what
        assert not any(engine.received() for engine in engines)
        assert http.post(path, json={"model": "smollm2", **GOOD[path]}).status_code == 200
    assert any(engine.received() for engine in engines)


@pytest.mark.parametrize("shape", [None, "responses/v1", "v1"])
@pytest.mark.parametrize("mode", MODES)
def test_langchain_on_responses(gateway: Gateway, mode: str, shape: str | None) -> None:
    from langchain_core.messages import HumanMessage, ToolMessage
    from langchain_openai import ChatOpenAI

    model = ChatOpenAI(
        model=f"smollm2:{mode}",
        base_url=f"{gateway.url}/v1",
        api_key=SecretStr(gateway.key),
        max_retries=0,
        use_responses_api=True,
        output_version=shape,
    )
    assert "[simulated]" in str(model.invoke("Hello.").content)
    able, asked = model.bind_tools([weather]), HumanMessage(ASKED)
    whole: Any = None
    for chunk in able.stream([asked]):
        whole = chunk if whole is None else whole + chunk
    for first in (able.invoke([asked]), whole):
        assert [(call["name"], call["args"]) for call in first.tool_calls] == [("weather", FOUND.model_dump())]
        results = [ToolMessage("18 C", tool_call_id=call["id"]) for call in first.tool_calls]
        assert "[simulated]" in str(able.invoke([asked, first, *results]).content)
    assert model.with_structured_output(weather, method="json_schema").invoke("Where?") == FOUND


@pytest.mark.parametrize("mode", MODES)
def test_litellm_on_messages_and_on_responses(gateway: Gateway, mode: str) -> None:
    import litellm

    name = f"smollm2:{mode}"

    def ask(messages: list[Any], **more: Any) -> Any:
        keyed = {"api_base": gateway.url, "api_key": gateway.key, "num_retries": 0}
        return litellm.completion(model=f"anthropic/{name}", messages=messages, **keyed, **more)

    asked: list[Any] = [{"role": "user", "content": ASKED}]
    texts = [chunk.choices[0].delta.content or "" for chunk in ask(asked, stream=True)]
    assert "".join(texts).startswith("[simulated]")
    first = ask(asked, tools=[TOOL]).choices[0].message
    (call,) = first.tool_calls
    result = {"role": "tool", "tool_call_id": call.id, "content": "18 C"}
    assert ask([*asked, first, result], tools=[TOOL]).choices[0].message.content.startswith("[simulated]")
    keyed: Any = {"api_base": f"{gateway.url}/v1", "api_key": gateway.key, "model": f"openai/{name}"}
    assert litellm.responses(input="Hello.", **keyed).status == "completed"  # type: ignore[union-attr]
    *_, last = litellm.responses(input="Hello.", stream=True, **keyed)  # type: ignore[misc]
    assert last.type == "response.completed"
