"""Tools through a real gateway, as the clients that people use speak of them: unchanged, streamed and not."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any, Literal

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionToolUnionParam
from pydantic import BaseModel

from pointsman.contracts.names import Header, Metric
from support.gateway import DEEP, FAST, Gateway

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else it asks the internet for one when it is imported

MODES = ["no_think", "think"]
WARNING = "a trial engine: it calls what it is told to"


class weather(BaseModel):
    """The weather in a city."""

    city: str
    unit: Literal["c", "f"]
    days: int


class now(BaseModel):
    """The time."""


TOOLS: list[ChatCompletionToolUnionParam] = [
    openai.pydantic_function_tool(weather),
    openai.pydantic_function_tool(now),
]
ASKED = "Call weather and now, please."
ARGUMENTS = {"city": "[simulated]", "unit": "c", "days": 1}


@pytest.fixture(scope="module")
def tooled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    able = {"capabilities": {"tools": True, "images": True, "tools_warning": WARNING}}
    with Gateway(tmp_path_factory.mktemp("gw"), pools=[{**FAST, **able}, {**DEEP, **able}]) as gateway:
        yield gateway


@pytest.fixture
def client(tooled: Gateway) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{tooled.url}/v1", api_key=tooled.key, max_retries=0)


def of(answer: ChatCompletion) -> list[tuple[str, Any]]:
    """The calls of an answer: names and arguments."""
    calls = answer.choices[0].message.tool_calls or []
    return [(call.function.name, json.loads(call.function.arguments)) for call in calls if call.type == "function"]


@pytest.mark.parametrize("mode", MODES)
def test_two_rounds_with_the_openai_sdk(tooled: Gateway, client: openai.OpenAI, mode: str) -> None:
    before = tooled.total(Metric.TOOL_ANSWERS, mode=mode, outcome="complete")
    messages: list[Any] = [{"role": "user", "content": ASKED}]
    raw = client.chat.completions.with_raw_response.create(model=f"smollm2:{mode}", messages=messages, tools=TOOLS)
    assert raw.headers[Header.WARNING] == WARNING
    first = raw.parse()
    assert first.choices[0].finish_reason == "tool_calls"
    assert of(first) == [("weather", ARGUMENTS), ("now", {})]
    message = first.choices[0].message
    messages += [message, *_results(message.tool_calls)]
    second = client.chat.completions.create(model=f"smollm2:{mode}", messages=messages, tools=TOOLS)
    assert second.choices[0].finish_reason == "stop"
    assert (second.choices[0].message.content or "").startswith("[simulated]")
    assert tooled.total(Metric.TOOL_ANSWERS, mode=mode, outcome="complete") == before + 1
    assert tooled.total(Metric.TOOL_WARNINGS, mode=mode) >= 2


def _results(calls: Any) -> list[dict[str, str]]:
    return [{"role": "tool", "tool_call_id": call.id, "content": "18 C"} for call in reversed(calls)]


@pytest.mark.parametrize("mode", MODES)
def test_the_openai_sdk_reads_streamed_calls_into_its_own_types(client: openai.OpenAI, mode: str) -> None:
    kinds, pieces = [], ""
    with client.chat.completions.stream(
        model=f"smollm2:{mode}",
        messages=[{"role": "user", "content": ASKED}],
        tools=TOOLS,
        stream_options={"include_usage": True},
    ) as stream:
        for event in stream:
            kinds.append(event.type)
            if event.type == "tool_calls.function.arguments.delta" and event.name == "weather":
                pieces += event.arguments_delta
        answer = stream.get_final_completion()
    assert kinds.count("tool_calls.function.arguments.done") == 2
    assert json.loads(pieces) == ARGUMENTS
    calls = answer.choices[0].message.tool_calls or []
    assert [type(call.function.parsed_arguments) for call in calls] == [weather, now]
    assert answer.usage is not None
    assert answer.usage.completion_tokens > 20


def test_choices_of_a_tool_are_heeded(client: openai.OpenAI) -> None:
    def ask(text: str, **more: Any) -> ChatCompletion:
        return client.chat.completions.create(
            model="smollm2", messages=[{"role": "user", "content": text}], tools=TOOLS, **more
        )

    assert of(ask("Hello.")) == []
    assert of(ask(ASKED, tool_choice="none")) == []
    assert [name for name, _ in of(ask("Hello.", tool_choice="required"))] == ["weather"]
    assert of(ask("Hello.", tool_choice={"type": "function", "function": {"name": "now"}})) == [("now", {})]
    assert [name for name, _ in of(ask(ASKED, parallel_tool_calls=False))] == ["weather"]
    several = ask(ASKED, n=2, seed=7, stop=["|"], logprobs=True, top_logprobs=1)
    assert [len(choice.message.tool_calls or []) for choice in several.choices] == [2, 2]
    assert several.choices[0].logprobs is not None
    with pytest.raises(openai.InternalServerError) as cut:
        ask(ASKED, max_tokens=12, extra_headers={Header.MODE: "no_think"})
    assert cut.value.code == "tool_call_cut"


def test_answers_that_keep_to_a_schema_are_parsed_by_the_sdk(client: openai.OpenAI) -> None:
    answer = client.chat.completions.parse(
        model="smollm2", messages=[{"role": "user", "content": "Where?"}], response_format=weather
    )
    assert answer.choices[0].message.parsed == weather(city="[simulated]", unit="c", days=1)


def test_a_cut_call_ends_a_stream_with_an_error_that_the_sdk_raises(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="smollm2:no_think",
        messages=[{"role": "user", "content": ASKED}],
        tools=TOOLS,
        max_tokens=8,
        stream=True,
    )
    ends = []
    with pytest.raises(openai.APIError) as cut:
        ends.extend(chunk.choices[0].finish_reason for chunk in stream)
    assert cut.value.code == "tool_call_cut"
    assert len(ends) > 2
    assert not any(ends)


def test_images_go_where_they_may(tooled: Gateway) -> None:
    """The simulated engine takes none, and says so: what the router refuses never gets there."""

    def refused(url: str) -> Any:
        part = {"type": "image_url", "image_url": {"url": url}}
        body = {"model": "smollm2:no_think", "messages": [{"role": "user", "content": [part]}]}
        with tooled.client() as client:
            return client.post("/v1/chat/completions", json=body).json()["error"]

    assert refused("data:image/png;base64,AAAA")["code"] == "engine_refused"
    assert refused("https://example.com/a.png")["code"] == "unsupported_parameter"
    assert refused("/etc/hostname")["param"] == "messages[0].content[0].image_url.url"


@pytest.mark.parametrize("mode", MODES)
def test_langchain_calls_tools_and_reads_streams(tooled: Gateway, mode: str) -> None:
    from langchain_core.messages import AIMessageChunk, HumanMessage, ToolMessage
    from langchain_openai import ChatOpenAI
    from pydantic import SecretStr

    model = ChatOpenAI(
        model=f"smollm2:{mode}",
        base_url=f"{tooled.url}/v1",
        api_key=SecretStr(tooled.key),
        max_retries=0,
        stream_usage=True,
    )
    assert str(model.invoke("Hello.").content).startswith("[simulated]")
    assert "".join(str(chunk.content) for chunk in model.stream("Hello.")).startswith("[simulated]")
    able = model.bind_tools([weather, now])
    asked = HumanMessage(ASKED)
    first = able.invoke([asked])
    assert [(call["name"], call["args"]) for call in first.tool_calls] == [("weather", ARGUMENTS), ("now", {})]
    results = [ToolMessage("18 C", tool_call_id=call["id"]) for call in first.tool_calls]
    assert str(able.invoke([asked, first, *results]).content).startswith("[simulated]")
    whole: Any = None
    for chunk in able.stream([asked]):
        assert isinstance(chunk, AIMessageChunk)
        whole = chunk if whole is None else whole + chunk
    assert [(call["name"], call["args"]) for call in whole.tool_calls] == [("weather", ARGUMENTS), ("now", {})]
    assert whole.usage_metadata["output_tokens"] > 20
    for method in ("function_calling", "json_schema"):
        formed = model.with_structured_output(weather, method=method).invoke("Where?")  # type: ignore[arg-type]
        assert formed == weather(city="[simulated]", unit="c", days=1)


@pytest.mark.parametrize("mode", MODES)
def test_litellm_calls_tools_and_reads_streams(tooled: Gateway, mode: str) -> None:
    import litellm

    def ask(messages: list[Any], **more: Any) -> Any:
        return litellm.completion(
            model=f"openai/smollm2:{mode}",
            api_base=f"{tooled.url}/v1",
            api_key=tooled.key,
            messages=messages,
            num_retries=0,
            **more,
        )

    hello = [{"role": "user", "content": "Hello."}]
    assert ask(hello).choices[0].message.content.startswith("[simulated]")
    texts = [chunk.choices[0].delta.content or "" for chunk in ask(hello, stream=True)]
    assert "".join(texts).startswith("[simulated]")
    messages: list[Any] = [{"role": "user", "content": ASKED}]
    first = ask(messages, tools=TOOLS).choices[0].message
    assert [call.function.name for call in first.tool_calls] == ["weather", "now"]
    # both ways in which its users send an answer back
    for sent_back in (first, first.model_dump()):
        second = ask([*messages, sent_back, *_results(first.tool_calls)], tools=TOOLS)
        assert second.choices[0].message.content.startswith("[simulated]")
    whole = litellm.stream_chunk_builder(list(ask(messages, tools=TOOLS, stream=True)))
    assert whole is not None
    made = whole.choices[0].message.tool_calls  # type: ignore[union-attr]
    assert [json.loads(call.function.arguments) for call in made] == [ARGUMENTS, {}]  # type: ignore[union-attr]


def test_nothing_of_it_is_in_the_logs(tooled: Gateway) -> None:
    with httpx.Client(base_url=tooled.url, headers={"authorization": f"Bearer {tooled.key}"}) as client:
        tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "quokka-4711"}}}
        body = {"model": "smollm2", "messages": [{"role": "user", "content": "x"}], "tools": [tool]}
        answer = client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 400
    assert "quokka-4711" not in answer.text + tooled.logs()
