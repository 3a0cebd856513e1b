"""Which request goes where: the hot paths into the pipeline, health answered here, all else to the admin process.

Stands between the HTTP protocol and everything behind it; holds the table of paths and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence

from pointsman.contracts.errors import ApiError, BodyTooLarge, MethodNotAllowed
from pointsman.router.exchange import Endpoint, Exchange, Headers
from pointsman.router.health import Health
from pointsman.router.http.handling import Handling
from pointsman.router.http.heads import Head
from pointsman.router.http.server import ClientConnection
from pointsman.router.http.wire import header_lines
from pointsman.router.metrics import Metrics
from pointsman.router.passthrough import LARGEST, LARGEST_OF_ADMIN, Passthrough
from pointsman.router.pipeline import Pipeline
from pointsman.router.pipeline.authenticate import key_of
from pointsman.router.snapshot import Snapshot
from pointsman.router.wire import formats

_JSON = header_lines([("content-type", "application/json")])
_ENDPOINTS = {endpoint.value: endpoint for endpoint in Endpoint}


class Application:
    """Answers every request of one data-plane process."""

    def __init__(
        self,
        snapshot: Snapshot,
        pipeline: Pipeline,
        health: Health,
        passthrough: Passthrough,
        metrics: Metrics,
    ) -> None:
        self._snapshot = snapshot
        self._pipeline = pipeline
        self._health = health
        self._passthrough = passthrough
        self._metrics = metrics

    def __call__(self, client: ClientConnection, head: Head, body: bytes) -> Handling | None:
        path = head.target.partition("?")[0]
        endpoint = _ENDPOINTS.get(path)
        if endpoint is not None:
            if head.method != "POST":
                _wrong_method(client, "POST", path)
                return None
            running = _Running(client, endpoint, head.headers, body)
            running.pipeline = self._pipeline
            if endpoint.engine is not endpoint:
                formats.wear(running)
            self._metrics.in_flight.add(1)
            self._pipeline.start(running)
            return running
        if path in self._health.PATHS:
            if head.method not in ("GET", "HEAD"):
                _wrong_method(client, "GET, HEAD", path)
                return None
            status, answer = self._health.answer(path)
            client.respond(status, _JSON, answer)
            return None
        if len(body) > LARGEST:
            admin = self._snapshot.is_admin(head.headers.get(b"authorization"))
            largest = LARGEST_OF_ADMIN if admin else LARGEST
            if len(body) > largest:
                _refuse(client, BodyTooLarge(f"This path takes a body of at most {largest:,} bytes."), path)
                return None
        return self._passthrough.relay(client, head, body)

    def refusal_of_head(self, method: str, target: str, headers: Headers, peer: str) -> ApiError | None:
        """Why a body is not waited for, or None: only who shows a known key makes the router buffer anything."""
        authorization = headers.get(b"authorization")
        path = target.partition("?")[0]
        if path not in _ENDPOINTS and self._snapshot.is_admin(authorization):
            return None
        try:
            scope = key_of(headers, self._snapshot.tenants).scope
            if scope is not None:
                scope.check(path, peer)
        except ApiError as error:
            return error
        return None


class _Running(Exchange):
    """A request in the pipeline, as its connection sees it."""

    __slots__ = ("pipeline",)

    pipeline: Pipeline

    def abandon(self) -> None:
        self.pipeline.abandon(self)


def _wrong_method(client: ClientConnection, allowed: str, path: str) -> None:
    _refuse(client, MethodNotAllowed(f"This path takes {allowed}."), path, [("allow", allowed)])


def _refuse(client: ClientConnection, error: ApiError, path: str, headers: Sequence[tuple[str, str]] = ()) -> None:
    answer = formats.error_answer(error, path)
    client.respond(answer.status, answer.headers + header_lines(headers), answer.body)
