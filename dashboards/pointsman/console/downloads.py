"""Reports as files: passed on from the router as they come, with the key of whoever is logged in."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse, Response, StreamingResponse

from pointsman.console.admin_client import AdminClient, AdminError
from pointsman.console.gate import session_of

_REPORTS = {"costs": "costs", "usage": "usage"}
_PARAMS = ("by", "since", "until", "tenant", "key", "model", "mode", "pool")


def download_routes(client: AdminClient) -> APIRouter:
    """`/download/REPORT.csv`, with the parameters of the router's own report."""
    routes = APIRouter(include_in_schema=False)

    @routes.get("/download/{report}.csv")
    async def report(report: str, request: Request) -> Response:
        name = _REPORTS.get(report)
        if name is None:
            return PlainTextResponse("There is no such report.", 404)
        session = session_of(request.scope)
        path = f"/admin/v1/{name}" if session.who.is_admin else f"/v1/{name}"
        params = {key: request.query_params.get(key) for key in _PARAMS} | {"format": "csv"}
        stack = contextlib.AsyncExitStack()
        try:
            answer = await stack.enter_async_context(client.stream(session.key, "GET", path, params=params))
        except AdminError as error:
            return PlainTextResponse(error.message, error.status or 502)

        async def pieces() -> AsyncIterator[bytes]:
            async with stack:
                async for piece in answer.aiter_bytes():
                    yield piece

        return StreamingResponse(
            pieces(),
            media_type="text/csv; charset=utf-8",
            headers={
                "content-disposition": f'attachment; filename="pointsman-{name}.csv"',
                "cache-control": "no-store",
            },
        )

    return routes
