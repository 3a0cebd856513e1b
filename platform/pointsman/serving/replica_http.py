"""What a replica answers over HTTP: SGLang's own OpenAI layer, behind the instance's secret.

`POST /v1/chat/completions`, `/v1/completions` and `/tokenize` go to SGLang's handlers unchanged, so that the wire
format is SGLang's to the byte; around them the few routes that SGLang's server program has and its library has not.
Knows neither Ray nor the store.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from sglang.srt.entrypoints.openai.protocol import ChatCompletionRequest, CompletionRequest, TokenizeRequest
from starlette.types import ASGIApp, Receive, Scope, Send

from pointsman.contracts.names import Header

_OPEN_METHODS = ("GET", "HEAD")
"""Methods that need no secret: health, metrics and the model's name."""


def replica_app(
    *,
    secret: str,
    chat: Any,
    completion: Any,
    tokenize: Any,
    model: str,
    context: int,
    metrics: Callable[[], tuple[bytes, str]],
    healthy: Callable[[], bool],
) -> ASGIApp:
    """
    The replica's application.

    `chat`, `completion`, `tokenize`: SGLang's handlers; `model`: the name it is known by; `context`: its window in
    tokens; `metrics`: a page for Prometheus and its content type; `healthy`: whether the engine can answer now.
    """
    app = FastAPI(openapi_url=None)
    started = int(time.time())

    @app.post("/v1/chat/completions", response_model=None)
    async def chat_completions(request: ChatCompletionRequest, raw: Request) -> Any:
        return await chat.handle_request(request, raw)

    @app.post("/v1/completions", response_model=None)
    async def completions(request: CompletionRequest, raw: Request) -> Any:
        return await completion.handle_request(request, raw)

    @app.post("/tokenize", response_model=None)
    async def tokens(request: TokenizeRequest, raw: Request) -> Any:
        return await tokenize.handle_request(request, raw)

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        card = {
            "id": model,
            "object": "model",
            "created": started,
            "owned_by": "sglang",
            "root": model,
            "parent": None,
            "max_model_len": context,
        }
        return {"object": "list", "data": [card]}

    @app.get("/health")
    async def health() -> Response:
        return Response(status_code=200 if healthy() else 503)

    @app.get("/metrics")
    def metrics_page() -> Response:  # not async: it reads files, which must not hold up streams
        page, media_type = metrics()
        return Response(page, media_type=media_type)

    @app.exception_handler(RequestValidationError)
    async def refuse(_: Request, error: RequestValidationError) -> Response:
        # As SGLang answers, but without the client's own values, which its message repeats.
        faults = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()]
        return _refusal(HTTPStatus.BAD_REQUEST, "; ".join(faults))

    return _SecretRequired(app, secret)


class _SecretRequired:
    """Refuses requests that change or cost something and lack the secret, before their body is read."""

    def __init__(self, app: ASGIApp, secret: str) -> None:
        self._app = app
        self._secret = secret.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in _OPEN_METHODS or self._knows_the_secret(scope):
            await self._app(scope, receive, send)
            return
        refusal = _refusal(HTTPStatus.FORBIDDEN, "The replica's secret is missing or wrong.")
        refusal.headers["connection"] = "close"
        await refusal(scope, receive, send)

    def _knows_the_secret(self, scope: Scope) -> bool:
        name = Header.REPLICA_SECRET.encode()
        return any(key == name and hmac.compare_digest(value, self._secret) for key, value in scope["headers"])


def _refusal(status: HTTPStatus, message: str) -> Response:
    content = {"object": "error", "message": message, "type": status.phrase, "param": None, "code": status.value}
    return JSONResponse(content, status_code=status.value)
