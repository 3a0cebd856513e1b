"""An engine under test, SGLang or the simulated one, as the tests of both speak to it."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from pointsman.contracts.modes import Mode
from pointsman.contracts.names import Header

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
TIMEOUT = 120.0
"""Seconds for one answer: SGLang on a CPU says some ten tokens a second."""


@dataclass(frozen=True)
class EngineUnderTest:
    """
    One replica and what the tests have to know of it.

    `base_url`: `http://host:port` of the replica itself; `secret`: what its POSTs must carry; `model`: the name
    it serves; `mode`: what its pool does; `context`: its context window in tokens.
    """

    base_url: str
    secret: str
    model: str
    mode: Mode
    context: int = 8192
    client: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=TIMEOUT), repr=False)

    @property
    def headers(self) -> dict[str, str]:
        return {Header.REPLICA_SECRET: self.secret}

    def get(self, path: str) -> httpx.Response:
        return self.client.get(self.base_url + path)

    def post(self, path: str, body: Any) -> httpx.Response:
        return self.client.post(self.base_url + path, json=body, headers=self.headers)

    def chat(self, text: str, **fields: Any) -> dict[str, Any]:
        """The whole answer to one user message, not streamed, at temperature 0."""
        return self._answer(CHAT, self.chat_body(text, **fields))

    def completion(self, prompt: str, **fields: Any) -> dict[str, Any]:
        """The whole continuation of `prompt`, not streamed, at temperature 0."""
        return self._answer(COMPLETIONS, self.completion_body(prompt, **fields))

    def chat_stream(self, text: str, **fields: Any) -> Stream:
        """The streamed answer to one user message, at temperature 0."""
        return self._stream(CHAT, self.chat_body(text, **fields))

    def completion_stream(self, prompt: str, **fields: Any) -> Stream:
        """The streamed continuation of `prompt`, at temperature 0."""
        return self._stream(COMPLETIONS, self.completion_body(prompt, **fields))

    def chat_body(self, text: str, **fields: Any) -> dict[str, Any]:
        return {"model": self.model, "messages": [{"role": "user", "content": text}], "temperature": 0, **fields}

    def completion_body(self, prompt: str, **fields: Any) -> dict[str, Any]:
        return {"model": self.model, "prompt": prompt, "temperature": 0, **fields}

    @contextlib.contextmanager
    def open_stream(self, path: str, body: dict[str, Any]) -> Iterator[Iterator[str]]:
        """The lines of a stream while it runs; leaving the block drops the connection."""
        call = self.client.stream("POST", self.base_url + path, json={**body, "stream": True}, headers=self.headers)
        with call as response:
            assert response.status_code == 200, response.read()
            yield response.iter_lines()

    def metric(self, name: str) -> float:
        """The sum of all samples of the metric `name`."""
        families = text_string_to_metric_families(self.get("/metrics").text)
        return sum(sample.value for family in families for sample in family.samples if sample.name == name)

    def metric_names(self) -> set[str]:
        families = text_string_to_metric_families(self.get("/metrics").text)
        return {sample.name for family in families for sample in family.samples}

    def _answer(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        response = self.post(path, body)
        assert response.status_code == 200, response.text
        assert response.headers["content-type"].split(";")[0] == "application/json"
        answer: dict[str, Any] = response.json()
        return answer

    def _stream(self, path: str, body: dict[str, Any]) -> Stream:
        stream = Stream()
        with self.open_stream(path, body) as lines:
            for line in lines:
                if line:
                    stream.add(line)
        return stream


@dataclass
class Stream:
    """A stream that has ended: its events in order, and whether `[DONE]` came last."""

    events: list[dict[str, Any]] = field(default_factory=list)
    done: bool = False

    def add(self, line: str) -> None:
        assert not self.done, "an event after [DONE]"
        assert line.startswith("data: "), f"not an event: {line[:20]!r}"
        content = line.removeprefix("data: ")
        if content == "[DONE]":
            self.done = True
        else:
            self.events.append(json.loads(content))

    @property
    def chunks(self) -> list[dict[str, Any]]:
        """The events that carry a choice."""
        return [event for event in self.events if event["choices"]]

    @property
    def usage(self) -> dict[str, Any]:
        """What the last event says, which carries no choice."""
        assert self.events[-1]["choices"] == []
        usage: dict[str, Any] = self.events[-1]["usage"]
        return usage

    def text(self, field: str, index: int = 0) -> str:
        """What the deltas of one choice add up to in `field`."""
        deltas = (chunk["choices"][0] for chunk in self.chunks)
        return "".join(choice["delta"].get(field) or "" for choice in deltas if choice["index"] == index)


def eventually(fact: Callable[[], bool], *, within: float) -> bool:
    """Whether `fact` comes true within so many seconds."""
    deadline = time.monotonic() + within
    while not fact():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
