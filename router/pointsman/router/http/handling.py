"""What a connection and the application behind it are to each other: the two interfaces between them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from pointsman.contracts.errors import ApiError
from pointsman.router.exchange import Headers
from pointsman.router.http.heads import Head

if TYPE_CHECKING:
    from pointsman.router.http.server import ClientConnection


class Handling(Protocol):
    """What the application holds for a request that it is answering."""

    def abandon(self) -> None:
        """The client has gone."""

    def pause(self) -> None:
        """The client reads too slowly: hold back."""

    def resume(self) -> None:
        """The client has caught up."""


class Application(Protocol):
    """Answers requests."""

    def __call__(self, client: ClientConnection, head: Head, body: bytes) -> Handling | None:
        """Answer through `client`, now (None) or later (what to tell about the client's fate)."""

    def refusal_of_head(self, method: str, target: str, headers: Headers, peer: str) -> ApiError | None:
        """Why a request with this head is refused whatever its body is, or None. Asked before a body is awaited."""
