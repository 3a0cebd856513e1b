"""Mixed load: clients of every kind, good and bad, each on a connection of its own, drawn from one seed.

Good sessions read every answer whole, and what they read must add up with the counters to the last token. Rude
sessions, of a tenant of their own, leave at random moments; what the gateway counted for them has bounds only.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from soak.answers import Meaning, Question, read
from soak.client import Answer, Broken, Connection, Gone

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
GOOD, RUDE = "good", "rude"
"""The two tenants."""

MAX_BODY = 256 * 1024
"""The gateway's `max_body_bytes` under this load: small, so that bodies above it cost little."""

ANSWER_TIMEOUT = 45.0
"""Seconds in which any answer must have ended: the pools' own timeouts, twice, and room for a busy machine."""


def simulated(name: str, model: str, mode: str, /, **settings: Any) -> dict[str, Any]:
    """A pool of simulated engines; `settings` of the engine, and of the pool where their names say so."""
    pool = {key: settings.pop(key) for key in list(settings) if key.endswith("_timeout")}
    return {
        "name": name,
        "model": model,
        "modes": [mode],
        "engine": "simulated",
        "prices": {"input": 0.02, "cached_input": 0.01, "output": 0.06, "reasoning": 0.3},
        "max_ongoing_requests": 1000,
        "engine_args": {"simulated": settings},
        **pool,
    }


FAULTS = {
    "error": 0.04,
    "error_midstream": 0.02,
    "slow": 0.04,
    "die": 0.005,
    "die_midstream": 0.005,
    "garbage": 0.005,
    "garbage_midstream": 0.005,
    "garbage_body": 0.005,
    "truncate": 0.005,
    "hang": 0.003,
    "hang_midstream": 0.002,
}
SHORT: dict[str, Any] = {"answer_tokens": "3:9", "thinking_tokens": "3:9", "prefill_speed": 1e9}
POOLS = [
    simulated("fast", "sound", "no_think", decode_speed=1e9, **SHORT),
    simulated("deep", "sound", "think", decode_speed=1e9, **SHORT),
    simulated("long", "long", "no_think", decode_speed=200, answer_tokens="20:60"),
    simulated(
        *("shaky", "shaky", "no_think"),
        **SHORT,
        decode_speed=1000,
        fault_rates=FAULTS,
        first_byte_timeout=2,
        answer_timeout=2,
        idle_timeout=2,
        place_timeout=10,
    ),
]
COPIES = {"fast": 2, "deep": 1, "long": 1, "shaky": 3}


@dataclass(slots=True)
class Tally:
    """What the clients know. Statuses are of HTTP, or of the error event that ended a stream."""

    sent: Counter[str] = field(default_factory=Counter)
    """Requests sent whole, by tenant; those that no pipeline ever sees are not among them."""
    statuses: Counter[tuple[str, str, int]] = field(default_factory=Counter)
    """Answers read whole, by tenant, model and status; labels are empty as the gateway's are."""
    tokens: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Tokens of the answers of the pools without faults, by mode and class."""
    sessions: Counter[str] = field(default_factory=Counter)
    """Sessions by kind."""
    requests: int = 0
    """Requests begun, of every kind."""
    wrong: list[str] = field(default_factory=list)
    """What went wrong, one line a session."""


@dataclass(slots=True)
class Asked:
    """One request, ready to be sent. `model` is empty where it will be refused before its model is known."""

    data: bytes
    question: Question
    tenant: str
    model: str


class Mix:
    """
    Sessions against the gateway at `port`, drawn from `seed`; `keys` by tenant. Fills `tally`. Without `faults`
    all clients are good, and no request goes to the pool whose engines fail on purpose.
    """

    def __init__(self, port: int, keys: dict[str, str], *, seed: int, faults: bool = True) -> None:
        self.tally = Tally()
        self._port = port
        self._keys = keys
        self._random = random.Random(seed)
        self._shaky = faults
        kinds: list[tuple[Callable[[], Coroutine[Any, Any, None]], float]] = [
            (self._keep_alive, 8),
            (self._one_and_close, 10),
            (self._pipeline, 4),
            (self._refused, 6),
            (self._too_large, 1),
            (self._no_http, 1),
        ]
        if faults:
            kinds += [
                (self._pages, 1),
                (self._leave_while_sending, 3),
                (self._leave_before_the_answer, 4),
                (self._leave_in_mid_stream, 4),
                (self._half_close, 2),
                (self._leave_a_pipeline, 1),
            ]
        self._kinds = [kind for kind, _ in kinds]
        self._weights = [weight for _, weight in kinds]

    async def run(self, *, until: Callable[[], bool], clients: int) -> None:
        """Let `clients` clients have one session after another, until `until` says that it is enough."""

        async def client() -> None:
            while not until():
                (kind,) = self._random.choices(self._kinds, self._weights)
                await self._session(kind)

        async with asyncio.TaskGroup() as group:
            for _ in range(clients):
                group.create_task(client())

    async def _session(self, kind: Callable[[], Coroutine[Any, Any, None]]) -> None:
        name = kind.__name__.strip("_")
        self.tally.sessions[name] += 1
        try:
            await kind()
        except TimeoutError:
            self.tally.wrong.append(f"{name}: no end within {ANSWER_TIMEOUT:g} s")
        except (Broken, Gone) as error:
            self.tally.wrong.append(f"{name}: {type(error).__name__} {error}")

    # -- sessions that read all they ask for

    async def _keep_alive(self) -> None:
        async with Connection(self._port) as connection:
            for _ in range(self._random.randint(2, 10)):
                asked = self._ask(GOOD)
                self._send(connection, asked)
                await self._read(connection, asked)

    async def _one_and_close(self) -> None:
        async with Connection(self._port) as connection:
            asked = self._ask(GOOD, extra="connection: close\r\n")
            self._send(connection, asked)
            await self._read(connection, asked)
            if not await connection.ended():
                raise Broken("'connection: close' was not honoured")

    async def _pipeline(self) -> None:
        async with Connection(self._port) as connection:
            several = [self._ask(GOOD) for _ in range(self._random.randint(2, 12))]
            for asked in several:
                self._send(connection, asked)
            for asked in several:
                await self._read(connection, asked)

    async def _refused(self) -> None:
        """Requests that the pipeline refuses, between good ones, on a connection that stays open."""
        async with Connection(self._port) as connection:
            wrong: Callable[[], Asked] = self._random.choice(
                [
                    lambda: self._post(GOOD, CHAT, b'{"model": "sound", "messages": [', Question(), ""),
                    lambda: self._post(GOOD, TEXT, b'{"model": "sound", "prompt": 5}', Question(), ""),
                    lambda: self._post("", CHAT, b'{"model": "sound"}', Question(), ""),
                    lambda: self._ask(GOOD, model="unknown"),
                    lambda: self._ask(GOOD, more={"rid": "x"}),
                ]
            )
            for asked in (wrong(), self._ask(GOOD), wrong()):
                self._send(connection, asked)
                status = await self._read(connection, asked)
                if not asked.model and not 400 <= status < 500:
                    raise Broken(f"a request that is wrong was answered with {status}")

    async def _too_large(self) -> None:
        async with Connection(self._port) as connection:
            size = self._random.randint(MAX_BODY + 1, 2 * MAX_BODY)
            body = json.dumps({"model": "sound", "prompt": "x" * size}).encode()
            asked = self._post(GOOD, TEXT, body, Question(), "", chunked=self._random.random() < 0.5)
            self._begin(connection, asked)
            answer = await self._answer(connection)
            if answer.status != 413:
                raise Broken(f"{len(body)} bytes were answered with {answer.status}")

    async def _no_http(self) -> None:
        async with Connection(self._port) as connection:
            self.tally.requests += 1
            connection.write(self._random.choice([b"\x16\x03\x01\x02\x00\r\n\r\n", b"GET / HTTP/1.1\nhost: x\n\n"]))
            answer = await self._answer(connection)
            if answer.status != 400 or not await connection.ended():
                raise Broken(f"no HTTP was answered with {answer.status}")

    async def _pages(self) -> None:
        async with Connection(self._port) as connection:
            for path in self._random.choices(["/v1/models", "/readyz", "/metrics", "/nowhere"], k=3):
                method = self._random.choice(["GET", "HEAD"])
                self.tally.requests += 1
                head = f"{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {self._keys[GOOD]}\r\n\r\n"
                connection.write(head.encode())
                answer = await self._answer(connection, bodiless=method == "HEAD")
                if answer.status not in (200, 404, 405, 503):
                    raise Broken(f"{method} {path} was answered with {answer.status}")

    # -- sessions that leave

    async def _leave_while_sending(self) -> None:
        async with Connection(self._port) as connection:
            data = self._ask(RUDE).data
            self.tally.requests += 1
            connection.write(data[: self._random.randrange(1, len(data))])
            await self._wait(0.005)
            self._leave(connection)

    async def _leave_before_the_answer(self) -> None:
        async with Connection(self._port) as connection:
            self._send(connection, self._ask(RUDE))
            await self._wait(0.05)
            self._leave(connection)

    async def _leave_in_mid_stream(self) -> None:
        async with Connection(self._port) as connection:
            self._send(connection, self._ask(RUDE, model="long", stream=True))
            left = self._random.randint(1, 20_000)
            async with asyncio.timeout(ANSWER_TIMEOUT):
                while left > 0 and (piece := await connection.read_some(left)):
                    left -= len(piece)
                    if piece.endswith(b"0\r\n\r\n"):
                        break
            self._leave(connection)

    async def _half_close(self) -> None:
        """A client that has no more to ask, and still listens: it gets its answer, and then an end."""
        async with Connection(self._port) as connection:
            asked = self._ask(RUDE)
            self._send(connection, asked)
            connection.half_close()
            await self._read(connection, asked)
            if not await connection.ended():
                raise Broken("a client that will send no more keeps its connection")

    async def _leave_a_pipeline(self) -> None:
        async with Connection(self._port) as connection:
            for _ in range(self._random.randint(2, 30)):
                self._send(connection, self._ask(RUDE))
            await self._wait(0.05)
            async with asyncio.timeout(ANSWER_TIMEOUT):
                await connection.read_some(1000)
            self._leave(connection)

    def _leave(self, connection: Connection) -> None:
        if self._random.random() < 0.5:
            connection.reset()

    async def _wait(self, most: float) -> None:
        await asyncio.sleep(self._random.random() * most)

    # -- requests

    def _ask(
        self,
        tenant: str,
        *,
        model: str | None = None,
        stream: bool | None = None,
        extra: str = "",
        more: dict[str, Any] | None = None,
    ) -> Asked:
        """A request that is right, but for what `more` adds to its body."""
        draw = self._random
        if model is None:
            model = "shaky" if self._shaky and draw.random() < 0.03 else "sound"
        mode = draw.choice(["think", "no_think"]) if model == "sound" else "no_think"
        text = draw.random() < 0.3
        if stream is None:
            stream = draw.random() < 0.5
        usage = stream and (tenant == GOOD or draw.random() < 0.5)
        words = f"{draw.getrandbits(64):x} " + "word " * int(draw.expovariate(1 / 40))
        if draw.random() < 0.01:
            words *= 100
        words = words[:20_000]
        body: dict[str, Any] = {"model": f"{model}:{mode}", "stream": stream, **(more or {})}
        body |= {"prompt": words} if text else {"messages": [{"role": "user", "content": words}]}
        if usage:
            body["stream_options"] = {"include_usage": True}
        question = Question(stream=stream, text=text, usage=usage, mode=mode)
        data = json.dumps(body).encode()
        asked = self._post(tenant, TEXT if text else CHAT, data, question, extra, chunked=draw.random() < 0.3)
        asked.model = "" if more or model == "unknown" else model
        return asked

    def _post(
        self, tenant: str, path: str, body: bytes, question: Question, extra: str, *, chunked: bool = False
    ) -> Asked:
        key = self._keys.get(tenant, "pk-nobody")
        head = f"POST {path} HTTP/1.1\r\nhost: soak\r\nauthorization: Bearer {key}\r\n{extra}"
        if chunked:
            data = f"{head}transfer-encoding: chunked\r\n\r\n".encode() + self._chunks(body)
        else:
            data = f"{head}content-length: {len(body)}\r\n\r\n".encode() + body
        return Asked(data, question, tenant, "")

    def _chunks(self, body: bytes) -> bytes:
        pieces = []
        at = 0
        while at < len(body):
            piece = body[at : at + self._random.randint(1, 2000)]
            at += len(piece)
            pieces.append(b"%x\r\n%b\r\n" % (len(piece), piece))
        trailer = b"x-checksum: none\r\n" if self._random.random() < 0.2 else b""
        return b"".join(pieces) + b"0\r\n" + trailer + b"\r\n"

    def _begin(self, connection: Connection, asked: Asked) -> None:
        self.tally.requests += 1
        connection.write(asked.data)

    def _send(self, connection: Connection, asked: Asked) -> None:
        self._begin(connection, asked)
        self.tally.sent[asked.tenant] += 1

    async def _answer(self, connection: Connection, *, bodiless: bool = False) -> Answer:
        async with asyncio.timeout(ANSWER_TIMEOUT):
            return await connection.answer(bodiless=bodiless)

    async def _read(self, connection: Connection, asked: Asked) -> int:
        """Read the answer to `asked`, take it down, and return its status."""
        answer = await self._answer(connection)
        meaning: Meaning = read(answer, asked.question)
        self.tally.statuses[asked.tenant, asked.model, meaning.status] += 1
        if asked.tenant == GOOD and asked.model == "sound":
            for kind, count in meaning.tokens.items():
                self.tally.tokens[answer.header("x-pointsman-mode"), kind] += count
        return meaning.status
