"""What is said in the recorded conversations, and how each official SDK is asked to say it.

A conversation is told once, in no format; `chat`, `messages` and `responses` hold it, each through its SDK as a
user of that SDK would, with the answers sent back as the SDK gives them.
"""

from __future__ import annotations

import base64
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import anthropic
import openai

CITY = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "unit": {"type": "string", "enum": ["c", "f"]}},
    "required": ["city", "unit"],
    "additionalProperties": False,
}
UNIT = {
    "type": "object",
    "properties": {"unit": {"type": "string", "enum": ["c"]}},
    "required": ["unit"],
    "additionalProperties": False,
}
PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(40)).decode()
FAILURE = ("Error: no such city",)
DENIED = "I can't help with that."
TEXTS = {
    "Chinese": ("铁路道岔是什么？", "请再说一遍。"),
    "Japanese": ("分岐器とは何ですか。", "もう一度お願いします。"),
}


@dataclass(frozen=True)
class Conversation:
    """
    `turns`: what the user says. `results`: what each call of a tool gives; those that begin with `Error:` failed.

    `demanded`: the first answer has to call a tool. `most`: tokens of an answer. `image`: one comes with the first
    turn, for which no model here has eyes. `refused`: the assistant has refused a question before. `logprobs`: in
    Responses, those are asked for. `formats`: those in which it can be had.
    """

    name: str
    turns: tuple[str, ...]
    system: str | None = None
    thinks: bool = False
    tools: dict[str, dict[str, Any]] = field(default_factory=dict)
    demanded: bool = False
    results: tuple[str, ...] = ("18 degrees", "Noon.")
    stop: str | None = None
    schema: dict[str, Any] | None = None
    most: int = 200
    image: bool = False
    refused: bool = False
    logprobs: bool = False
    formats: tuple[str, ...] = ("chat", "messages", "responses")


WEATHER, BOTH = {"weather": CITY}, {"weather": CITY, "clock": {"type": "object", "properties": {}}}

SIMULATED = (
    Conversation("plain", ("What is a railway switch?",), logprobs=True),
    Conversation("several turns", ("What is a switch?", "And a signal?", "Which came first?")),
    Conversation("system prompt", ("What is a switch?",), system="Answer in a few words."),
    *(Conversation(language, texts) for language, texts in TEXTS.items()),
    Conversation("thinking", ("Which number comes next?", "And then?"), thinks=True),
    Conversation("a tool", ("Ask weather.",), tools=WEATHER),
    Conversation("a tool in two rounds", ("Ask weather.", "Now ask clock."), tools=BOTH, thinks=True),
    Conversation("parallel tools", ("Ask weather and clock.",), system="You may call tools.", tools=BOTH),
    Conversation(
        "a tool that fails", ("Ask weather.", "Try weather again."), tools=WEATHER, results=("Error: none",)
    ),
    Conversation("an image", ("What is this?", "Then tell me without it."), image=True),
    Conversation("a stop sequence", ("Say it.",), stop=" ", formats=("chat", "messages")),
    Conversation("a schema", ("Where?",), schema=CITY),
    Conversation("cut by its length", ("Say it.", "Go on."), most=6),
    Conversation("a refusal", ("Then tell me of switches.",), refused=True),
)

SGLANG = (
    Conversation("plain", ("What is the capital of France?",), most=24, logprobs=True),
    Conversation("several turns", ("What is the capital of France?", "And of Italy?"), most=16),
    Conversation("Chinese", TEXTS["Chinese"], system="请用中文回答。", most=16),
    Conversation("thinking", ("What is the capital of France?",), thinks=True, most=60),
    Conversation(
        "a tool", ("How is it outside?",), tools={"weather": UNIT}, demanded=True, results=("18 C",), most=120
    ),
    Conversation("cut by its length", ("Tell me of France.", "Go on."), most=8),
)


def chat(client: openai.OpenAI, told: Conversation, *, stream: bool) -> None:
    fields: dict[str, Any] = {"model": model(told), "max_tokens": told.most, "temperature": 0}
    if told.thinks:
        fields["extra_body"] = {"thinking": {"type": "enabled", "budget_tokens": 12}}
    if told.stop:
        fields["stop"] = [told.stop]
    if told.schema:
        form = {"name": "answer", "schema": told.schema, "strict": True}
        fields["response_format"] = {"type": "json_schema", "json_schema": form}
    if told.tools:
        fields["tools"] = [
            {"type": "function", "function": {"name": name, "parameters": schema, "strict": told.demanded}}
            for name, schema in told.tools.items()
        ]
    messages: list[Any] = [{"role": "developer", "content": told.system}] if told.system else []
    if told.refused:
        messages += [{"role": "user", "content": "x"}, {"role": "assistant", "content": None, "refusal": DENIED}]

    def said(**more: Any) -> Any:
        asked = {**fields, "messages": messages, **more}
        if not stream:
            return client.chat.completions.create(**asked).choices[0].message
        with client.chat.completions.stream(**asked, stream_options={"include_usage": True}) as streamed:
            streamed.until_done()  # whose own end refuses answers that were cut
            return streamed.current_completion_snapshot.choices[0].message

    for number, text in enumerate(told.turns):
        if told.image and not number:
            seen = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
            messages.append({"role": "user", "content": [{"type": "text", "text": text}, seen]})
            refused(openai.BadRequestError, said)
            messages.pop()
            continue
        messages.append({"role": "user", "content": text})
        answer = said(**({"tool_choice": "required"} if told.demanded else {}))
        messages.append(answer)
        if answer.tool_calls:
            messages += [
                {"role": "tool", "tool_call_id": call.id, "content": result}
                for call, result in zip(answer.tool_calls, itertools.cycle(told.results), strict=False)
            ]
            messages.append(said(**({"tool_choice": "none"} if told.demanded else {})))


def messages(client: anthropic.Anthropic, told: Conversation, *, stream: bool) -> None:
    fields: dict[str, Any] = {"model": model(told), "max_tokens": told.most, "extra_body": {"temperature": 0}}
    if told.thinks:
        fields["thinking"] = {"type": "enabled", "budget_tokens": 12}
    if told.system:
        marked = {"type": "text", "text": told.system, "cache_control": {"type": "ephemeral"}}
        fields["system"] = [marked]
    if told.stop:
        fields["stop_sequences"] = [told.stop]
    if told.schema:
        fields["output_config"] = {"format": {"type": "json_schema", "schema": told.schema}}
    if told.tools:
        fields["tools"] = [
            {"name": name, "input_schema": schema, "strict": told.demanded} for name, schema in told.tools.items()
        ]
    turns: list[Any] = []
    if told.refused:
        turns += [{"role": "user", "content": "x"}, {"role": "assistant", "content": DENIED}]

    def said(**more: Any) -> Any:
        asked = {**fields, "messages": turns, **more}
        if not stream:
            return client.messages.create(**asked)
        with client.messages.stream(**asked) as streamed:
            return streamed.get_final_message()

    for number, text in enumerate(told.turns):
        if told.image and not number:
            source = {"type": "base64", "media_type": "image/png", "data": PIXEL}
            turns.append(
                {"role": "user", "content": [{"type": "image", "source": source}, {"type": "text", "text": text}]}
            )
            refused(anthropic.BadRequestError, said)
            turns.pop()
            continue
        turns.append({"role": "user", "content": text})
        answer = said(**({"tool_choice": {"type": "any"}} if told.demanded else {}))
        turns.append({"role": "assistant", "content": answer.content})
        calls = [block for block in answer.content if block.type == "tool_use"]
        if calls:
            blocks = [
                {
                    "type": "tool_result",
                    "tool_use_id": call.id,
                    "content": [{"type": "text", "text": result.removeprefix("Error: ")}],
                    "is_error": result.startswith("Error:"),
                }
                for call, result in zip(calls, itertools.cycle(told.results), strict=False)
            ]
            turns.append({"role": "user", "content": blocks})
            after = said(**({"tool_choice": {"type": "none"}} if told.demanded else {}))
            turns.append({"role": "assistant", "content": after.content})


def responses(client: openai.OpenAI, told: Conversation, *, stream: bool) -> None:
    fields: dict[str, Any] = {
        "model": model(told),
        "max_output_tokens": told.most,
        "temperature": 0,
        "store": False,
    }
    if told.thinks:
        fields["reasoning"] = {"effort": "low"}
        fields["extra_headers"] = {"x-pointsman-thinking-budget": "12"}
    if told.logprobs:
        fields["include"] = ["message.output_text.logprobs"]
    if told.system:
        fields["instructions"] = told.system
    if told.schema:
        form = {"type": "json_schema", "name": "answer", "schema": told.schema, "strict": True}
        fields["text"] = {"format": form}
    if told.tools:
        fields["tools"] = [
            {"type": "function", "name": name, "parameters": schema, "strict": told.demanded}
            for name, schema in told.tools.items()
        ]
    items: list[Any] = []
    if told.refused:
        denied = {"type": "refusal", "refusal": DENIED}
        turn = {"type": "message", "id": "msg_0", "role": "assistant", "status": "completed", "content": [denied]}
        items += [{"role": "user", "content": "x"}, turn]

    def said(**more: Any) -> Any:
        asked = {**fields, "input": items, **more}
        if not stream:
            return client.responses.create(**asked)
        *_, last = client.responses.create(**asked, stream=True)
        return last.response

    for number, text in enumerate(told.turns):
        if told.image and not number:
            seen = {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}", "detail": "auto"}
            items.append({"role": "user", "content": [{"type": "input_text", "text": text}, seen]})
            refused(openai.BadRequestError, said)
            items.pop()
            continue
        items.append({"role": "user", "content": text})
        answer = said(**({"tool_choice": "required"} if told.demanded else {}))
        items += answer.output
        calls = [item for item in answer.output if item.type == "function_call"]
        items += [
            {
                "type": "function_call_output",
                "call_id": call.call_id,
                "output": told.results[place % len(told.results)],
            }
            for place, call in enumerate(calls)
        ]
        if calls:
            items += said(**({"tool_choice": "none"} if told.demanded else {})).output


def model(told: Conversation) -> str:
    """The local model, as it answers in the conversation's mode."""
    return "smollm2" if told.thinks else "smollm2:no_think"


def refused(kind: type[Exception], said: Callable[[], Any]) -> None:
    """Ask what no model here can answer; the refusal is a part of the recording."""
    try:
        said()
    except kind:
        return
    raise AssertionError("an image was answered by an engine that sees none")
