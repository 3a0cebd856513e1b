"""One request of the traffic: as the wire formats want it, and what its answer told.

Apart from `player.py`, which says when something is asked; knows of an answer what a bill needs, and the text that
a conversation goes on from.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import httpx

from pointsman.cli.playing.drawing import Conversation, Format, Means, Turn
from pointsman.contracts.event_stream import DONE, EndlessEvent, EventReader
from pointsman.contracts.modes import Mode
from pointsman.contracts.names import Header

PATHS = {Format.CHAT: "/v1/chat/completions", Format.MESSAGES: "/v1/messages"}

Message = dict[str, str]


@dataclass(slots=True)
class Told:
    """What an answer told; `code` is the error's where it is none, or not a whole one."""

    status: int = 0
    code: str | None = None
    mode: str | None = None
    decision: str | None = None
    text: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: str | None = None
    retry_after: float | None = None


async def ask(
    http: httpx.AsyncClient, key: str, model: str, conversation: Conversation, turn: Turn, said: list[Message]
) -> Told:
    """Send `said`, whose last message is `turn`'s, and read the answer to its end. Raises `httpx.HTTPError`."""
    body, headers = request(model, conversation, turn, said)
    headers["authorization"] = f"Bearer {key}"
    told = Told()
    async with http.stream("POST", PATHS[conversation.format], json=body, headers=headers) as response:
        told.status = response.status_code
        told.mode = response.headers.get(Header.MODE)
        told.decision = response.headers.get(Header.DECISION_ID)
        told.cost_usd = response.headers.get(Header.COST_USD)
        if response.status_code != 200:
            await response.aread()
            told.code = _code(response)
            wait = response.headers.get("retry-after", "")
            told.retry_after = float(wait) if wait.isdigit() else None
        elif turn.stream:
            await _read_stream(response, told)
        else:
            _read_whole(json.loads(await response.aread()), told)
    return told


def request(
    model: str, conversation: Conversation, turn: Turn, said: list[Message]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Body and headers of a request, without its key."""
    messages, chat = [*said], conversation.format is Format.CHAT
    body: dict[str, Any] = {"model": model, "max_tokens": turn.max_tokens, "stream": turn.stream}
    headers = {Header.INCLUDE_COST: "true"}
    if conversation.temperature is not None:
        body["temperature"] = conversation.temperature
    if conversation.system is not None and chat:
        messages.insert(0, {"role": "system", "content": conversation.system})
    elif conversation.system is not None:
        body["system"] = conversation.system
    if turn.stream and chat:
        body["stream_options"] = {"include_usage": True}
    if turn.wish is not None:
        thinks = turn.wish.mode is Mode.THINK
        if turn.wish.means is Means.WORD:
            messages[-1] = {"role": "user", "content": f"{turn.text} /{turn.wish.mode.value}"}
        elif turn.wish.means is Means.HEADER:
            headers[Header.MODE] = turn.wish.mode.value
        elif chat:
            body["reasoning_effort"] = "high" if thinks else "none"
        elif thinks:
            body["output_config"] = {"effort": "high"}
        else:
            body["thinking"] = {"type": "disabled"}
    body["messages"] = messages
    return body, headers


def _read_whole(answer: dict[str, Any], told: Told) -> None:
    if "choices" in answer:
        told.text = answer["choices"][0]["message"].get("content") or ""
    else:
        told.text = "".join(block.get("text", "") for block in answer["content"] if block["type"] == "text")
    _count(answer["usage"], told)


async def _read_stream(response: httpx.Response, told: Told) -> None:
    reader, whole = EventReader(), False
    told.code = "broken_connection"
    try:
        async for chunk in response.aiter_bytes():
            for data in reader.feed(chunk):
                whole = whole or data == DONE or _read_event(json.loads(data), told)
    except (EndlessEvent, ValueError, KeyError, TypeError, IndexError):
        told.code = "garbage"
        return
    if whole and told.code == "broken_connection":
        told.code = None


def _read_event(event: dict[str, Any], told: Told) -> bool:
    """Take in one event of either format; whether it is the stream's last one."""
    if isinstance(error := event.get("error"), dict):
        told.code = str(error.get("code") or error.get("type"))
    if usage := event.get("usage"):
        _count(usage, told)
    if cost := (event.get("pointsman") or {}).get("cost_usd"):
        told.cost_usd = cost
    for choice in event.get("choices") or ():
        told.text += (choice.get("delta") or {}).get("content") or ""
    if event.get("type") == "content_block_delta":
        told.text += event["delta"].get("text", "")
    return event.get("type") == "message_stop"


def _count(usage: dict[str, Any], told: Told) -> None:
    """OpenAI's input tokens hold those that were cached, Anthropic's are the rest."""
    cached = usage.get("cache_read_input_tokens") or 0
    told.input_tokens = usage.get("prompt_tokens", usage.get("input_tokens", 0)) + cached
    told.output_tokens = usage.get("completion_tokens", usage.get("output_tokens", 0))


def _code(response: httpx.Response) -> str:
    try:
        error = response.json()["error"]
        return str(error.get("code") or error["type"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"http_{response.status_code}"
