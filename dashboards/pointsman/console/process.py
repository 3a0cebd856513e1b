"""The console's process: uvicorn with the application, at a lower priority than whatever serves requests."""

from __future__ import annotations

import logging
import os

import uvicorn
from redis.asyncio import Redis

from pointsman.console.admin_client import AdminClient
from pointsman.console.app import build_app
from pointsman.console.pages import ALL
from pointsman.console.settings import Settings

NICENESS = 10
"""How far pages stand behind the data plane where both want the same core."""

REDIS_TIMEOUT = 2.0
"""Seconds that Redis has for an answer."""


def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT."""
    os.nice(NICENESS)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # which tells every question
    for name in ("nicegui", "uvicorn.error"):
        logging.getLogger(name).addFilter(_without_messages)
    redis = Redis.from_url(settings.redis_url, socket_timeout=REDIS_TIMEOUT, socket_connect_timeout=REDIS_TIMEOUT)
    client = AdminClient(settings.router_url, settings.router_certificate)
    uvicorn.run(
        build_app(client, redis, ALL),
        host=settings.host,
        port=settings.port,
        log_level="warning",
        access_log=False,
        server_header=False,
        forwarded_allow_ips="*",  # of which the scheme alone is used, for the cookie: nobody gains by a lie
        timeout_graceful_shutdown=3,
        ws_max_size=1024 * 1024,
    )


def _without_messages(record: logging.LogRecord) -> bool:
    """Let a failure be told by its kind and its place alone: its text may quote what a page showed."""
    if record.exc_info and record.exc_info[1] is not None:
        error = record.exc_info[1]
        place = error.__traceback__
        while place is not None and place.tb_next is not None:
            place = place.tb_next
        where = "" if place is None else f" at {place.tb_frame.f_code.co_filename}:{place.tb_lineno}"
        record.msg, record.args = "%s%s", (type(error).__name__, where)
        record.exc_info = record.exc_text = None
    return True
