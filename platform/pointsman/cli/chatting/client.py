"""Asking the router: one streamed chat completion at a time, as typed pieces.

Speaks OpenAI's wire format with httpx; what events are is in `contracts/event_stream.py`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from time import perf_counter
from typing import Any

import httpx

from pointsman.cli.chatting.target import ChatError, Target
from pointsman.contracts.event_stream import DONE, EndlessEvent, EventReader
from pointsman.contracts.modes import Mode
from pointsman.contracts.names import Header

CONNECT_TIMEOUT = 5.0
"""Seconds to wait for a connection to the router."""

SILENCE_TIMEOUT = 600.0
"""Seconds without a byte after which an answer is given up: a pool may be starting, or thinking long."""

Message = dict[str, str]


class Kind(StrEnum):
    """What a piece of an answer is."""

    THINKING = "thinking"
    ANSWER = "answer"


@dataclass(frozen=True, slots=True)
class Track:
    """Which way a question went and why, as the answer's headers say; None where they say nothing."""

    mode: str | None
    source: str | None
    probability: str | None
    threshold: str | None
    pool: str | None
    request_id: str | None


@dataclass(slots=True)
class Reply:
    """An answer as far as it has come. Times are seconds since the question was sent."""

    track: Track
    thinking: str = ""
    answer: str = ""
    finish_reason: str | None = None
    usage: dict[str, Any] = field(default_factory=dict)
    cost_usd: str | None = None
    first_token_after: float | None = None
    seconds: float = 0.0


class Router:
    """The router at `target`. Every method raises `ChatError` in words for the user."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._http = httpx.Client(
            base_url=target.url,
            headers={"authorization": f"Bearer {target.key}"},
            timeout=httpx.Timeout(SILENCE_TIMEOUT, connect=CONNECT_TIMEOUT),
            trust_env=not target.local,  # a proxy for the world outside cannot reach this machine
        )

    def close(self) -> None:
        self._http.close()

    def models(self) -> list[str]:
        """The names of the models that this key may use."""
        with self._explained():
            response = self._http.get("/v1/models")
        if response.status_code != 200:
            raise self._refusal(response)
        try:
            return [str(model["id"]) for model in response.json()["data"]]
        except (ValueError, KeyError, TypeError):
            raise self._stranger(response) from None

    @contextmanager
    def ask(self, messages: list[Message], *, model: str, mode: Mode | None) -> Iterator[Stream]:
        """Ask for the next message; `mode` None: the platform chooses. Leaving early stops the engine."""
        body = {
            "model": model,
            "messages": messages,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        headers = {Header.INCLUDE_COST: "true"} | ({Header.MODE: mode.value} if mode else {})
        begun = perf_counter()
        with (
            self._explained(),
            self._http.stream("POST", "/v1/chat/completions", json=body, headers=headers) as response,
        ):
            if response.status_code != 200:
                response.read()
                raise self._refusal(response)
            if not response.headers.get("content-type", "").startswith("text/event-stream"):
                raise self._stranger(response)
            yield Stream(response, begun)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Failures of the connection as sentences."""
        url = self._target.url
        try:
            yield
        except (httpx.ConnectError, httpx.ConnectTimeout):
            raise ChatError(
                f"No router answers at {url}. Start one with `pointsman up`, or say where it is with --url.",
                code="no_router",
            ) from None
        except httpx.TimeoutException:
            raise ChatError(f"{url} has been silent for {SILENCE_TIMEOUT:.0f} s.", code="timeout") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ChatError(
                f"The connection to {url} broke ({type(error).__name__}).", code="broken_connection"
            ) from None

    def _refusal(self, response: httpx.Response) -> ChatError:
        try:
            error = response.json()["error"]
            message, code = str(error["message"]), error.get("code")
        except (ValueError, KeyError, TypeError, AttributeError):
            return self._stranger(response)
        if response.status_code == 401:
            message = f"{self._target.url} does not know this key (it came from {self._target.key_origin})."
        elif response.status_code == 503 and (wait := response.headers.get("retry-after", "")).isdigit():
            message += f" Try again in {wait} s."
        return ChatError(message, code=code)

    def _stranger(self, response: httpx.Response) -> ChatError:
        return ChatError(
            f"What answers at {self._target.url} is no Pointsman router (HTTP {response.status_code}).",
            code="no_router",
        )


class Stream:
    """An answer on its way: iterate for its pieces; `reply` grows along."""

    def __init__(self, response: httpx.Response, begun: float) -> None:
        headers = response.headers
        self._response = response
        self._begun = begun
        self.reply = Reply(
            Track(
                mode=headers.get(Header.MODE),
                source=headers.get(Header.MODE_SOURCE),
                probability=headers.get(Header.THINK_PROBABILITY),
                threshold=headers.get(Header.THRESHOLD),
                pool=headers.get(Header.POOL),
                request_id=headers.get(Header.REQUEST_ID),
            )
        )

    def __iter__(self) -> Iterator[tuple[Kind, str]]:
        """The pieces in their order. Raises `ChatError` where the stream ends with an error, or without an end."""
        reply = self.reply
        for event in _events(self._response.iter_bytes()):
            if event == DONE:
                reply.seconds = perf_counter() - self._begun
                return
            for kind, text in self._pieces(_object(event)):
                if reply.first_token_after is None:
                    reply.first_token_after = perf_counter() - self._begun
                if kind is Kind.THINKING:
                    reply.thinking += text
                else:
                    reply.answer += text
                yield kind, text
        raise ChatError("The answer broke off before its end.", code="broken_connection")

    def _pieces(self, chunk: dict[str, Any]) -> Iterator[tuple[Kind, str]]:
        if isinstance(error := chunk.get("error"), dict):
            raise ChatError(f"The answer broke off: {error.get('message')}", code=error.get("code"))
        if isinstance(usage := chunk.get("usage"), dict):
            self.reply.usage = usage
        if isinstance(extension := chunk.get("pointsman"), dict):
            self.reply.cost_usd = extension.get("cost_usd")
        for choice in chunk.get("choices") or ():
            self.reply.finish_reason = choice.get("finish_reason") or self.reply.finish_reason
            delta = choice.get("delta") or {}
            if text := delta.get("reasoning_content"):
                yield Kind.THINKING, text
            if text := delta.get("content"):
                yield Kind.ANSWER, text


def _events(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The data of each event, however `chunks` are cut. Raises `ChatError` for an endless one."""
    reader = EventReader()
    for chunk in chunks:
        try:
            yield from reader.feed(chunk)
        except EndlessEvent:
            raise ChatError("The answer is not an event stream: an event has no end.", code="garbage") from None


def _object(event: bytes) -> dict[str, Any]:
    try:
        value = json.loads(event)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise ChatError("The answer is garbled: an event holds no JSON object.", code="garbage")
    return value
