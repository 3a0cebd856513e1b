"""A relay without sockets: requests whose engine is a fake transport, and whose client records what it gets."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from pointsman.contracts.config import Config
from pointsman.contracts.modes import Mode, ModeDecision, Source
from pointsman.contracts.policies import PolicyDocument
from pointsman.router.exchange import Exchange
from pointsman.router.fleet import Fleet, Replica
from pointsman.router.http.upstream import UpstreamConnection
from pointsman.router.metrics import Metrics
from pointsman.router.pipeline import Pipeline
from pointsman.router.pipeline.outcome import Outcome
from pointsman.router.pipeline.place import Place
from pointsman.router.pipeline.relay import Relay, Relaying
from pointsman.router.pipeline.settle import Settle
from pointsman.router.policies import compile_policy
from pointsman.router.snapshot import ModelView, TenantView, compile_snapshot
from support.exchanges import NoBooks, RecordingClient, exchange_with, unnoted, unspared

CONFIG = Config.model_validate(
    {
        "pools": [
            {
                "name": "p",
                "model": "m",
                "modes": ["think"],
                "engine": "simulated",
                "prices": {"input": 1, "output": 2},
            }
        ]
    }
)


class FakeTransport:
    """What a connection writes to; nothing of it moves."""

    def __init__(self) -> None:
        self.written = b""
        self.closed = False
        self.paused = False

    def write(self, data: bytes) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


class _Waits:
    """A step under the name of a real one, that waits for ever."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, exchange: Exchange) -> Outcome:
        return Outcome.WAIT


class Relayings:
    """Makes requests that have just been placed. `folder` takes the metrics."""

    def __init__(self, folder: Path) -> None:
        metrics = Metrics(folder)
        self.fleet = Fleet(CONFIG, cast(Any, None), metrics, secret="s")
        self.relay = Relay(self.fleet, metrics, max_response_bytes=100_000)
        steps = [
            _Waits(Place.name),
            self.relay,
            Settle(compile_snapshot(CONFIG), metrics, unnoted, NoBooks(), unspared),
        ]
        self.relay.pipeline = Pipeline(steps, metrics)

    def exchange(self, *, stream: bool = True, include_usage: bool = False) -> Exchange:
        """A request that has been placed."""
        exchange = exchange_with({"model": "m", "messages": []})
        exchange.payload = {"model": "m", "messages": []}
        exchange.tenant = TenantView("t", {}, compile_policy(PolicyDocument()), "salt")
        exchange.stream = stream
        exchange.max_tokens = 16  # so few that an answer may be empty
        exchange.include_usage = include_usage
        exchange.decision = ModeDecision(Mode.THINK, Source.CLIENT, 0.5, None, "model")
        exchange.pool = CONFIG.pools[0]
        exchange.model = ModelView("m", {Mode.THINK: CONFIG.pools}, frozenset({Mode.THINK}))
        exchange.replica = Replica("p", "127.0.0.1:1", "i")
        exchange.position = 1
        return exchange

    def sent(self, exchange: Exchange) -> tuple[UpstreamConnection, FakeTransport]:
        """Send `exchange` to its replica; the connection that its answer comes on, and where that writes."""
        assert exchange.replica is not None
        connection, transport = UpstreamConnection(exchange.replica.site), FakeTransport()
        connection.connection_made(cast(Any, transport))
        exchange.replica.site.release(connection)
        assert self.relay(exchange) is Outcome.WAIT
        return connection, transport

    def answering(self, *, include_usage: bool = False) -> tuple[Exchange, Relaying]:
        """A request whose replica has just answered 200 with a stream, and its relaying."""
        exchange = self.exchange(include_usage=include_usage)
        exchange.attempts = 1
        relaying = Relaying(self.relay, exchange)
        exchange.work = relaying
        relaying.on_head(200, {b"content-type": b"text/event-stream"})
        return exchange, relaying


def client_of(exchange: Exchange) -> RecordingClient:
    """What the client of `exchange` got."""
    return cast(RecordingClient, exchange.client)
