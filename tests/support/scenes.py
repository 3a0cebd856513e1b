"""Requests from placement to their end, with engines that are played by the test: no sockets, no processes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

from pointsman.contracts.config import Config
from pointsman.contracts.modes import Mode, ModeDecision, Source
from pointsman.contracts.names import Header
from pointsman.contracts.policies import Policy
from pointsman.contracts.pricing import cost_of
from pointsman.router.exchange import NO_POLICY, Endpoint, Exchange
from pointsman.router.fleet import Fleet, Replica
from pointsman.router.http.upstream import UpstreamConnection
from pointsman.router.key_scope import Scope
from pointsman.router.metrics import Metrics
from pointsman.router.pipeline import Pipeline
from pointsman.router.pipeline.place import Place
from pointsman.router.pipeline.relay import Relay
from pointsman.router.pipeline.settle import Settle
from pointsman.router.snapshot import compile_snapshot
from pointsman.router.wire import openai_request
from support.exchanges import NoBooks, RecordingClient, unnoted, unspared
from support.gateway import events
from support.relayings import FakeTransport

FAST = {
    "name": "fast",
    "model": "m",
    "modes": ["no_think"],
    "engine": "simulated",
    "capabilities": {"tools": True},
    "prices": {"input": 1, "output": 2},
}
DEEP = {
    "name": "deep",
    "model": "m",
    "modes": ["think"],
    "engine": "simulated",
    "capabilities": {"tools": True},
    "prices": {"input": 3, "output": 5, "reasoning": 7},
}
URLS = {"urls": ["http://127.0.0.1:1"]}
"""For an engine that somebody else runs."""

CHUNK = {"id": "e1", "object": "chat.completion.chunk", "created": 1, "model": "m"}


def said(finish: str | None = None, *, index: int = 0, usage: dict[str, int] | None = None, **delta: Any) -> bytes:
    """An event whose delta holds `delta`."""
    choice = {"index": index, "delta": delta, "finish_reason": finish}
    told = {} if usage is None else {"usage": usage}
    return b"data: " + json.dumps({**CHUNK, "choices": [choice], **told}, separators=(",", ":")).encode() + b"\n\n"


def used(prompt: int, completion: int, reasoning: int = 0) -> dict[str, int]:
    """A usage object."""
    return {"prompt_tokens": prompt, "completion_tokens": completion, "reasoning_tokens": reasoning}


def tail(prompt: int, completion: int, reasoning: int = 0) -> list[bytes]:
    """The events that end a stream."""
    usage = {**CHUNK, "choices": [], "usage": used(prompt, completion, reasoning)}
    return [b"data: " + json.dumps(usage).encode() + b"\n\n", b"data: [DONE]\n\n"]


class Sending:
    """One time that an engine was asked. `asked` is what."""

    def __init__(self, connection: UpstreamConnection, transport: FakeTransport, address: str) -> None:
        self._connection = connection
        self._transport = transport
        self._streaming = False
        self.address = address
        self.asked: dict[str, Any] = json.loads(transport.written.partition(b"\r\n\r\n")[2])

    @property
    def stopped(self) -> bool:
        """Whether the router has dropped the connection, and with it the engine's work."""
        return self._transport.closed

    @property
    def paused(self) -> bool:
        """Whether the router reads nothing more for now."""
        return self._transport.paused

    def answer(
        self,
        *,
        content: str | None = "fine",
        finish: str = "stop",
        usage: dict[str, int] | None = None,
        **message: Any,
    ) -> None:
        """Give a whole answer."""
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": content, **message},
            "finish_reason": finish,
        }
        self.choices(choice, usage=usage or used(10, 4))

    def choices(self, *choices: dict[str, Any], usage: dict[str, int]) -> None:
        """Give a whole answer of `choices`."""
        answer = {"id": "e1", "object": "chat.completion", "created": 1, "model": "m"}
        self.whole({**answer, "choices": choices, "usage": usage})

    def whole(self, answer: dict[str, Any]) -> None:
        """Give `answer`, whatever it is."""
        body = json.dumps(answer).encode()
        self.receive(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))

    def fail(self, status: int = 500) -> None:
        """Answer with an error."""
        self.receive(b"HTTP/1.1 %d X\r\ncontent-length: 2\r\n\r\n{}" % status)

    def say(self, *pieces: bytes) -> None:
        """Stream `pieces`, each in a chunk and a read of its own; the end mark ends the stream."""
        for piece in pieces:
            if not self._streaming:
                self._streaming = True
                self.receive(
                    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
                )
            self.receive(b"%x\r\n%b\r\n" % (len(piece), piece))
            if piece.startswith(b"data: [DONE]"):
                self.receive(b"0\r\n\r\n")

    def receive(self, data: bytes) -> None:
        """Send bytes, unless the router has hung up."""
        if not self._transport.closed:
            self._connection.data_received(data)


class Told:
    """What the client of `exchange` got, and what it is billed."""

    def __init__(self, exchange: Exchange, scene: Scene) -> None:
        client = cast(RecordingClient, exchange.client)
        self.ended = client.ended
        self.status = client.status
        self.raw = client.sent
        lines = client.headers.decode().split("\r\n")
        self.headers = {name: value for name, _, value in (line.partition(": ") for line in lines if line)}
        self.exchange = exchange
        self.prices = scene.snapshot.prices

    @property
    def body(self) -> Any:
        return json.loads(self.raw)

    @property
    def events(self) -> list[Any]:
        return events(self.raw.decode())

    @property
    def message(self) -> dict[str, Any]:
        """The message of a whole answer, or what the deltas of a stream add up to."""
        if not self.exchange.stream:
            return dict(self.body["choices"][0]["message"])
        message: dict[str, Any] = {}
        for event in self.events:
            for choice in event["choices"] if isinstance(event, dict) and "choices" in event else ():
                for name, text in choice["delta"].items():
                    if isinstance(text, str) and name != "role":
                        message[name] = message.get(name, "") + text
        return message

    @property
    def usage(self) -> dict[str, Any]:
        """The usage that the client was told."""
        return dict(self.body["usage"] if not self.exchange.stream else self.events[-2]["usage"])

    @property
    def error(self) -> str | None:
        """The code of the error that the answer is, or that the stream ends with."""
        told = self.body if not self.raw.startswith(b"data:") else self.events[-2]
        return str(told["error"]["code"]) if "error" in told else None

    @property
    def remarks(self) -> dict[str, Any]:
        """The object `pointsman` of a stream's chunks, all of them together."""
        found: dict[str, Any] = {}
        for event in self.events[:-1]:
            found.update(event.get("pointsman", {}))
        return found

    def check_bill(self) -> None:
        """What is billed is what was used, each part at its own pool's prices, and what the client was told."""
        exchange = self.exchange
        parts = [(leg.pool.name, leg.usage) for leg in exchange.legs]
        if exchange.usage is not None and exchange.pool is not None:
            parts.append((exchange.pool.name, exchange.usage))
        assert exchange.cost is not None
        assert exchange.cost.total == sum(cost_of(usage, self.prices[pool]).total for pool, usage in parts)
        usage = self.usage
        assert usage["prompt_tokens"] == sum(part.prompt_tokens for _, part in parts)
        assert usage["completion_tokens"] == sum(part.completion_tokens for _, part in parts)
        assert usage["reasoning_tokens"] == sum(part.reasoning for _, part in parts)


class Scene:
    """A router of `pools` with one replica each, for one tenant."""

    def __init__(self, folder: Path, *pools: dict[str, Any]) -> None:
        self.metrics = Metrics(folder)
        tenant = {"name": "t", "key_digests": ["00" * 32]}
        self.config = Config.model_validate({"pools": list(pools or (FAST, DEEP)), "tenants": [tenant]})
        self.snapshot = compile_snapshot(self.config)
        self.fleet = Fleet(self.config, cast(Any, None), self.metrics, secret="s")
        self._connections: list[tuple[UpstreamConnection, FakeTransport, str]] = []
        self.replicas: dict[str, Replica] = {}
        for number, (name, state) in enumerate(self.fleet.pools.items()):
            address = f"10.0.0.{number}:80"
            replica = Replica(name, address, "i")
            state.replicas = {address: replica}  # one, which never rests: each request of a test has to reach it
            replica.healthy = True
            state.refresh()
            self.replicas[name] = replica
        place = Place(self.fleet)
        self.relay = Relay(self.fleet, self.metrics, max_response_bytes=1_000_000)
        settle = Settle(self.snapshot, self.metrics, unnoted, NoBooks(), unspared)
        self.pipeline = Pipeline([place, self.relay, settle], self.metrics)
        place.pipeline = self.relay.pipeline = self.pipeline

    def connect(self) -> None:
        """See that each replica has as many connections as a request may need."""
        self._connections = [item for item in self._connections if not item[1].closed]
        for name, replica in self.replicas.items():
            for _ in range(4 - sum(item[2] == name for item in self._connections)):
                connection, transport = UpstreamConnection(replica.site), FakeTransport()
                connection.connection_made(cast(Any, transport))
                replica.site.release(connection)
                self._connections.append((connection, transport, name))

    def ask(
        self,
        mode: Mode,
        *,
        source: Source = Source.PREDICTOR,
        policy: dict[str, Any] | None = None,
        thinking_budget: int | None = None,
        headers: dict[str, str] | None = None,
        endpoint: Endpoint = Endpoint.CHAT,
        scope: Scope | None = None,
        **body: Any,
    ) -> Exchange:
        """A request that was decided and is placed and sent now."""
        text = (
            {"messages": [{"role": "user", "content": "Why?"}]} if endpoint is Endpoint.CHAT else {"prompt": "Why?"}
        )
        fields = {"model": "m", **text, **body}
        named = {name.encode(): value.encode() for name, value in (headers or {}).items()}
        exchange = Exchange(RecordingClient(), endpoint, named, json.dumps(fields).encode())
        openai_request.read(exchange)
        exchange.request_id, exchange.rid = "r", "0123456789abcdef"
        exchange.tenant = next(iter(self.snapshot.tenants.views.values()))
        exchange.model = exchange.tenant.models["m"]
        exchange.scope = scope
        exchange.policy = NO_POLICY if policy is None else Policy.model_validate(policy)
        exchange.thinking_budget = thinking_budget
        exchange.decision = ModeDecision(mode, source, 0.5, 0.4, "threshold")
        self.connect()
        self.pipeline.start(exchange)
        return exchange

    def sent(self) -> Sending:
        """What was sent to an engine last, and not yet taken."""
        for connection, transport, name in self._connections:
            if transport.written:
                sending = Sending(connection, transport, name)
                transport.written = b""
                return sending
        raise AssertionError("nothing was sent")

    def idle(self) -> bool:
        """Whether nothing was sent that was not taken."""
        return not any(transport.written for _, transport, _ in self._connections)

    def told(self, exchange: Exchange) -> Told:
        return Told(exchange, self)


BUFFERED = {Header.ESCALATION: "buffered"}
