"""One entry of the ledger: what a request used and cost, or what was put right later.

Stands in the contracts because the data plane writes it, the store keeps it, the API and the command line show it.
An entry is written once and never changed: who made a mistake writes a correction. Amounts are nano-dollars.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from pointsman.contracts.pricing import Cost, Usage


class Kind(StrEnum):
    """What an entry is of."""

    REQUEST = "request"
    """One request, however it ended."""
    CORRECTION = "correction"
    """What was put right by hand; `corrects` names the entry."""
    CHARGE = "charge"
    """What is billed apart from requests, such as the storage of a context cache."""


class Outcome(StrEnum):
    """How a request ended."""

    ANSWERED = "answered"
    """The last byte of the answer was written to the socket."""
    ABORTED = "aborted"
    """The client went away before that."""
    FAILED = "failed"
    """It ended with an error; what engines did until then is billed."""
    LOST = "lost"
    """The router died with it: nothing is known of what it used, and nothing is billed."""


class Part(NamedTuple):
    """The work of one pool in one mode on a request; an answer that was escalated has two."""

    pool: str
    mode: str
    usage: Usage
    cost: Cost
    price_version: int
    """Version of the price that held; 0 is the configuration's."""


class Entry(NamedTuple):
    """One entry. Times are milliseconds since 1970."""

    id: str
    """Unique for ever: a request's own id (`rid`), or that of a correction or a charge."""
    kind: Kind
    at: int
    """When the request came: the time whose price holds, and whose day and month its money counts in."""
    ended_at: int
    tenant: str
    key: str
    """The first eight hexadecimal digits of the digest of the key that was used; empty outside of requests."""
    request_id: str
    model: str
    mode: str
    """The mode of the answer in the end; empty where nothing was decided."""
    status: int
    """HTTP status; 499 stands for a client that went away."""
    outcome: Outcome
    stream: bool
    cache: str
    """`hit`, `miss`, `bypass`, or empty."""
    parts: tuple[Part, ...]
    total: int
    """What it costs; below 0 where a correction gives back."""
    router: str
    """The run of a router that wrote it; empty outside of requests."""
    number: int
    """Its number in the spool of `router`, from 0."""
    corrects: str = ""
    comment: str = ""
