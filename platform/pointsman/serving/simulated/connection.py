"""The connection below HTTP, for the faults that HTTP has no words for.

uvicorn hands an ASGI app no transport. This protocol puts it into the scope, so that a fault can drop the
connection or write bytes that are no HTTP; it changes nothing else.
"""

from __future__ import annotations

import asyncio

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_EXTENSION = "pointsman.transport"


class OpenProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol, with its transport in `scope["extensions"]`."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {_EXTENSION: {"transport": self.transport}}


def transport_of(scope: Scope) -> asyncio.Transport:
    """The transport that `scope` came in on. Raises KeyError under any other server than ours."""
    transport: asyncio.Transport = scope["extensions"][_EXTENSION]["transport"]
    return transport
