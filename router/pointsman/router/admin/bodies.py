"""Bodies, tags and texts of the admin API, where FastAPI's own reading of them would not do.

Shared by the pages whose bodies are parts of the configuration: those are checked by its schema, so that an error
is told in the same words here and there. (No postponed annotations here either: see `policies.py`.)
"""

import re
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import orjson
from fastapi import Header, Request

from pointsman.contracts.config_problems import ConfigError
from pointsman.contracts.config_types import PLAIN_PATTERN
from pointsman.contracts.errors import BodyTooLarge, InvalidRequest

MAX_BYTES = 1024 * 1024
"""Bytes of a body at most; a policy of 200 rules, and a candidate of as many, is far below."""

MOST_TOLD = 10
"""Problems of a body that one error tells at most."""

PLAIN = PLAIN_PATTERN
"""Text that a database may be asked for, and that a terminal may show: PostgreSQL would stumble over a NUL."""

Tag = Annotated[
    str | None, Header(description="The ETag of what is there, where the change must be made of no other one.")
]

T = TypeVar("T")


async def read_body(request: Request, *, most: int = MAX_BYTES) -> bytes:
    """The body, of at most `most` bytes."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > most:
            raise BodyTooLarge(f"This path takes a body of at most {most:,} bytes.")
    return bytes(body)


def json_of(body: bytes) -> Any:
    """The JSON value in `body`; raises `InvalidRequest` where there is none."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        raise InvalidRequest("The body is not valid JSON.", code="invalid_json") from None


def named(value: Any, name: str | None) -> Any:
    """`value`, called `name` as the path says, where it has no name itself."""
    return {"name": name, **value} if name is not None and isinstance(value, dict) else value


def check_name(found: str, name: str | None) -> None:
    """Raises `InvalidRequest` where a body is `found` to have another name than the path."""
    if name not in (None, found):
        raise InvalidRequest("name: is another one than in the path.", param="name", code="invalid_value")


def checked(parse: Callable[[], T]) -> T:
    """What `parse` returns; where it raises `ConfigError`, an `InvalidRequest` that names the fields at fault."""
    try:
        return parse()
    except ConfigError as error:
        told = "; ".join(str(problem) for problem in error.problems[:MOST_TOLD])
        more = "; and more" if len(error.problems) > MOST_TOLD else ""
        raise InvalidRequest(f"{told}{more}.", param=error.problems[0].path or None, code="invalid_value") from None


def expected_version(tag: str | None) -> int | None:
    """The version that the header `If-Match` names; None where there is none."""
    if tag is None:
        return None
    match = re.fullmatch(r'"?(\d{1,9})"?', tag.strip())
    if match is None:
        raise InvalidRequest("If-Match takes the ETag of what is there.", param="if-match", code="invalid_value")
    return int(match[1])
