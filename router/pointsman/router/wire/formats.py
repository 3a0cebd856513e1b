"""Which wire format is spoken at which path, and what is said there before there is an exchange.

Stands above the formats, and below the protocol and the table of paths, which know none of them by name.
"""

from __future__ import annotations

from collections.abc import Collection

from pointsman.contracts.errors import ApiError
from pointsman.router.exchange import Answer, Endpoint, Exchange
from pointsman.router.wire import anthropic_request, openai, openai_request, responses_request
from pointsman.router.wire.anthropic_face import AnthropicFace, CountingFace
from pointsman.router.wire.face import Face
from pointsman.router.wire.responses_face import ResponsesFace

FACES: dict[Endpoint, type[Face]] = {
    Endpoint.MESSAGES: AnthropicFace,
    Endpoint.COUNT_TOKENS: CountingFace,
    Endpoint.RESPONSES: ResponsesFace,
}
"""The faces of the formats that no engine speaks."""

FIELDS: dict[Endpoint, Collection[str]] = {
    **openai_request.FIELDS,
    Endpoint.MESSAGES: anthropic_request.FIELDS,
    Endpoint.COUNT_TOKENS: anthropic_request.COUNTED_FIELDS,
    Endpoint.RESPONSES: responses_request.FIELDS,
}
"""The fields that a request may have."""

_BY_PATH = {endpoint.value: face for endpoint, face in FACES.items()}


def wear(exchange: Exchange) -> None:
    """Give `exchange`, whose endpoint is one of `FACES`, its face."""
    exchange.client = exchange.face = FACES[exchange.endpoint](exchange.client)


def error_answer(error: ApiError, target: str) -> Answer:
    """`error` as a whole answer to a request for `target`, which may be anything."""
    face = _BY_PATH.get(target.partition("?")[0])
    return openai.error_answer(error) if face is None else face.error_answer(error)
