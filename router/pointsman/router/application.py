"""Which request goes where: the hot paths into the pipeline, health answered here, all else to the admin process.

Stands between the HTTP protocol and everything behind it; holds the table of paths and nothing else.
"""

from __future__ import annotations

from pointsman.contracts.errors import MethodNotAllowed
from pointsman.router.exchange import Endpoint, Exchange
from pointsman.router.health import Health
from pointsman.router.http.server import Handling, Request
from pointsman.router.http.wire import header_lines
from pointsman.router.metrics import Metrics
from pointsman.router.passthrough import Passthrough
from pointsman.router.pipeline import Pipeline
from pointsman.router.wire import openai

_JSON = header_lines([("content-type", "application/json")])
_ENDPOINTS = {endpoint.value: endpoint for endpoint in Endpoint}


class Application:
    """Answers every request of one data-plane process."""

    def __init__(self, pipeline: Pipeline, health: Health, passthrough: Passthrough, metrics: Metrics) -> None:
        self._pipeline = pipeline
        self._health = health
        self._passthrough = passthrough
        self._metrics = metrics

    def __call__(self, request: Request) -> Handling | None:
        path = request.target.partition("?")[0]
        endpoint = _ENDPOINTS.get(path)
        if endpoint is not None:
            if request.method != "POST":
                _wrong_method(request, "POST")
                return None
            exchange = Exchange(request.connection, endpoint, request.headers, request.body)
            self._metrics.in_flight.add(1)
            running = _Running(self._pipeline, exchange)
            self._pipeline.start(exchange)
            return running
        if path in self._health.PATHS:
            if request.method not in ("GET", "HEAD"):
                _wrong_method(request, "GET, HEAD")
                return None
            status, body = self._health.answer(path)
            request.connection.respond(status, _JSON, body)
            return None
        if path == "/metrics":
            self._metrics.flush()  # whoever has read an answer finds it in the counters
        return self._passthrough.relay(request)


class _Running:
    """A request in the pipeline, as its connection sees it."""

    __slots__ = ("_exchange", "_pipeline")

    def __init__(self, pipeline: Pipeline, exchange: Exchange) -> None:
        self._pipeline = pipeline
        self._exchange = exchange

    def abandon(self) -> None:
        self._pipeline.abandon(self._exchange)

    def pause(self) -> None:
        if self._exchange.work is not None:
            self._exchange.work.pause()

    def resume(self) -> None:
        if self._exchange.work is not None:
            self._exchange.work.resume()


def _wrong_method(request: Request, allowed: str) -> None:
    answer = openai.error_answer(MethodNotAllowed(f"This path takes {allowed}."))
    request.connection.respond(answer.status, answer.headers + header_lines([("allow", allowed)]), answer.body)
