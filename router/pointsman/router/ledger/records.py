"""How entries are written down between the request's end and the database: JSON arrays, without any names.

Stands apart because two processes share it: the data plane writes, the ledger writer reads. Field by field and not
generically, because the data plane does it within a request's own time.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from orjson import dumps, loads

from pointsman.contracts.ledger import Entry, Kind, Outcome, Part
from pointsman.contracts.modes import Mode
from pointsman.contracts.pricing import Cost, Usage

_USED = len(("input", "cached_input", "reasoning", "answer", "estimated"))
_BILLED = len(("input", "cached_input", "reasoning", "answer"))
"""The first fields of `Usage` and of `Cost`: those that a request can have."""

MOST_BYTES = 4096
"""Bytes that one record has at most: names have limits, and a request has few parts."""


class UnreadableRecord(Exception):
    """A record that another release wrote, or that is damaged. Holds nothing of what it says."""


def intent(
    identity: str,
    at: int,
    tenant: str,
    key: str,
    request_id: str,
    model: str,
    mode: str,
    stream: bool,
    reserved: int,
) -> bytes:
    """What is known of a request before it is sent to an engine; `reserved`: nano-dollars that it costs at most."""
    return dumps((identity, at, tenant, key, request_id, model, mode, stream, reserved))


def settlement(
    intended: bytes, ended_at: int, mode: str, status: int, outcome: str, cache: str, parts: Iterable[Part]
) -> bytes:
    """
    The entry of the request that was `intended`. Its run and its number follow from where it lies, its total from
    its parts.
    """
    written = []
    for pool, by, usage, cost, version in parts:  # a comprehension is a call
        written.append((pool, by._value_ if type(by) is Mode else by, usage[:_USED], cost[:_BILLED], version))
    return b"[%b,%b" % (intended, dumps((ended_at, mode, status, outcome, cache, written))[1:])


def lost(intended: bytes) -> bytes:
    """
    The entry of a request whose router died with it, from its `intent`: no use, no cost.

    Raises `UnreadableRecord`.
    """
    try:
        _, at, _, _, _, _, mode, _, _ = loads(intended)
    except ValueError:  # orjson's errors are
        raise UnreadableRecord from None
    return settlement(intended, at, mode, 502, Outcome.LOST.value, "", ())


def intended_id(record: bytes) -> str:
    """The id that an intent is of. Raises `UnreadableRecord`."""
    try:
        return str(loads(record)[0])
    except (ValueError, LookupError, TypeError):
        raise UnreadableRecord from None


def settled_id(record: bytes) -> str:
    """The id that a settlement is of. Raises `UnreadableRecord`."""
    try:
        return str(loads(record)[0][0])
    except (ValueError, LookupError, TypeError):
        raise UnreadableRecord from None


def entry_of(plain: Any, *, router: str, number: int) -> Entry:
    """The entry that `settlement` wrote as `plain`. Raises `UnreadableRecord`."""
    try:
        intended, ended_at, mode, status, outcome, cache, written = plain
        identity, at, tenant, key, request_id, model, _, stream, _ = intended
        parts = tuple([_part(*part) for part in written])
        return Entry(
            identity,
            Kind.REQUEST,
            at,
            ended_at,
            tenant,
            key,
            request_id,
            model,
            mode,
            status,
            Outcome(outcome),
            stream,
            cache,
            parts,
            sum([part.cost.total for part in parts]),
            router,
            number,
        )
    except (ValueError, TypeError, KeyError):
        raise UnreadableRecord from None


def _part(pool: str, mode: str, usage: list[Any], cost: list[int], version: int) -> Part:
    fresh, cached, reasoning, answer, estimated = usage
    used = Usage(input=fresh, cached_input=cached, reasoning=reasoning, answer=answer, estimated=estimated)
    fresh, cached, reasoning, answer = cost
    billed = Cost(input=fresh, cached_input=cached, reasoning=reasoning, answer=answer)
    return Part(pool, mode, used, billed, version)
