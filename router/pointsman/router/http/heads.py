"""The heads of requests, and the memory of those that llhttp has accepted.

A client that keeps its connection sends the same head again and again, but for the value of Content-Length, and
parsing it costs more than anything else that is done for a small request. So a head that has passed llhttp once is
known by its bytes (`docs/decisions/known-heads.md`). Stands below the reader and the connection; opens no socket,
and its keys, which hold credentials, never leave it.
"""

from __future__ import annotations

from pointsman.router.exchange import Headers

MAX_KNOWN_HEAD = 2048
"""Bytes of a head that is remembered at most."""

GENERATION = 2048
"""Heads in each of the two generations that are remembered."""

LENGTH_DIGITS = 10
"""Digits of a Content-Length at most; limits on bodies end at 1 GiB."""

_END = b"\r\n\r\n"
_LENGTH_LINES = (b"\r\ncontent-length: ", b"\r\nContent-Length: ")


class Head:
    """
    A request's head: method, target (path and query), headers, and what the client expects of its connection.

    Shared by all requests with the same head: nobody may change it. `plain`: an HTTP/1.1 request, not HEAD, whose
    connection is kept; its answers need no special framing. `headers` does not hold Content-Length.
    """

    __slots__ = ("headers", "http_10", "keep_alive", "method", "plain", "target")

    def __init__(self, method: str, target: str, headers: Headers, *, http_10: bool, keep_alive: bool) -> None:
        self.method = method
        self.target = target
        self.headers = headers
        self.http_10 = http_10
        self.keep_alive = keep_alive
        self.plain = keep_alive and not http_10 and method != "HEAD"


def split_head(data: bytes) -> tuple[bytes, int, int, int] | None:
    """
    The whole head at the start of `data`, if its body's length is spelled as usual: its bytes without the digits
    of that length, their place in it, its size, and the length. None where there is no such head.

    Says nothing about whether the head is valid. The place follows from the bytes, since it is always in the first
    line of that name: equal bytes are equal heads but for those digits.
    """
    end = data.find(_END, 0, MAX_KNOWN_HEAD) + 4
    if end == 3:
        return None
    start = data.find(_LENGTH_LINES[0], 0, end)
    if start < 0:
        start = data.find(_LENGTH_LINES[1], 0, end)
        if start < 0:
            return None
    start += 18
    stop = data.find(b"\r\n", start, end)
    digits = data[start:stop]
    if not digits.isdigit() or stop - start > LENGTH_DIGITS:
        return None
    return data[:start] + data[stop:end], start, end, int(digits)


class KnownHead:
    """A head that llhttp has accepted, and its bytes `before` and `after` the digits of its body's length."""

    __slots__ = ("after", "before", "head")

    def __init__(self, before: bytes, after: bytes, head: Head) -> None:
        self.before = before
        self.after = after
        self.head = head

    def body_of(self, data: bytes) -> bytes | None:
        """The body, if `data` is a request with this head, complete, and nothing else; else None."""
        before, after = self.before, self.after
        if not data.startswith(before):
            return None
        start = len(before)
        stop = data.find(b"\r", start, start + LENGTH_DIGITS + 1)
        digits = data[start:stop]
        if not data.startswith(after, stop) or not digits.isdigit():
            return None
        begin = stop + len(after)
        return data[begin:] if int(digits) == len(data) - begin else None

    def length_of(self, data: bytes) -> int | None:
        """The length of the body that is to follow, if `data` is this head and nothing else; else None."""
        if data.startswith(self.before) and data.endswith(self.after):
            digits = data[len(self.before) : len(data) - len(self.after)]
            if digits.isdigit() and len(digits) <= LENGTH_DIGITS:
                return int(digits)
        return None


class KnownHeads:
    """
    Heads by their bytes, as `split_head` gives them.

    The least recently used go first, a generation at a time: what is asked for moves to the young generation, and
    a full young generation becomes the old one.
    """

    __slots__ = ("_old", "_old_hashes", "_young", "_young_hashes")

    def __init__(self) -> None:
        self._young: dict[bytes, KnownHead] = {}
        self._old: dict[bytes, KnownHead] = {}
        self._young_hashes: set[int] = set()
        self._old_hashes: set[int] = set()

    def get(self, key: bytes) -> KnownHead | None:
        """The head with these bytes, or None."""
        known = self._young.get(key)
        if known is None:
            known = self._old.get(key)
            if known is not None:
                self._add(key, known)
        return known

    def add(self, key: bytes, place: int, head: Head) -> None:
        """Remember `head`, which llhttp has accepted as the meaning of `key` with digits at `place`."""
        self._add(key, KnownHead(key[:place], key[place:], head))

    def seen_before(self, key: bytes) -> bool:
        """
        Whether these bytes were asked about a while ago.

        A head that never comes again, because it bears a request's own id, is not worth its place.
        """
        value = hash(key)
        if value in self._young_hashes or value in self._old_hashes:
            return True
        if len(self._young_hashes) >= GENERATION:
            self._old_hashes, self._young_hashes = self._young_hashes, set()
        self._young_hashes.add(value)
        return False

    def __len__(self) -> int:
        return len(self._young.keys() | self._old.keys())

    def _add(self, key: bytes, known: KnownHead) -> None:
        if len(self._young) >= GENERATION:
            self._old, self._young = self._young, {}
        self._young[key] = known
