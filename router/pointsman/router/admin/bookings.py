"""What is booked in the ledger by hand: corrections of entries, and charges for hosted context caches.

Stands between the pages and the ledger, where entries are only ever added: who made a mistake adds what puts it
right. A correction counts in the period in which it is made, so that bills that were sent stay as they are. It
carries the number of those before it in its id: of two writers who have seen the same ones, the ledger takes one.
"""

from __future__ import annotations

import time
from decimal import Decimal
from itertools import islice
from typing import Annotated, Any, Self, TypeVar

from pydantic import AwareDatetime, BaseModel, Field, StringConstraints, ValidationError, model_validator

from pointsman.contracts.config import Config
from pointsman.contracts.config_problems import ConfigError, Problem, explain
from pointsman.contracts.config_types import IDENTITY_PATTERN, PLAIN_PATTERN, Flag, Name, Strict
from pointsman.contracts.errors import AlreadyExists, EntryNotFound, InvalidRequest, PreconditionFailed
from pointsman.contracts.ledger import Entry, Kind, Outcome, Part
from pointsman.contracts.price_book import PriceBook, moment_of
from pointsman.contracts.pricing import NANO, CacheClass, Cost, Unpriced, Usage, charge_of, dollars
from pointsman.router.admin.bodies import MOST_TOLD, checked, json_of
from pointsman.router.admin.pool_directory import PoolDirectory
from pointsman.store.audit import AuditLog
from pointsman.store.ledger import LedgerStore
from pointsman.store.tenants import TenantStore

MOST_NANO = 1_000_000 * NANO
"""Nano-dollars of one charge at most: sums of many have to fit the numbers of a database."""

OLDEST = 400 * 86_400_000
"""Milliseconds back that a charge may lie at most."""

Change = Annotated[Decimal, Field(ge=-1_000_000, le=1_000_000, max_digits=16, decimal_places=9)]
Count = Annotated[int, Field(strict=True, ge=0, le=10**15)]
Comment = Annotated[str, StringConstraints(min_length=1, max_length=500, pattern=PLAIN_PATTERN)]
Identity = Annotated[str, StringConstraints(min_length=1, max_length=48, pattern=IDENTITY_PATTERN)]

Document = TypeVar("Document", bound=BaseModel)


class Changes(Strict):
    """US dollars to add to what an entry cost, by class; below 0 to give back."""

    input: Change = Decimal(0)
    cached_input: Change = Decimal(0)
    reasoning: Change = Decimal(0)
    answer: Change = Decimal(0)
    cache_creation: Change = Decimal(0)
    cache_storage: Change = Decimal(0)
    cache_call: Change = Decimal(0)

    def nano(self) -> Cost:
        """The same in nano-dollars."""
        return Cost(*(int(getattr(self, name) * NANO) for name in Cost._fields))


class Correction(Strict):
    """What puts an entry right: either `cost`, or `void`."""

    entry: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    """Id of the entry."""
    cost: Changes | None = None
    """What to add to its cost."""
    void: Flag = False
    """Take back all of it, tokens too."""
    comment: Comment
    """Why."""
    after: Annotated[int, Field(strict=True, ge=0)] | None = None
    """How many corrections of this entry the writer has seen. Default: however many there are."""

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if self.void == (self.cost is not None):
            raise ValueError("give either `cost` or `void`")
        if self.cost is not None and not any(self.cost.nano()):
            raise ValueError("`cost` changes nothing")
        return self


class Charge(Strict):
    """What a hosted context cache was used for; its price is that of the pool at the time."""

    id: Identity
    """A name of the caller's own: what is sent twice is charged once."""
    tenant: Name
    """Who pays."""
    pool: Name
    """The pool whose prices hold."""
    at: AwareDatetime | None = None
    """When it was used. Default: now."""
    cache_creation: Count = 0
    """Tokens put into the cache."""
    cache_storage: Count = 0
    """Token-minutes: tokens kept, times the minutes."""
    cache_call: Count = 0
    """Calls that used it."""
    comment: Annotated[str, StringConstraints(max_length=500, pattern=PLAIN_PATTERN)] = ""
    """Kept with it."""

    @model_validator(mode="after")
    def _of_something(self) -> Self:
        if not (self.cache_creation or self.cache_storage or self.cache_call):
            raise ValueError("nothing was used: give cache_creation, cache_storage or cache_call")
        return self


class Bookings:
    """Adds entries to `ledger`. Every method raises `DatabaseUnavailable` where the database fails."""

    def __init__(
        self,
        config: Config,
        pools: PoolDirectory,
        ledger: LedgerStore,
        tenants: TenantStore,
        prices: PriceBook,
        audit: AuditLog,
    ) -> None:
        self._configured = {tenant.name for tenant in config.tenants}
        self._pools = pools
        self._ledger = ledger
        self._tenants = tenants
        self._prices = prices
        self._audit = audit

    def correct(self, body: bytes, by: str) -> Entry:
        """
        Add the correction that `body` describes.

        Raises `InvalidRequest` that names the field, `EntryNotFound`, and `PreconditionFailed` where others have
        corrected the same entry meanwhile.
        """
        wanted = _parsed(Correction, body)
        entry = self._ledger.entry(wanted.entry)
        if entry is None or entry.kind is Kind.CORRECTION:
            raise EntryNotFound("The ledger has no entry of this id that could be corrected.")
        earlier = self._ledger.corrections_of(entry.id)
        if wanted.after is not None and wanted.after != len(earlier):
            raise _overtaken()
        booked = [part for each in (entry, *earlier) for part in each.parts]
        parts = _taken_back(booked) if wanted.void else _changed(entry, booked, wanted)
        if not parts:
            raise _wrong("void", "of this entry nothing is left to take back")
        now = _now()
        correction = entry._replace(
            id=f"{entry.id}~{len(earlier) + 1}",
            kind=Kind.CORRECTION,
            at=now,
            ended_at=now,
            parts=parts,
            total=sum(part.cost.total for part in parts),
            router="",
            number=0,
            corrects=entry.id,
            comment=wanted.comment,
        )
        if not self._ledger.append([correction]):
            raise _overtaken()
        after = {"cost_usd": dollars(correction.total), "comment": wanted.comment}
        self._audit.record(actor=by, action="ledger.correct", object=f"entry:{entry.id}", after=after)
        return correction

    def charge(self, body: bytes, by: str) -> Entry:
        """
        Add the charge that `body` describes, unless it is there already.

        Raises `InvalidRequest` that names the field, and `AlreadyExists` where its id stands for another one.
        """
        wanted = _parsed(Charge, body)
        now = _now()
        at = now if wanted.at is None else moment_of(wanted.at)
        if not now - OLDEST <= at <= now:
            raise _wrong("at", f"must lie within the last {OLDEST // 86_400_000} days")
        pool = self._pools.named(wanted.pool)
        if pool is None:
            raise _wrong("pool", "there is no pool of this name")
        if not self._knows(wanted.tenant):
            raise _wrong("tenant", "there is no tenant of this name")
        usage = Usage(**{name: getattr(wanted, name) for name in CacheClass})
        priced = self._prices.at(pool.name, at)
        try:
            cost = charge_of(usage, priced.prices)
        except Unpriced as error:
            raise _wrong(error.cache_class, "has no price in this pool at that time") from None
        if cost.total > MOST_NANO:
            dearest = max(CacheClass, key=lambda name: getattr(cost, name))
            raise _wrong(dearest, "the charge comes to more than 1,000,000 US dollars")
        charge = Entry(
            f"charge-{wanted.id}",
            Kind.CHARGE,
            at,
            at,
            wanted.tenant,
            "",
            "",
            pool.model,
            "",
            200,
            Outcome.ANSWERED,
            False,
            "",
            (Part(pool.name, "", usage, cost, priced.version),),
            cost.total,
            "",
            0,
            "",
            wanted.comment,
        )
        if self._ledger.append([charge]):
            after = {"cost_usd": dollars(charge.total), "tenant": wanted.tenant, "pool": pool.name}
            self._audit.record(actor=by, action="ledger.charge", object=f"entry:{charge.id}", after=after)
            return charge
        present = self._ledger.entry(charge.id)
        assert present is not None
        same = (present.tenant, present.parts[0].pool, present.parts[0].usage) == (charge.tenant, pool.name, usage)
        if not same or (wanted.at is not None and present.at != at):
            raise AlreadyExists("There is another charge of this id.", param="id")
        return present

    def _knows(self, tenant: str) -> bool:
        if tenant in self._configured:
            return True
        row = self._tenants.get(tenant)
        return row is not None and row.document is not None


def _changed(entry: Entry, booked: list[Part], wanted: Correction) -> tuple[Part, ...]:
    """The part that adds `wanted.cost`; refused where a class would cost less than nothing in the end."""
    assert wanted.cost is not None
    change = wanted.cost.nano()
    for name, amount in zip(Cost._fields, change, strict=True):
        billed = sum(getattr(part.cost, name) for part in booked)
        if billed + amount < 0:
            raise _wrong(f"cost.{name}", f"gives back more than the {dollars(billed)} US dollars that were billed")
    last = entry.parts[-1] if entry.parts else Part("", entry.mode, Usage(), Cost(), 0)
    return (Part(last.pool, last.mode, Usage(), change, last.price_version),)


def _taken_back(booked: list[Part]) -> tuple[Part, ...]:
    """What is left of `booked` when all of it is added up, below 0; nothing where they make up for each other."""
    sums: dict[tuple[str, str, int], tuple[list[int], list[int]]] = {}
    for part in booked:
        used, cost = sums.setdefault((part.pool, part.mode, part.price_version), ([0] * _COUNT, [0] * _COUNT))
        for place, name in enumerate(Cost._fields):
            used[place] -= getattr(part.usage, name)
            cost[place] -= part.cost[place]
    return tuple(
        Part(pool, mode, Usage(**_named(used)), Cost(*cost), version)
        for (pool, mode, version), (used, cost) in sums.items()
        if any(used) or any(cost)
    )


_COUNT = len(Cost._fields)


def _named(used: list[int]) -> dict[str, Any]:
    return dict(zip(Cost._fields, used, strict=True))


def _parsed(model: type[Document], body: bytes) -> Document:
    value = json_of(body)

    def parsed() -> Document:
        try:
            return model.model_validate(value)
        except ValidationError as error:
            found = islice(explain(error, of=model), MOST_TOLD + 1)
            raise ConfigError("booking", [Problem.at(location, said) for location, said in found]) from None

    return checked(parsed)


def _now() -> int:
    return time.time_ns() // 1_000_000


def _wrong(field: str, message: str) -> InvalidRequest:
    return InvalidRequest(f"'{field}': {message}.", param=field, code="invalid_value")


def _overtaken() -> PreconditionFailed:
    return PreconditionFailed("This entry has been corrected meanwhile: look at it again.")
