"""What the engine received: a test aid, so that a test can say what was forwarded, and that nothing was.

Holds request bodies in memory, prompts included, and is therefore off unless `keep_requests` says otherwise;
the count of requests is always there. Header values are never kept, only names.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

import orjson

from pointsman.serving.simulated.faults import Fault


@dataclass(slots=True)
class Record:
    """
    One request. `outcome` is `running`, then `answered`, `refused` (an error told in order), `faulted`, or
    `aborted` (the client left, or the engine was stopped).
    """

    number: int
    path: str
    headers: list[str]
    body: Any
    fault: str | None
    outcome: str = "running"


class Records:
    """The last `keep` requests that carried the secret."""

    def __init__(self, keep: int) -> None:
        self.keep = keep
        self.received = 0
        self._kept: deque[Record] = deque(maxlen=keep)

    def add(self, path: str, headers: list[tuple[bytes, bytes]], body: bytes, fault: Fault | None) -> Record:
        """Note one request; the returned record's `outcome` is set when it ends."""
        self.received += 1
        names = [name.decode("latin-1") for name, _ in headers]
        record = Record(
            number=self.received,
            path=path,
            headers=names,
            body=_readable(body) if self.keep else None,
            fault=fault.kind.value if fault else None,
        )
        self._kept.append(record)
        return record

    def clear(self) -> None:
        """Forget the requests and start counting at zero again."""
        self.received = 0
        self._kept.clear()

    def state(self) -> dict[str, object]:
        """As JSON."""
        return {"test_aid": True, "received": self.received, "requests": list(self._kept)}


def _readable(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return body.decode("utf-8", "replace")
