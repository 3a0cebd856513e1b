"""`/healthz` and `/metrics` of the operator, also while it waits for its turn."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest


async def serve(host: str, port: int, *, state: Callable[[], str], registry: CollectorRegistry) -> web.AppRunner:
    """
    Answer on `host` and `port` until the runner is cleaned up. `state`: one word, `leading` or `waiting`.

    An answer at all says that the event loop goes round: what works is not judged, since a restart would mend
    neither the API server nor the router.
    """

    async def healthz(_: web.Request) -> web.Response:
        return web.json_response({"status": "ok", "state": state()})

    async def metrics(_: web.Request) -> web.Response:
        page = generate_latest(registry)
        return web.Response(body=page, headers={"content-type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/metrics", metrics)])
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, host, port).start()
    return runner
