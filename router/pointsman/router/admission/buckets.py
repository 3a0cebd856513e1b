"""The four limits by the minute of one tenant, as one run of a router sees them.

Below the allowance, which holds what is left of each as plain numbers, since requests take from them; here is what
is known of the rest, and what is asked for. Pure. Everything is in the order of `RATES`.
"""

from __future__ import annotations

from collections.abc import Sequence

from pointsman.contracts.limits import Limits
from pointsman.contracts.names import Header
from pointsman.router.admission.stock import BOUNDLESS, Aim, Need, Shortage, kept, missing
from pointsman.store.leases import RATES, Rate, RateGrant

LIMIT_NAMES = (
    "requests_per_minute",
    "tokens_per_minute",
    "input_tokens_per_minute",
    "output_tokens_per_minute",
)

FIRST_SHARE = 2.0
"""Seconds' worth of its limits that a tenant gets at once where Redis is away."""

_KINDS = range(len(RATES))
_REQUESTS, _TOKENS = 0, 1


class Buckets:
    """
    `limits` are those a minute, None where there is none; `most` is what one request can take, `elsewhere` what was
    in Redis and at other runs at `known_at`.
    """

    __slots__ = (
        "_aims",
        "_alone_since",
        "_asked_at",
        "_held",
        "_known",
        "_lines",
        "_told",
        "elsewhere",
        "known_at",
        "limits",
        "most",
    )

    def __init__(self) -> None:
        self.limits: list[int | None] = [None] * 4
        self.most = [BOUNDLESS] * 4
        self.elsewhere = [0] * 4
        self.known_at = 0.0
        self._held = [0] * 4  # what was there when Redis was asked, and what it has given since
        self._asked_at = 0.0
        self._told: list[tuple[int, int]] = []  # the kinds that headers tell of, and their limits
        self._lines = b""
        self._known: list[RateGrant | None] = [None] * 4
        self._aims = [Aim() for _ in _KINDS]
        self._alone_since = [0.0] * 4

    def hold_to(self, limits: Limits, left: Sequence[int]) -> list[int]:
        """Let `limits` hold from now on; what is left, `left` having been before."""
        wanted: list[int | None] = [
            limits.requests_per_minute,
            limits.tokens_per_minute,
            limits.input_tokens_per_minute,
            limits.output_tokens_per_minute,
        ]
        held = [
            amount if (limit is None) == (before is None) else BOUNDLESS if limit is None else 0
            for limit, before, amount in zip(wanted, self.limits, left, strict=True)
        ]
        self.limits = wanted
        self.most = [BOUNDLESS if limit is None else limit for limit in wanted]
        tokens = next((kind for kind in _KINDS[_TOKENS:] if wanted[kind] is not None), None)
        named = ((_REQUESTS, _OF_REQUESTS), (tokens, _OF_TOKENS))
        told = [
            (kind, limit, names)
            for kind, names in named
            if kind is not None and (limit := wanted[kind]) is not None
        ]
        self._told = [(kind, limit) for kind, limit, _ in told]
        self._lines = b"".join(_lines_of(limit, names) for _, limit, names in told)
        self.known_at = 0.0
        return held

    def wanted(self, need: Need) -> tuple[int, int, int, int]:
        """What a request takes of each: no more than there can be at once."""
        _, most, most_in, most_out = self.most
        return 1, min(need.input + need.output, most), min(need.input, most_in), min(need.output, most_out)

    def starve(self, need: Need, left: Sequence[int]) -> None:
        """Remember that `need` was not there: more of it will be leased from now on."""
        for kind, wanted in enumerate(self.wanted(need)):
            aim = self._aims[kind]
            aim.unit = max(1, wanted)
            if left[kind] < wanted:
                aim.starved = True

    def low(self, left: Sequence[int]) -> bool:
        """Whether a lease should be filled up before it runs out."""
        return any(
            limit is not None and 2 * left[kind] < self._aims[kind].goal for kind, limit in enumerate(self.limits)
        )

    def ask(
        self, left: Sequence[int], needs: Sequence[Need], now: float, *, hoards: bool
    ) -> tuple[tuple[Rate | None, Rate | None, Rate | None, Rate | None] | None, list[int]]:
        """What to tell Redis `now` and to ask of it (None: nothing is limited), and what is left here meanwhile."""
        rates: list[Rate | None] = [None] * 4
        keeps = list(left)
        wanted = [self.wanted(need) for need in needs]
        for kind, limit in enumerate(self.limits):
            if limit is None:
                continue
            aim, of_kind = self._aims[kind], [each[kind] for each in wanted]
            aim.follow(self._held[kind] - left[kind], now - self._asked_at)
            target = aim.adjusted(limit) if hoards else 0
            keep = keeps[kind] = kept(left[kind], of_kind, target)
            rates[kind] = (limit, keep, left[kind] - keep, *missing(keep, of_kind, target), aim.unit)
        self._held, self._asked_at = list(keeps), now
        first, second, third, fourth = rates
        return ((first, second, third, fourth) if any(rates) else None), keeps

    def granted(self, grants: Sequence[RateGrant | None], left: Sequence[int], sent_at: float) -> list[int]:
        """Take what Redis gave when it was asked at `sent_at`; what is left then."""
        held = list(left)
        for kind, grant in enumerate(grants):
            self._known[kind] = grant
            self.elsewhere[kind] = 0 if grant is None else grant.level + grant.others
            if grant is not None and self.limits[kind] is not None:
                held[kind] += grant.given
                self._held[kind] += grant.given
        self.known_at = sent_at
        self._alone_since = [0.0] * 4
        return held

    def shortage(self, need: Need, left: Sequence[int], now: float) -> Shortage | None:
        """What there is too little of for `need`, wherever it is held; None where others might give some back."""
        wanted = self.wanted(need)
        for kind, limit in enumerate(self.limits):
            known = self._known[kind]
            if limit is not None and known is not None:
                level = min(limit, known.level + (now - self.known_at) * limit / 60)
                lacking = wanted[kind] - left[kind] - level - known.others
                if lacking > 0:
                    return Shortage(LIMIT_NAMES[kind], lacking * 60 / limit)
        return None

    def blockage(self, need: Need, left: Sequence[int]) -> Shortage | None:
        """What there is too little of for `need` here, though others may hold some."""
        for kind, wanted in enumerate(self.wanted(need)):
            if left[kind] < wanted:
                return Shortage(LIMIT_NAMES[kind], 1.0)
        return None

    def alone(self, share: float, left: Sequence[int], now: float) -> list[int]:
        """What is left once a `share` of the limits has flowed in since the last time, as Redis is away."""
        held = list(left)
        for kind, limit in enumerate(self.limits):
            if limit is None:
                continue
            since = self._alone_since[kind] or now - FIRST_SHARE
            gained = int(limit * share * min(60.0, now - since) / 60)
            if gained or self._alone_since[kind] == 0.0:
                self._alone_since[kind] = now
            most = max(self._aims[kind].unit, int(limit * share))
            held[kind] = max(held[kind], min(held[kind] + gained, most))
        return held

    def header_lines(self, left: Sequence[int], now: float) -> bytes:
        """The header lines that tell how much is left of requests and of tokens, as far as they are limited."""
        since, elsewhere = now - self.known_at, self.elsewhere
        values: list[float] = []
        for kind, limit in self._told:
            amount = left[kind] + elsewhere[kind] + since * limit / 60
            whole = 0 if amount < 0.0 else limit if amount > limit else int(amount)
            values += (whole, (limit - whole) * 60 / limit)
        return self._lines % tuple(values)


def _lines_of(limit: int, names: Sequence[str]) -> bytes:
    """The lines that tell of `limit` a minute, but for what is left of it, and the seconds until it is whole."""
    told, remaining, reset = (name.encode() for name in names)
    return b"%b: %d\r\n%b: %%d\r\n%b: %%.3fs\r\n" % (told, limit, remaining, reset)


_OF_REQUESTS = (Header.LIMIT_REQUESTS, Header.REMAINING_REQUESTS, Header.RESET_REQUESTS)
_OF_TOKENS = (Header.LIMIT_TOKENS, Header.REMAINING_TOKENS, Header.RESET_TOKENS)
