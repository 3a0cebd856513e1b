"""Recorded conversations go from each wire format to each other one and back, and nothing is lost on the way.

They were held by official SDKs through a running router (`python -m recordings`): on the simulated engine, of which
all forms can be had, and on SGLang.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest

from pointsman.contracts.pricing import Usage
from support.wire_clients import FORMATS, LAST, Chat, Told, opened, plainly, there_and_back

FOLDER = Path(__file__).parents[3] / "recordings"
LEAST = 30
SAID = {"text", "content", "thinking", "refusal", "reasoning_content", "instructions", "system", "output"}
"""Where a request or an answer holds what was said, in any of the formats."""
NAMED = {"name", "tool_call_id", "tool_use_id", "call_id"}
"""Where it holds the name of a tool, or the id of a call that has a result."""


class Recording(NamedTuple):
    """A conversation: its last request that was answered, all answers, and what was refused."""

    format: str
    request: dict[str, Any]
    answers: list[Told]
    last: bytes
    refused: list[dict[str, Any]]
    models: set[str]


def recordings() -> Iterator[Any]:
    for file in sorted(FOLDER.glob("*.jsonl")):
        for line in file.read_text().splitlines():
            held = json.loads(line)
            how = ", streamed" if held["streamed"] else ""
            yield pytest.param(held, id=f"{file.stem}: {held['name']}, {held['format']}{how}")


RECORDINGS = list(recordings())
each = pytest.mark.parametrize("held", RECORDINGS)


def read(held: dict[str, Any]) -> Recording:
    spoken = FORMATS[held["format"]]
    good = [exchange for exchange in held["exchanges"] if exchange["status"] == 200]
    told = [exchange["told"].encode() for exchange in good]
    return Recording(
        held["format"],
        good[-1]["asked"],
        [spoken.read(answer, held["streamed"]) for answer in told],
        told[-1],
        [exchange["asked"] for exchange in held["exchanges"] if exchange["status"] != 200],
        {exchange["asked"]["model"] for exchange in good},
    )


def chat_of(recording: Recording) -> Chat:
    """The chat that the conversation is: what was asked, the last answer, and a question after it."""
    body = json.loads(json.dumps(recording.request))
    said = recording.answers[-1].said
    if recording.format == "messages":
        body["messages"] += [{"role": "assistant", "content": said}, LAST]
    else:
        body["messages" if recording.format == "chat" else "input"] += [*said, LAST]
    found: Chat = opened(FORMATS[recording.format], body).payload["messages"]
    return found


def usages_of(chat: Chat, recording: Recording) -> list[Usage]:
    """What was counted for each turn of the assistant's; nothing for one that was there from the beginning."""
    told = [
        Usage(answer.input, answer.cached, answer.thinking, answer.output - answer.thinking)
        for answer in recording.answers
    ]
    turns = sum(message["role"] == "assistant" for message in chat)
    return [Usage()] * (turns - len(told)) + told


def found_in(value: Any, names: set[str]) -> Counter[str]:
    """The texts that stand under one of `names`, however deep."""
    found: Counter[str] = Counter()
    for name, item in value.items() if isinstance(value, dict) else ():
        if (name in names and isinstance(item, str) and item) or (name == "input" and isinstance(item, str)):
            found[item] += 1
        elif name not in ("tools", "tool_choice", "text", "response_format", "output_config"):
            found += found_in(item, names)
    for item in value if isinstance(value, list) else ():
        found += found_in(item, names)
    return found


def arguments_in(value: Any) -> Counter[str]:
    """The arguments of the calls in `value`, in any format, each written in one way."""
    found: Counter[str] = Counter()
    for item in value if isinstance(value, list) else value.values() if isinstance(value, dict) else ():
        found += arguments_in(item)
    if isinstance(value, dict):
        written = value.get("arguments")
        if isinstance(written, str):
            found[orjson.dumps(orjson.loads(written)).decode()] += 1
        elif value.get("type") == "tool_use":
            found[orjson.dumps(value["input"]).decode()] += 1
    return found


def test_there_are_enough_of_all_kinds() -> None:
    held = [parameters.values[0] for parameters in RECORDINGS]
    assert len(held) >= LEAST
    assert {(recording["format"], recording["streamed"]) for recording in held} == set(  # type: ignore[index]
        itertools.product(FORMATS, (False, True))
    )
    calls = [json.dumps(recording) for recording in held]
    for kind in ("tool_use", "function_call", "reasoning_content", "thinking", "image", "json_schema", "is_error"):
        assert any(kind in call for call in calls), kind


@each
def test_nothing_that_was_said_is_missing_in_the_chat_that_it_is(held: dict[str, Any]) -> None:
    recording = read(held)
    chat = chat_of(recording)
    sent = [recording.request, recording.answers[-1].said]
    for names in (SAID, NAMED):
        kept = found_in(chat, names | {"id"})
        for text, times in found_in(sent, names).items():
            assert kept[text] >= times or times <= sum(text in other for other in kept), text
    assert arguments_in(sent) <= arguments_in(chat)
    ids = [call["id"] for message in chat for call in message.get("tool_calls") or ()]
    assert ids == [message["tool_call_id"] for message in chat if message["role"] == "tool"] or len(ids) > 1
    assert len(set(ids)) == len(ids)


@each
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_it_goes_to_each_other_format_and_back(held: dict[str, Any], *, stream: bool) -> None:
    recording = read(held)
    chat = chat_of(recording)
    usages = usages_of(chat, recording)
    assert all(told.output for told in recording.answers)
    for name, other in FORMATS.items():
        there = there_and_back(other, chat, usages, stream=stream)
        assert plainly(there) == plainly(chat), name
        back = there_and_back(FORMATS[recording.format], there, usages, stream=not stream)
        assert plainly(back) == plainly(chat), name


def test_an_image_goes_through_all_formats_as_it_is() -> None:
    """No engine here looks at one, so that the recordings end with a refusal of the engine's."""
    asked = [(read(held.values[0]).format, *read(held.values[0]).refused) for held in RECORDINGS]  # type: ignore[arg-type]
    images = [(name, refused[0]) for name, *refused in asked if refused]
    assert {name for name, _ in images} == set(FORMATS)
    chats = [opened(FORMATS[name], body).payload["messages"] for name, body in images]
    for chat in chats:
        (part,) = [part for part in chat[-1]["content"] if part["type"] == "image_url"]
        assert part["image_url"]["url"].startswith("data:image/png;base64,iVBOR")
        for other in FORMATS.values():
            found = there_and_back(other, chat, [], stream=False)[-1]["content"]
            assert [part["type"] for part in found] == [part["type"] for part in chat[-1]["content"]]
            assert part["image_url"]["url"] in {part.get("image_url", {}).get("url") for part in found}
