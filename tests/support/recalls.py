"""Routers that recall: the real cache, on a real Valkey, with engines and clients that are played by the test."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any, cast

import orjson
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from pointsman.contracts.config import Config
from pointsman.contracts.errors import UpstreamFailed
from pointsman.contracts.modes import Mode, ModeDecision, Source
from pointsman.contracts.policies import Policy
from pointsman.contracts.pricing import Usage
from pointsman.router.exchange import Endpoint, Exchange
from pointsman.router.metrics import Metrics
from pointsman.router.pipeline import Pipeline, delivery
from pointsman.router.pipeline.outcome import Outcome
from pointsman.router.pipeline.recall import Recall
from pointsman.router.pipeline.settle import Settle
from pointsman.router.response_cache.answers import Answers
from pointsman.router.response_cache.keys import Keys
from pointsman.router.snapshot import compile_snapshot
from pointsman.router.tenant_view import TenantView
from pointsman.router.wire import openai_request
from pointsman.store.response_cache import AnswerStore
from support.exchanges import NoBooks, RecordingClient, unnoted, unspared

POOLS = [
    {
        "name": "fast",
        "model": "m",
        "modes": ["no_think"],
        "engine": "simulated",
        "prices": {"input": 1, "output": 2},
    },
    {"name": "deep", "model": "m", "modes": ["think"], "engine": "simulated", "prices": {"input": 3, "output": 5}},
]
CACHED = {"enabled": True, "hit_price_share": 0.25}
TENANTS: list[dict[str, Any]] = [
    {"name": "one", "cache": CACHED},
    {"name": "two", "cache": CACHED},
    {"name": "left", "cache": {**CACHED, "group": "shared"}},
    {"name": "right", "cache": {**CACHED, "group": "shared", "hit_price_share": 1.0}},
    {"name": "off"},
]
CONFIG = Config.model_validate({"pools": POOLS, "tenants": TENANTS})
USAGE = Usage(input=10, answer=4)
COST = 10 * 1000 + 4 * 2000
"""Nano-dollars of `USAGE` in pool `fast`."""


class _Engine:
    """The step that makes answers: keeps what it is asked until the test answers, and who holds it back."""

    name = "relay"

    def __init__(self) -> None:
        self.asked: list[Exchange] = []
        self.stopped: list[Exchange] = []
        self.held_back: set[Exchange] = set()

    def __call__(self, exchange: Exchange) -> Outcome:
        self.asked.append(exchange)
        exchange.pool = CONFIG.pools[0 if exchange.mode is Mode.NO_THINK else 1]
        exchange.work = _Work(self, exchange)
        return Outcome.WAIT


class _Work:
    def __init__(self, engine: _Engine, exchange: Exchange) -> None:
        self._engine = engine
        self._exchange = exchange

    def abort(self) -> None:
        self._engine.stopped.append(self._exchange)

    def pause(self) -> None:
        self._engine.held_back.add(self._exchange)

    def resume(self) -> None:
        self._engine.held_back.discard(self._exchange)


class Router:
    """One router process, in this one. `begin` it, and `end` it or `die`."""

    def __init__(self, folder: Path, redis_url: str, *, secret: str = "s", versions: str = "v1") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.metrics = Metrics(folder)
        self._redis = Redis.from_url(redis_url, socket_timeout=1.0, retry=Retry(NoBackoff(), 0))
        pools = {pool.name: pool for pool in CONFIG.pools}
        store = AnswerStore(self._redis)
        self.answers = Answers(store, pools, self.metrics, secret=secret, most_bytes=10_000_000)
        self.versions = versions
        recall = Recall(self.answers, Keys(lambda pools: self.versions))
        self.engine = _Engine()
        self.books = NoBooks()
        snapshot = compile_snapshot(CONFIG)
        settle = Settle(snapshot, self.metrics, unnoted, self.books, unspared)
        self.pipeline = recall.pipeline = Pipeline([recall, self.engine, settle], self.metrics)
        self.tenants: dict[str, TenantView] = {}
        for tenant in CONFIG.tenants:
            view = snapshot.tenants.named(tenant.name)
            assert view is not None
            self.tenants[tenant.name] = view
        self._policy = Policy()
        self._number = 0
        self._task: asyncio.Task[None] | None = None

    async def begin(self) -> Router:
        await self.answers.shared.begin()
        self._task = asyncio.get_running_loop().create_task(self.answers.shared.run())
        return self

    async def die(self) -> None:
        """End without a word."""
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._redis.aclose()

    async def end(self) -> None:
        """End in order."""
        await self.answers.shared.flush()
        await self.die()

    def ask(
        self,
        question: str = "Why?",
        *,
        tenant: str = "one",
        mode: Mode = Mode.NO_THINK,
        headers: dict[str, str] | None = None,
        **body: Any,
    ) -> Exchange:
        """A request that was decided comes to the step `recall` now. Temperature 0 unless `body` says otherwise."""
        self._number += 1
        fields = {
            "model": "m",
            "messages": [{"role": "user", "content": question}],
            "max_tokens": 64,
            "temperature": 0,
            **body,
        }
        named = {name.encode(): value.encode() for name, value in (headers or {}).items()}
        exchange = Exchange(RecordingClient(), Endpoint.CHAT, named, orjson.dumps(fields))
        openai_request.read(exchange)
        exchange.request_id, exchange.rid = "r", f"{id(self) % 10**6:06d}{self._number:026d}"
        exchange.tenant = self.tenants[tenant]
        exchange.model = exchange.tenant.models["m"]
        exchange.policy = self._policy
        exchange.decision = ModeDecision(mode, Source.CLIENT, 0.5, 0.4, "field")
        self.pipeline.start(exchange)
        return exchange

    async def asked(self, number: int = 1) -> list[Exchange]:
        """What the engine was asked, once that are `number` requests."""
        await until(lambda: len(self.engine.asked) >= number)
        return self.engine.asked

    def answer(self, exchange: Exchange, text: str = "Because.") -> None:
        """Give the whole answer to what the engine was asked."""
        exchange.usage, exchange.work = USAGE, None
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        delivery.whole(exchange, {"id": exchange.rid + "1", "object": "chat.completion", "choices": [choice]})
        self.pipeline.resume(exchange)

    def fail(self, exchange: Exchange) -> None:
        """The engine has failed."""
        exchange.work = None
        self.pipeline.refuse(exchange, UpstreamFailed("The engine failed."))

    def begin_stream(self, exchange: Exchange, text: str) -> None:
        """Begin the stream that answers what the engine was asked."""
        delivery.start_stream(exchange, event(exchange, text))

    def stream(self, exchange: Exchange, *texts: str) -> None:
        """Go on with it: the first text as a piece of its own, the others with their framing."""
        for at, text in enumerate(texts):
            data = event(exchange, text)
            if at == 0:
                exchange.client.send(data)
            else:
                exchange.client.send_chunks(b"%x\r\n%b\r\n" % (len(data), data))

    def end_stream(self, exchange: Exchange) -> None:
        """End it."""
        exchange.usage, exchange.work = USAGE, None
        self.pipeline.resume(exchange)


def event(exchange: Exchange, text: str) -> bytes:
    """An event of the stream that answers `exchange`."""
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    return b"data: " + orjson.dumps({"id": exchange.rid + "1", "choices": [choice]}) + b"\n\n"


def client_of(exchange: Exchange) -> RecordingClient:
    """What the client of `exchange` got, its own or one that is recorded."""
    client = exchange.client
    return cast(RecordingClient, getattr(client, "client", client))


def said(exchange: Exchange) -> str:
    """The text that the client of `exchange` got, to the end of its answer."""
    client = client_of(exchange)
    assert client.ended
    if not exchange.stream:
        return str(orjson.loads(client.sent)["choices"][0]["message"]["content"])
    events = client.sent.split(b"\n\n")
    assert events[-2:] == [b"data: [DONE]", b""]
    told = [orjson.loads(each.removeprefix(b"data: ")) for each in events[:-2]]
    return "".join(choice["delta"]["content"] for one in told for choice in one.get("choices", ()))


def headers_of(exchange: Exchange) -> dict[str, str]:
    """The headers that the client of `exchange` got."""
    lines = client_of(exchange).headers.decode().split("\r\n")
    return dict(line.split(": ", 1) for line in lines if line)


async def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait until `condition` holds; fail where it never does."""
    deadline = monotonic() + seconds
    while not condition():
        assert monotonic() < deadline
        await asyncio.sleep(0.002)


async def ended(*exchanges: Exchange) -> None:
    """Wait until all of `exchanges` have their answers."""
    await until(lambda: all(client_of(exchange).ended for exchange in exchanges))
