"""The paths of the engine, and the secret before them.

As SGLang behind Pointsman: `POST /v1/chat/completions`, `POST /v1/completions`, `POST /tokenize`, `GET /v1/models`,
`GET /health`, `GET /metrics`. And its own, which always need the secret: `/simulated/faults` orders faults,
`/simulated/requests` shows what was received (a test aid). Any POST without the secret is 403, its body unread.
"""

from __future__ import annotations

import hmac
import time

import orjson
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from pointsman.contracts.names import Header
from pointsman.serving.simulated.answering import Answering, Planner
from pointsman.serving.simulated.engine import Engine
from pointsman.serving.simulated.faults import FaultPlan, Order
from pointsman.serving.simulated.metrics import EngineMetrics
from pointsman.serving.simulated.plan import Plan, plan_chat, plan_completion
from pointsman.serving.simulated.records import Records
from pointsman.serving.simulated.requests import ChatRequest, CompletionRequest, RefusedRequest, invalid, parse
from pointsman.serving.simulated.settings import Identity, Settings
from pointsman.serving.simulated.wire import FINGERPRINT, ChatWire, CompletionWire, Wire

OWN_PATHS = "/simulated/"


class SimulatedEngine:
    """One engine as an ASGI app: `app` answers, `load` is what it is busy with."""

    def __init__(self, identity: Identity, settings: Settings, *, secret: str) -> None:
        """`secret` is what every POST must carry in the header `x-pointsman-replica-secret`; never empty."""
        if not secret:
            raise ValueError("the secret of the replicas must not be empty")
        self._identity = identity
        self._started = int(time.time())
        self._metrics = EngineMetrics(identity.model)
        self._engine = Engine(settings, self._metrics)
        self._faults = FaultPlan(settings.fault_rates, seed=settings.fault_seed)
        self._records = Records(settings.keep_requests)

        def chat(content_type: str, body: bytes) -> Plan:
            return plan_chat(parse(ChatRequest, content_type, body), identity, settings)

        def completion(content_type: str, body: bytes) -> Plan:
            return plan_completion(parse(CompletionRequest, content_type, body), identity, settings)

        def answering(planner: Planner, wire: type[Wire]) -> Answering:
            return Answering(planner, wire, self._engine, self._faults, self._records)

        routes = [
            Route("/v1/chat/completions", answering(chat, ChatWire), methods=["POST"]),
            Route("/v1/completions", answering(completion, CompletionWire), methods=["POST"]),
            Route("/tokenize", self._tokenize, methods=["POST"]),
            Route("/v1/models", self._models),
            Route("/health", self._health),
            Route("/metrics", self._show_metrics),
            Route("/simulated/faults", self._show_faults, methods=["GET"]),
            Route("/simulated/faults", self._order_faults, methods=["POST"]),
            Route("/simulated/faults", self._clear_faults, methods=["DELETE"]),
            Route("/simulated/requests", self._show_requests, methods=["GET"]),
            Route("/simulated/requests", self._clear_requests, methods=["DELETE"]),
        ]
        self.app: ASGIApp = _Guard(Starlette(routes=routes), secret)

    @property
    def load(self) -> int:
        """Requests that run or wait."""
        return self._engine.load

    async def _models(self, request: Request) -> Response:
        card = {
            "id": self._identity.model,
            "object": "model",
            "created": self._started,
            "owned_by": FINGERPRINT,
            "root": self._identity.model,
            "parent": None,
            "max_model_len": self._identity.context,
        }
        return _json({"object": "list", "data": [card]})

    async def _tokenize(self, request: Request) -> Response:
        """How many tokens the prompt of a chat has. Their ids, which no text here has, are their places."""
        try:
            chat = parse(ChatRequest, request.headers.get("content-type", ""), await request.body())
            chat.check(self._identity.context)
        except RefusedRequest as refusal:
            return _json(refusal.body(), status=refusal.status)
        count = len(chat.prompt())
        return _json({"tokens": [*range(count)], "count": count, "max_model_len": self._identity.context})

    async def _health(self, request: Request) -> Response:
        return Response(status_code=200 if self._faults.healthy else 503)

    async def _show_metrics(self, request: Request) -> Response:
        return Response(self._metrics.exposition(), media_type=CONTENT_TYPE_LATEST)

    async def _show_faults(self, request: Request) -> Response:
        return _json(self._faults.state())

    async def _order_faults(self, request: Request) -> Response:
        try:
            self._faults.order(Order.model_validate_json(await request.body()))
        except ValidationError as error:
            refusal = invalid(error)
            return _json(refusal.body(), status=refusal.status)
        except ValueError as error:
            return _json(RefusedRequest(str(error)).body(), status=400)
        return _json(self._faults.state())

    async def _clear_faults(self, request: Request) -> Response:
        self._faults.clear()
        return _json(self._faults.state())

    async def _show_requests(self, request: Request) -> Response:
        return _json(self._records.state())

    async def _clear_requests(self, request: Request) -> Response:
        self._records.clear()
        return _json(self._records.state())


class _Guard:
    """Lets through what carries the secret, and reads that need none."""

    def __init__(self, app: ASGIApp, secret: str) -> None:
        self._app = app
        self._secret = secret.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self._may_pass(scope):
            refusal = RefusedRequest("The replica's secret is missing or wrong.", status=403, type="Forbidden")
            response = _json(refusal.body(), status=refusal.status)
            response.headers["connection"] = "close"
            await response(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _may_pass(self, scope: Scope) -> bool:
        if scope["method"] in ("GET", "HEAD") and not scope["path"].startswith(OWN_PATHS):
            return True
        name = Header.REPLICA_SECRET.encode()
        given = [value for header, value in scope["headers"] if header == name]
        return len(given) == 1 and hmac.compare_digest(given[0], self._secret)


def _json(content: object, *, status: int = 200) -> Response:
    return Response(orjson.dumps(content), status_code=status, media_type="application/json")
