"""The FastAPI application: models, policies, metrics and the documentation page.

A process of its own, so that no page and no scrape can stall a stream. Only the data plane talks to it, through
the Unix socket; it names the caller's address in `x-pointsman-peer`.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi_offline import FastAPIOffline
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from redis import Redis
from starlette.exceptions import HTTPException

from pointsman.contracts.config import Config, MetricsAccess
from pointsman.contracts.errors import (
    ApiError,
    InternalError,
    InvalidRequest,
    MethodNotAllowed,
    ModelNotFound,
    PathNotFound,
    Unauthenticated,
)
from pointsman.contracts.names import Header as Name
from pointsman.router.admin.access import Access, Caller
from pointsman.router.admin.audit import audit_routes
from pointsman.router.admin.bookings import Bookings
from pointsman.router.admin.cache import cache_routes
from pointsman.router.admin.counters import AdminCounters
from pointsman.router.admin.decisions import decision_routes
from pointsman.router.admin.entries import entry_routes
from pointsman.router.admin.keys import key_routes
from pointsman.router.admin.live import PoolStates, live_routes
from pointsman.router.admin.live_keys import LiveKeys
from pointsman.router.admin.live_policies import LivePolicies
from pointsman.router.admin.live_pools import LivePools
from pointsman.router.admin.live_predictors import LivePredictors
from pointsman.router.admin.live_prices import LivePrices
from pointsman.router.admin.live_tenants import LiveTenants
from pointsman.router.admin.policies import policy_routes
from pointsman.router.admin.pools import pool_routes
from pointsman.router.admin.predictors import predictor_routes
from pointsman.router.admin.prices import price_routes
from pointsman.router.admin.reference import data_plane_paths
from pointsman.router.admin.simulate import simulate_routes
from pointsman.router.admin.tenants import tenant_routes
from pointsman.router.admin.usage import usage_routes
from pointsman.router.admin.whoami import whoami_routes
from pointsman.router.metrics_page import metrics_page
from pointsman.router.stages import StageKeeper
from pointsman.router.wire import openai
from pointsman.store.audit import AuditLog
from pointsman.store.decisions import DecisionStore
from pointsman.store.ledger import LedgerStore
from pointsman.store.response_cache import AnswerStore
from pointsman.store.usage import UsageStore


@dataclass(frozen=True, slots=True)
class Parts:
    """What pages show and change, beside the configuration."""

    access: Access
    audit: AuditLog
    tenants: LiveTenants
    keys: LiveKeys
    pools: LivePools
    policies: LivePolicies
    predictors: LivePredictors
    keeper: StageKeeper
    counters: AdminCounters
    decisions: DecisionStore
    prices: LivePrices
    redis: Redis
    answers: AnswerStore
    usage: UsageStore
    entries: LedgerStore
    bookings: Bookings


def build_app(config: Config, metrics_dir: Path, parts: Parts, *, version: str) -> FastAPI:
    """
    The application for `config`; `metrics_dir` is where the data plane writes its counters.

    Every error has the form of OpenAI's.
    """
    access = parts.access
    asking: Any = Depends(access.caller)
    metrics_dir.mkdir(parents=True, exist_ok=True)
    app = FastAPIOffline(
        title="Pointsman",
        version=version,
        description="Mode-aware serving: one OpenAI-compatible endpoint, two tracks.",
        redoc_url=None,
        redirect_slashes=False,  # they would lead to the host `admin`
        dependencies=[Depends(_no_nul)],
    )

    app.include_router(whoami_routes(access))
    app.include_router(tenant_routes(access, parts.tenants))
    app.include_router(key_routes(access, parts.keys))
    app.include_router(audit_routes(access, parts.audit))
    app.include_router(policy_routes(access, parts.policies, parts.keeper, parts.predictors))
    app.include_router(predictor_routes(access, parts.predictors))
    app.include_router(decision_routes(access, parts.decisions, parts.policies, parts.audit, parts.counters))
    app.include_router(price_routes(access, parts.prices))
    app.include_router(simulate_routes(access, parts.decisions, parts.policies))
    states = PoolStates(parts.pools, parts.redis)
    app.include_router(live_routes(access, states, parts.redis))
    app.include_router(pool_routes(access, parts.pools, states))
    app.include_router(cache_routes(access, parts.answers, parts.audit, parts.tenants))
    app.include_router(usage_routes(access, parts.usage, parts.policies))
    app.include_router(entry_routes(access, parts.entries, parts.bookings))

    @app.get("/v1/models", tags=["models"], summary="List the models this key may use")
    def models(caller: Caller = asking) -> dict[str, Any]:
        names = sorted(caller.tenant.models)
        ends = {"first_id": names[0], "last_id": names[-1]} if names else {"first_id": None, "last_id": None}
        return {"object": "list", "data": [_model(name) for name in names], "has_more": False, **ends}

    @app.get("/v1/models/{model}", tags=["models"], summary="One model")
    def model(model: str, caller: Caller = asking) -> dict[str, Any]:
        if model not in caller.tenant.models:
            raise ModelNotFound("The model does not exist, or this key may not use it.", param="model")
        return _model(model)

    @app.get("/metrics", tags=["operations"], summary="Counters, in Prometheus' text format")
    def metrics(request: Request) -> Response:
        if not _may_read_metrics(request):
            raise Unauthenticated("Reading metrics needs the admin key: 'Authorization: Bearer KEY'.")
        return Response(metrics_page(metrics_dir), media_type=CONTENT_TYPE_LATEST)

    def _may_read_metrics(request: Request) -> bool:
        readers = config.router.metrics_access
        peer = request.headers.get(Name.PEER, "")
        if readers is MetricsAccess.OPEN or (readers is MetricsAccess.LOOPBACK and _is_loopback(peer)):
            return True
        return access.is_admin(request)

    @app.exception_handler(ApiError)
    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, ApiError)
        return _answer(error)

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code == 405:
            return _answer(MethodNotAllowed("This path does not take that method."), error.headers)
        if error.status_code == 404:
            return _answer(PathNotFound("There is nothing at this path."))
        return _answer(InvalidRequest("The request is not valid."))

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return _answer(_first_problem(error))

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        return _answer(InternalError("Pointsman failed to handle this request."))

    generated = app.openapi

    def openapi() -> dict[str, Any]:
        schema = generated()
        schema["paths"].update(data_plane_paths())
        schema.setdefault("components", {})["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        schema["security"] = [{"key": []}]
        return schema

    app.openapi = openapi  # type: ignore[method-assign] # FastAPI's documented way to extend the schema
    return app


async def _no_nul(request: Request) -> None:
    """Raises `InvalidRequest` where path or query hold a NUL, which PostgreSQL would fail at."""
    held = [name for name, value in request.query_params.multi_items() if "\0" in name + value]
    if held or "\0" in request.scope["path"]:
        raise InvalidRequest(
            "Neither path nor query may hold a NUL.", param=next(iter(held), None), code="invalid_value"
        )


def _model(name: str) -> dict[str, Any]:
    """A model as OpenAI's clients read it, and as Anthropic's do; when it was made is not known."""
    openais = {"id": name, "object": "model", "created": 0, "owned_by": "pointsman"}
    return {**openais, "type": "model", "display_name": name, "created_at": "1970-01-01T00:00:00Z"}


def _first_problem(error: RequestValidationError) -> InvalidRequest:
    """What is wrong with a query or a body, by its field; never with the value that was sent."""
    problem = error.errors()[0]
    field = ".".join(map(str, problem["loc"][1:]))  # its first step says where it came from: query or body
    if problem["type"] == "json_invalid":
        return InvalidRequest("The body is not valid JSON.", code="invalid_json")
    return InvalidRequest(f"'{field or 'body'}': {problem['msg']}.", param=field or None, code="invalid_value")


def _answer(error: ApiError, headers: Any = None) -> Response:
    return Response(
        openai.error_body(error), error.status, {**dict(openai.error_headers(error)), **(headers or {})}
    )


def _is_loopback(peer: str) -> bool:
    try:
        return ipaddress.ip_address(peer).is_loopback
    except ValueError:
        return False
