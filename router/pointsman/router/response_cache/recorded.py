"""One recorded answer: what is kept of it, how it is written to Redis, and how it is told from a forgery.

Redis is shared, and whoever can write there must not be able to put words into a model's mouth, or give one tenant
the answer of another: what is written carries a keyed hash over the answer and the very key it belongs to, and
nothing of an entry is looked at, or unpacked, before that is found right.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from enum import Enum
from typing import Any

import orjson
import zstandard

from pointsman.contracts.ledger import Part
from pointsman.contracts.modes import Mode
from pointsman.contracts.policies import Trigger
from pointsman.contracts.pricing import Cost, Usage
from pointsman.store.response_cache import LARGEST, AnswerKey

LARGEST_BODY = 2 * 1024 * 1024
"""Bytes of an answer at most, or of a stream's events together: a longer one is not kept."""

_MAGIC = b"A1"
_PLAIN, _PACKED = b"\0", b"\1"
_MAC = 16
_START = len(_MAGIC) + _MAC
_WORTH_PACKING = 512
_LARGEST_HEAD = 64 * 1024
_LEVEL = 1


class Wrong(Enum):
    """Why an entry in Redis is ignored."""

    FORGED = "forged"
    """It was not written by a router of this instance, or for another key."""
    UNREADABLE = "unreadable"
    """A router of another version wrote it."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """
    An answer as it was given once. Times are seconds since 1970.

    `body` is a whole answer's JSON, or the events of a stream without its end, which is made anew for each client.
    `rid` is that of the request it was made for; `fingerprint` what that was told apart by, where the key alone
    does not say which request it was.
    """

    body: bytes
    stream: bool
    rid: str
    mode: Mode
    pool: str
    parts: tuple[Part, ...]
    made_at: float
    expires_at: float
    usage_chunk: dict[str, Any] | None = None
    escalated: Trigger | None = None
    floored: bool = False
    stopped: str = ""
    judgement: Mode | None = None
    allowance: int | None = None
    clamped: dict[str, int] | None = None
    fingerprint: str = ""

    @property
    def usage(self) -> Usage:
        """The tokens of all the work on it."""
        used = [part.usage for part in self.parts]
        if len(used) == 1:
            return used[0]
        return Usage(
            sum(part.input for part in used),
            sum(part.cached_input for part in used),
            sum(part.reasoning for part in used),
            sum(part.answer for part in used),
            any(part.estimated for part in used),
        )


class Seal:
    """Writes and reads entries; `secret` is known to the routers of one instance and to nobody else."""

    def __init__(self, secret: str) -> None:
        self._key = hashlib.blake2b(secret.encode(), person=b"pm-answers").digest()
        self._unpacker = zstandard.ZstdDecompressor()

    def fingerprint(self, data: bytes) -> str:
        """A hash of `data` that nobody without the secret can try guesses on, in hexadecimal."""
        return hashlib.blake2b(data, key=self._key, digest_size=16, person=b"pm-fingerprint").hexdigest()

    def closed(self, key: AnswerKey, recorded: Recorded) -> bytes | None:
        """The entry of `recorded` under `key`; None where it is too large, or nested too deeply."""
        try:
            data = _head(recorded) + b"\n" + recorded.body
        except orjson.JSONEncodeError:  # orjson reads four times as deep as it writes
            return None
        flag = _PLAIN
        if len(data) > _WORTH_PACKING:
            flag, data = _PACKED, zstandard.ZstdCompressor(level=_LEVEL).compress(data)
        data = flag + data
        entry = _MAGIC + self._mac(key, data) + data
        return entry if len(entry) <= LARGEST else None

    def opened(self, key: AnswerKey, entry: bytes) -> Recorded | Wrong:
        """What was recorded under `key`, or why `entry` is no such thing."""
        if len(entry) > LARGEST or not entry.startswith(_MAGIC):
            return Wrong.FORGED
        data = entry[_START:]
        if not hmac.compare_digest(entry[len(_MAGIC) : _START], self._mac(key, data)):
            return Wrong.FORGED
        try:
            whole = data[1:]
            if data[:1] == _PACKED:
                if not 0 <= zstandard.frame_content_size(whole) <= LARGEST_BODY + _LARGEST_HEAD:
                    return Wrong.UNREADABLE
                whole = self._unpacker.decompress(whole)
            head, _, body = whole.partition(b"\n")
            return _recorded(orjson.loads(head), body)
        except (zstandard.ZstdError, ValueError, TypeError, KeyError):
            return Wrong.UNREADABLE

    def _mac(self, key: AnswerKey, data: bytes) -> bytes:
        told = hashlib.blake2b(key=self._key, digest_size=_MAC, person=b"pm-entry")
        told.update(key.member.encode() + b"\n")
        told.update(data)
        return told.digest()


def _head(recorded: Recorded) -> bytes:
    return orjson.dumps(
        {
            "stream": recorded.stream,
            "rid": recorded.rid,
            "mode": recorded.mode,
            "pool": recorded.pool,
            "parts": [
                [part.pool, part.mode, part.usage._asdict(), part.cost._asdict(), part.price_version]
                for part in recorded.parts
            ],
            "made_at": recorded.made_at,
            "expires_at": recorded.expires_at,
            "usage_chunk": recorded.usage_chunk,
            "escalated": recorded.escalated,
            "floored": recorded.floored,
            "stopped": recorded.stopped,
            "judgement": recorded.judgement,
            "allowance": recorded.allowance,
            "clamped": recorded.clamped,
            "fingerprint": recorded.fingerprint,
        }
    )


def _recorded(head: dict[str, Any], body: bytes) -> Recorded:
    escalated, judgement = head["escalated"], head["judgement"]
    return Recorded(
        body=body,
        stream=head["stream"],
        rid=head["rid"],
        mode=Mode(head["mode"]),
        pool=head["pool"],
        parts=tuple(
            Part(pool, mode, Usage(**usage), Cost(**cost), version)
            for pool, mode, usage, cost, version in head["parts"]
        ),
        made_at=head["made_at"],
        expires_at=head["expires_at"],
        usage_chunk=head["usage_chunk"],
        escalated=None if escalated is None else Trigger(escalated),
        floored=head["floored"],
        stopped=head["stopped"],
        judgement=None if judgement is None else Mode(judgement),
        allowance=head["allowance"],
        clamped=head["clamped"],
        fingerprint=head["fingerprint"],
    )
