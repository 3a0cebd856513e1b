"""Clients that keep books: each knows what it asked under which id, what it was told, and what it was told it cost.

A request's id is the client's own, so that an entry of the ledger is found whatever became of the answer. What a
client was not told it says so: the connection broke, or it went away itself.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from pointsman.contracts.names import Header
from pointsman.contracts.pricing import NANO
from soak.answers import STATUS_OF_CODE
from soak.client import Answer, Broken, Connection, Gone

PATIENCE = 60.0
"""Seconds in which any answer must have ended."""


class End(StrEnum):
    """How a request ended for its client."""

    ANSWERED = "answered"
    """It has read the whole answer, and what it costs."""
    REFUSED = "refused"
    """It has read an error, as an answer or as the end of a stream."""
    LEFT = "left"
    """It went away itself."""
    CUT = "cut"
    """The connection ended before the answer did."""


@dataclass(slots=True)
class Told:
    """One request. `nano` and `usage` (by class): as the client was told; `status`: of HTTP or the error event."""

    tenant: str
    end: End
    status: int = 0
    code: str = ""
    nano: int = 0
    usage: dict[str, int] = field(default_factory=dict)
    escalated: bool = False


class Clients:
    """Requests against the gateway at `port`, drawn from `seed`; `keys` by tenant. Fills `told` by request id."""

    def __init__(
        self, port: int, keys: dict[str, str], *, seed: int, on_request: Callable[[int], None], favoured: list[str]
    ) -> None:
        self.told: dict[str, Told] = {}
        self.begun = 0
        self._port = port
        self._keys = keys
        self._names = list(keys)
        self._favoured = favoured
        self._random = random.Random(seed)
        self._seed = seed
        self._on_request = on_request

    async def run(self, requests: int, *, clients: int) -> None:
        """Make `requests` more requests, `clients` at a time."""
        last = self.begun + requests

        async def client() -> None:
            while self.begun < last:
                try:
                    async with Connection(self._port) as connection:
                        for _ in range(self._random.randint(1, 6)):
                            if self.begun >= last or not await self._ask(connection):
                                break
                except OSError:
                    await asyncio.sleep(0.05)  # nobody listens at this moment

        async with asyncio.TaskGroup() as group:
            for _ in range(clients):
                group.create_task(client())

    async def spend(self, tenant: str) -> None:
        """Ask for `tenant`, one after another, until its budget has refused ten in a row for good."""
        refused = 0
        while refused < 10:
            try:
                async with Connection(self._port) as connection:
                    request = await self._ask(connection, tenant=tenant, model="sound:think", leaves=False)
            except OSError:
                continue
            found = self.told.get(request or "")
            refused = refused + 1 if found is not None and found.status == 402 else 0
            if found is not None and found.status == 503:
                await asyncio.sleep(0.2)

    async def _ask(
        self, connection: Connection, *, tenant: str | None = None, model: str | None = None, leaves: bool = True
    ) -> str | None:
        """One request, and its answer; its id, or None where the connection can't be used any more."""
        draw = self._random
        if tenant is None:
            tenant = draw.choice(self._favoured if draw.random() < 0.3 else self._names)
        self.begun += 1
        request = f"soak-{self._seed}-{self.begun}"
        stream = draw.random() < 0.5
        model = model or draw.choices(["sound:no_think", "sound:think", "brief", "shaky:no_think"], [5, 2, 1, 1])[0]
        body: dict[str, Any] = {
            "model": model,
            "stream": stream,
            "messages": [{"role": "user", "content": f"{draw.getrandbits(32):x} " + "word " * draw.randint(1, 9)}],
            "max_tokens": 32,
        }
        if stream:
            body["stream_options"] = {"include_usage": True}
        content = json.dumps(body)
        connection.write(
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: soak\r\nauthorization: Bearer {self._keys[tenant]}\r\n"
            f"{Header.REQUEST_ID}: {request}\r\n{Header.INCLUDE_COST}: true\r\n"
            f"content-length: {len(content)}\r\n\r\n{content}".encode()
        )
        self._on_request(self.begun)
        if leaves and draw.random() < 0.05:
            if stream:
                async with asyncio.timeout(PATIENCE):
                    await connection.read_some(draw.randint(1, 2000))
            else:
                await asyncio.sleep(draw.random() * 0.02)
            self.told[request] = Told(tenant, End.LEFT)
            return None
        try:
            async with asyncio.timeout(PATIENCE):
                answer = await connection.answer()
        except (Gone, Broken, ConnectionError):
            self.told[request] = Told(tenant, End.CUT)
            return None
        self.told[request] = read(tenant, answer, stream=stream)
        return request


def read(tenant: str, answer: Answer, *, stream: bool) -> Told:
    """What `answer` tells. Raises `Broken` where it makes no sense."""
    if answer.status != 200:
        return Told(tenant, End.REFUSED, answer.status, str(json.loads(answer.body)["error"]["code"]))
    escalated = bool(answer.header(Header.ESCALATED))
    if not stream:
        usage = json.loads(answer.body)["usage"]
        return Told(tenant, End.ANSWERED, 200, "", nano(answer.header(Header.COST_USD)), classes(usage), escalated)
    *blocks, rest = answer.body.split(b"\n\n")
    if rest or not blocks or blocks.pop() != b"data: [DONE]":
        raise Broken("a stream without its end")
    last = json.loads(blocks[-1].removeprefix(b"data: "))
    if "error" in last:
        code = str(last["error"]["code"])
        return Told(tenant, End.REFUSED, STATUS_OF_CODE.get(code, 502), code)
    cost = nano(last["pointsman"]["cost_usd"])
    return Told(tenant, End.ANSWERED, 200, "", cost, classes(last["usage"]), escalated)


def nano(dollars: str) -> int:
    """Dollars with nine places as nano-dollars."""
    whole, _, places = dollars.partition(".")
    if len(places) != 9:
        raise Broken(f"a cost of {dollars!r}")
    return int(whole) * NANO + int(places)


def classes(usage: dict[str, Any]) -> dict[str, int]:
    """The token classes of a `usage` object."""
    cached = usage["prompt_tokens_details"]["cached_tokens"]
    reasoning = usage["completion_tokens_details"]["reasoning_tokens"]
    return {
        "input": usage["prompt_tokens"] - cached,
        "cached_input": cached,
        "reasoning": reasoning,
        "answer": usage["completion_tokens"] - reasoning,
    }
