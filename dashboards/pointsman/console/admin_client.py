"""Asking the router, each time with the key of whoever is logged in.

The one door to the platform: no other module of the console opens a connection to it. Errors hold the router's own
words, never a key; bodies are neither logged nor kept.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

TIMEOUT = 15.0
"""Seconds that the router has for an answer."""

CONNECTIONS = 200
"""Connections to the router at most: answers that are being watched in the playground hold one each."""

IDLE = 20
"""Connections that are kept for later at most."""

Params = Mapping[str, str | int | float | bool | None]


class AdminError(Exception):
    """
    Why the router did not do what was asked, in words for people.

    `status`: of HTTP; 0 where no router answered. `param`: the field that is wrong, where one is. `code`: the
    error's name.
    """

    def __init__(self, message: str, *, status: int = 0, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.param = param
        self.code = code


@dataclass(frozen=True, slots=True)
class Answer:
    """A good answer: its JSON (None where there is no body), its `ETag`, and all headers in lower case."""

    body: Any
    etag: str | None
    headers: Mapping[str, str]


class AdminClient:
    """One router. Use it within one event loop, and `close` it."""

    def __init__(self, url: str, certificate: Path | None = None) -> None:
        self.url = url.rstrip("/")
        self._http = httpx.AsyncClient(
            base_url=self.url,
            timeout=TIMEOUT,
            limits=httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=IDLE),
            verify=True if certificate is None else _pinned(certificate),
            trust_env=False,
            follow_redirects=False,
        )

    async def ask(
        self,
        key: str,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """What the router answers to the holder of `key`; parameters that are None are left out."""
        async with self.stream(key, method, path, params=params, json=json, headers=headers) as response:
            await response.aread()
        try:
            body = response.json() if response.content else None
        except ValueError:
            raise AdminError(f"What answers at {self.url} is no Pointsman router.", status=502) from None
        return Answer(body, response.headers.get("etag"), response.headers)

    @contextlib.asynccontextmanager
    async def stream(
        self,
        key: str,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
        silence: float | None = None,
    ) -> AsyncIterator[httpx.Response]:
        """
        As `ask`, for bodies that are read piece by piece while the context lasts: models' answers, reports.

        `silence`: seconds without a byte after which it is given up.
        """
        try:
            async with self._http.stream(
                method,
                path,
                params={name: value for name, value in (params or {}).items() if value is not None},
                json=json,
                headers={**(headers or {}), "authorization": f"Bearer {key}"},
                timeout=TIMEOUT if silence is None else httpx.Timeout(TIMEOUT, read=silence),
            ) as response:
                if not response.is_success:
                    await response.aread()
                    raise _refused(response)
                yield response
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise AdminError(f"The router does not answer ({type(error).__name__}).") from None

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()


def _refused(response: httpx.Response) -> AdminError:
    try:
        error = response.json()["error"]
        message = str(error["message"])
        param, code = error.get("param"), error.get("code")
    except (ValueError, KeyError, TypeError, AttributeError):
        return AdminError(f"The router answered HTTP {response.status_code}.", status=response.status_code)
    return AdminError(message, status=response.status_code, param=param, code=code)


def _pinned(certificate: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(certificate))
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # it may be the router's own, which signed no other
    return context
