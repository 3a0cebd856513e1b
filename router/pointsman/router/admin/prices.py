"""The admin API of prices: read what holds and what will, let another price hold from some moment on, end one.

HTTP and nothing else: what a change does is `live_prices.py`. Bodies are checked by the schema of the configuration
file, so that an error is told in the same words here and there.

(FastAPI reads the annotations of functions inside a function, which use its names: hence they are no strings here.)
"""

import re
from datetime import UTC, datetime
from itertools import islice
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import AwareDatetime, BaseModel, Field, ValidationError

from pointsman.contracts.config_pools import Prices
from pointsman.contracts.config_problems import ConfigError, Problem, explain
from pointsman.contracts.errors import InvalidRequest
from pointsman.contracts.keys import Role
from pointsman.contracts.price_book import PriceDocument
from pointsman.contracts.pricing import PriceList
from pointsman.router.admin.access import Access, Actor
from pointsman.router.admin.bodies import MOST_TOLD, PLAIN, checked, json_of, read_body
from pointsman.router.admin.live_prices import LivePrices, PoolPrices
from pointsman.store.price_projection import PriceVersion

MAX_COMMENT = 500
"""Characters of a comment at most."""

Tag = Annotated[str | None, Header(description="The ETag of the pool's prices, where they must not have changed.")]
Comment = Annotated[str, Query(max_length=MAX_COMMENT, description="Why; kept with the version.", pattern=PLAIN)]


class Listed(BaseModel):
    """US dollars per 1M tokens, with every default filled in; of context caches: null where there is no price."""

    input: str
    cached_input: str
    output: str
    reasoning: str
    cache_creation: str | None = None
    cache_storage: str | None = Field(None, description="Per 1M tokens per minute.")
    cache_call: str | None = Field(None, description="Each.")
    currency: str = "USD"


class VersionAnswer(BaseModel):
    """One version. A bill names it where it was made by it."""

    version: int
    effective_from: datetime
    effective_until: datetime | None = Field(description="null: until the next one begins.")
    withdrawn: bool = Field(description="Whether it was taken back before it began.")
    prices: Prices
    created_at: datetime
    created_by: str
    comment: str
    ended_by: str | None = Field(description="Who set its end afterwards.")


class PoolAnswer(BaseModel):
    """The prices of a pool."""

    pool: str
    same_as: list[str] = Field(description="Pools that answer the same model and mode: their prices are the same.")
    version: int = Field(description="Of what holds now; 0: the configuration's.")
    prices: Listed = Field(description="What holds now.")
    live: bool = Field(description="Whether it is where routers read it; if not, it will be when Redis is back.")
    versions: list[VersionAnswer] = Field(description="All that were ever set, oldest first.")


class PoolList(BaseModel):
    """The prices of all pools."""

    data: list[PoolAnswer]


def price_routes(access: Access, prices: LivePrices) -> APIRouter:
    """The paths under `/admin/v1/prices`. Every error has the form of OpenAI's."""
    routes = APIRouter(
        prefix="/admin/v1/prices",
        tags=["prices"],
        responses={"default": {"description": "An error in OpenAI's form."}},
    )
    Reader = Annotated[Actor, Depends(access.needs(Role.VIEWER))]
    Owner = Annotated[Actor, Depends(access.needs(Role.OWNER))]

    def answer(response: Response, present: PoolPrices) -> PoolAnswer:
        response.headers["etag"] = f'"{present.tag}"'
        return _answer(present)

    @routes.get("", response_model_exclude_unset=True, summary="The prices of all pools")
    def every(by: Reader) -> PoolList:
        return PoolList(data=[_answer(present) for present in prices.every()])

    @routes.get(
        "/{pool}", response_model_exclude_unset=True, summary="The prices of a pool, past and future ones too"
    )
    def one(pool: str, by: Reader, response: Response) -> PoolAnswer:
        return answer(response, prices.one(pool))

    @routes.post(
        "",
        response_model_exclude_unset=True,
        status_code=201,
        summary="Let another price hold from some moment on",
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": PriceDocument.model_json_schema()}},
            }
        },
    )
    async def add(
        by: Owner, request: Request, response: Response, if_match: Tag = None, comment: Comment = ""
    ) -> PoolAnswer:
        document = await run_in_threadpool(_document, await read_body(request))
        present = await run_in_threadpool(
            prices.set, document, by=by.name, comment=comment, expected=_expected(if_match)
        )
        return answer(response, present)

    @routes.delete(
        "/{pool}/{version}",
        response_model_exclude_unset=True,
        summary="End a price; one that has not begun is taken back",
    )
    def end(
        pool: str,
        version: int,
        by: Owner,
        response: Response,
        at: Annotated[AwareDatetime | None, Query(description="When. Default: as soon as may be.")] = None,
        if_match: Tag = None,
    ) -> PoolAnswer:
        return answer(response, prices.end(pool, version, at=at, by=by.name, expected=_expected(if_match)))

    return routes


def _document(body: bytes) -> PriceDocument:
    """The price in `body`; raises `InvalidRequest` that names the fields at fault."""
    value = json_of(body)

    def parsed() -> PriceDocument:
        try:
            return PriceDocument.model_validate(value)
        except ValidationError as error:
            found = islice(explain(error, of=PriceDocument), MOST_TOLD + 1)
            raise ConfigError("price", [Problem.at(location, said) for location, said in found]) from None

    return checked(parsed)


def _expected(tag: str | None) -> str | None:
    if tag is None:
        return None
    match = re.fullmatch(r'"?([0-9a-f]{16})"?', tag.strip())
    if match is None:
        raise InvalidRequest("If-Match takes the ETag of the prices.", param="if-match", code="invalid_value")
    return match[1]


def _answer(present: PoolPrices) -> PoolAnswer:
    return PoolAnswer(
        pool=present.pool,
        same_as=[pool for pool in present.twins if pool != present.pool],
        version=present.now.version,
        prices=_listed(present.now.prices),
        live=present.live,
        versions=[_version(version) for version in present.versions],
    )


def _listed(prices: PriceList) -> Listed:
    extra: dict[str, Any] = {
        name: f"{price:f}"
        for name in ("cache_creation", "cache_storage", "cache_call")
        if (price := getattr(prices, name)) is not None
    }
    return Listed(
        input=f"{prices.input:f}",
        cached_input=f"{prices.cached_input:f}",
        output=f"{prices.answer:f}",
        reasoning=f"{prices.reasoning:f}",
        currency="USD",
        **extra,
    )


def _version(version: PriceVersion) -> VersionAnswer:
    period = version.period
    return VersionAnswer(
        version=period.version,
        effective_from=_moment(period.since),
        effective_until=None if period.until is None else _moment(period.until),
        withdrawn=period.empty,
        prices=period.prices,
        created_at=_moment(version.created_at),
        created_by=version.created_by,
        comment=version.comment,
        ended_by=version.ended_by,
    )


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
