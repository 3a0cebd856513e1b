"""The admin API, of which the operator is a client like any other.

Beside `cluster.py`, the other side of everything the operator does. An answer may hold a key, once: bodies are
never logged and never part of an error; an error tells what the router says, which names fields and quotes neither
prompts nor keys.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

import aiohttp
import orjson

MANAGER = "kubernetes"
"""What the operator calls itself at the admin API."""

TIMEOUT = 30.0
"""Seconds that one answer may take."""

PAGE = 1000
"""Entries read at a time."""

_CONNECTIONS = 32


class AdminAnswer(NamedTuple):
    """What the admin API said. `version`: the number in its `ETag`, None where there is none."""

    status: int
    version: int | None
    body: Any


class AdminError(Exception):
    """What the admin API did not do."""


class AdminUnavailable(AdminError):
    """It is not there, can't work for now, or takes no orders from the operator's key: the same again, later."""


class AdminRefused(AdminError):
    """It refused this request. `status` is HTTP's; `param` is the field at fault, where there is one."""

    def __init__(self, status: int, code: str, param: str | None, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param


class AdminNotFound(AdminRefused):
    """There is no such thing, or no longer."""


class AdminStale(AdminRefused):
    """It is another version by now than the request named: look again."""


class ManagedElsewhere(AdminRefused):
    """Somebody else looks after it."""


class AdminApi:
    """
    The admin API below one router's address. Every method raises `AdminError`.

    `url`: as in `http://pointsman-admin:8080`; `key`: an owner's admin key. Use inside one event loop.
    """

    def __init__(self, url: str, key: str) -> None:
        self._url = url.rstrip("/")
        self._headers = {"authorization": f"Bearer {key}"}
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    async def ask(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        params: Mapping[str, str | int | bool | None] | None = None,
        if_match: int | None = None,
    ) -> AdminAnswer:
        """One request to `path` below `/admin/v1`. `if_match`: the version that a change is made of."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=_CONNECTIONS),
                timeout=aiohttp.ClientTimeout(total=TIMEOUT),
                headers=self._headers,
            )
        headers = {} if if_match is None else {"if-match": f'"{if_match}"'}
        data = None
        if json is not None:
            headers["content-type"] = "application/json"
            data = orjson.dumps(json)
        told = {name: _text(value) for name, value in (params or {}).items() if value is not None}
        try:
            async with self._session.request(
                method, f"{self._url}/admin/v1{path}", data=data, params=told, headers=headers
            ) as response:
                body = await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise AdminUnavailable(f"no router answers ({type(error).__name__})") from None
        if response.status >= 400:
            raise _error(response.status, body)
        tag = response.headers.get("etag", "").strip('"')
        version = int(tag) if tag.isdecimal() else None
        try:
            return AdminAnswer(response.status, version, orjson.loads(body) if body else None)
        except orjson.JSONDecodeError:
            raise AdminUnavailable("what answers is no Pointsman router") from None

    async def pages(
        self, path: str, params: Mapping[str, str | int | bool | None] | None = None
    ) -> AsyncIterator[list[dict[str, Any]]]:
        """All entries of a list, page by page."""
        after: str | None = None
        while True:
            answer = await self.ask("GET", path, params={**(params or {}), "limit": PAGE, "after": after})
            yield answer.body["data"]
            after = answer.body.get("after")
            if after is None:
                return


def below(path: str, name: str, *rest: str) -> str:
    """The path of the thing called `name` below `path`, and what `rest` names below that."""
    return "/".join((path, quote(name, safe=""), *rest))


def _text(value: str | int | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _error(status: int, body: bytes) -> AdminError:
    try:
        told = orjson.loads(body)["error"]
        code, message, param = str(told.get("code")), str(told.get("message")), told.get("param")
    except (ValueError, KeyError, TypeError, AttributeError):
        return AdminUnavailable(f"what answers is no Pointsman router (HTTP {status})")
    if status in (401, 403) or status == 429 or status >= 500:
        return AdminUnavailable(f"{message} ({code})")
    kinds = {404: AdminNotFound, 412: AdminStale, 428: AdminStale}
    kind = ManagedElsewhere if code == "managed_elsewhere" else kinds.get(status, AdminRefused)
    return kind(status, code, param if isinstance(param, str) else None, message)
