"""Many equal streams, and the time between their tokens. A stream is read whole and must be well-formed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from soak.answers import Question, read
from soak.client import Answer, Connection


def chat(key: str, model: str, words: str, *, stream: bool = True, **more: Any) -> bytes:
    """A chat request as it is sent."""
    body = {"model": model, "stream": stream, "messages": [{"role": "user", "content": words}], **more}
    data = json.dumps(body).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: soak\r\nauthorization: Bearer {key}\r\n"
    return f"{head}content-length: {len(data)}\r\n\r\n".encode() + data


async def one(port: int, request: bytes, *, stream: bool = True) -> Answer:
    """The whole answer to `request`. Raises `Broken` where it is not well-formed, AssertionError where an error."""
    async with Connection(port) as connection:
        connection.write(request)
        answer = await connection.answer()
    meaning = read(answer, Question(stream=stream, usage=not stream))
    assert meaning.status == 200, f"status {meaning.status}"
    return answer


async def together(port: int, requests: Iterable[bytes], *, over: float) -> list[float]:
    """The times between tokens, in seconds, of one stream for each of `requests`, begun over `over` seconds."""
    begun = []
    several = list(requests)
    async with asyncio.TaskGroup() as group:
        for request in several:
            begun.append(group.create_task(one(port, request)))
            await asyncio.sleep(over / len(several))
    return [gap for task in begun for gap in gaps(task.result())]


def gaps(answer: Answer) -> list[float]:
    """Seconds between the tokens of `answer`; its last two events, which come with the last token, left out."""
    times = answer.arrivals[:-2]
    return [later - earlier for earlier, later in pairwise(times)]


def percentile(values: Iterable[float], share: float) -> float:
    """The value that `share` of `values` do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
