"""The configuration: one schema for YAML files and the running processes.

Every field says its unit, its default and its effect. Stands in the contracts because all rooms read it.
The parts of a pool are in `config_pools.py`; reading and explaining a file is `config_file.py`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, model_validator

from pointsman.contracts.config_engines import BUILTIN_PREFIX, LOCAL_PREFIX, STARTED_ENGINES, Engine, Family
from pointsman.contracts.config_pools import Autoscaling, Capabilities, Currency, Gpu, Pool, Prices
from pointsman.contracts.config_rules import FLEET_RULES
from pointsman.contracts.config_types import (
    BrokenRules,
    Bytes,
    DatabaseUrl,
    Digest,
    Flag,
    ModelName,
    Name,
    Seconds,
    Strict,
    Text,
)
from pointsman.contracts.limits import HIGHEST_PRIORITY, LOWEST_PRIORITY, Budgets, Limits, ResponseCache
from pointsman.contracts.policies import Candidate, Policy

__all__ = [
    "BUILTIN_PREFIX",
    "LOCAL_PREFIX",
    "STARTED_ENGINES",
    "Autoscaling",
    "Candidate",
    "Capabilities",
    "Config",
    "Currency",
    "DecisionLog",
    "Engine",
    "Family",
    "Gpu",
    "MetricsAccess",
    "Policy",
    "Pool",
    "Prices",
    "Router",
    "Tenant",
    "Tls",
]

KIBI, MEBI = 1024, 1024 * 1024


class DecisionLog(Strict):
    """What is kept of a tenant's decisions."""

    keep: Flag = True
    """Whether decisions are kept at all. Default: yes."""
    days: Annotated[int, Field(strict=True, ge=1, le=3650)] = 7
    """Days for which a decision is kept. Default: 7."""
    prompts: Flag = False
    """Keep the question with it, and the words that spoke for thinking or against. Default: lengths and a hash."""
    review: Flag = False
    """Offer doubtful decisions to reviewers, and to training where `prompts` are kept. Default: no."""


class Tenant(Strict):
    """Somebody who holds keys."""

    name: Name
    """Unique name; a label of every metric."""
    key_digests: tuple[Digest, ...] = ()
    """SHA-256 (hexadecimal) of each key of this tenant. Keys themselves are never stored."""
    models: Annotated[tuple[ModelName, ...], Field(min_length=1)] | None = None
    """Models this tenant may ask for. Default: all."""
    policy: Policy = Policy()
    """How the mode of this tenant's queries is chosen. A policy that the admin API has set goes before it."""
    candidate: Candidate | None = None
    """A new policy on its way to replace `policy`. Default: none."""
    decisions: DecisionLog = DecisionLog()
    """What is kept of this tenant's decisions."""
    limits: Limits = Limits()
    """How fast this tenant may go."""
    budgets: Budgets = Budgets()
    """What this tenant may spend."""
    priority: Annotated[int, Field(strict=True, ge=LOWEST_PRIORITY, le=HIGHEST_PRIORITY)] = 5
    """Where a pool is full, requests of a higher priority are served first and refused last. Default: 5."""
    weight: Annotated[float, Field(strict=True, ge=0.01, le=1000, allow_inf_nan=False)] = 1.0
    """Where a pool is full, this tenant's share beside others of its priority. Default: 1."""
    cache: ResponseCache = ResponseCache()
    """Whether equal requests are answered from a cache."""


class MetricsAccess(StrEnum):
    """Who may read `/metrics` of the router; it shows every tenant's tokens and dollars."""

    LOOPBACK = "loopback"
    """Anybody on this machine, and whoever holds the admin key."""
    ADMIN = "admin"
    """Only who holds the admin key."""
    OPEN = "open"
    """Anybody who can reach the port."""


class Tls(Strict):
    """A certificate of the router's own."""

    certificate: Text
    """PEM file with the certificate, and after it those that lead to its root. Read again when it changes."""
    private_key: Text
    """PEM file with the certificate's private key, without a passphrase. Read again when it changes."""


class Router(Strict):
    """Limits of the data plane."""

    max_body_bytes: Bytes = 8 * MEBI
    """Bytes of a request body at most; more is 413. Default: 8 MiB."""
    max_header_bytes: Annotated[Bytes, Field(le=MEBI)] = 32 * KIBI
    """Bytes of request line and headers together; more is 431. Default: 32 KiB."""
    max_response_bytes: Bytes = 64 * MEBI
    """Bytes of an answer that is not streamed, and of one event of a stream. Default: 64 MiB."""
    max_connections: Annotated[int, Field(strict=True, ge=1, le=1_000_000)] = 16_384
    """Client connections of one router process at most; a further one gets 503 and is closed. Default: 16384."""
    header_timeout: Seconds = 10.0
    """Seconds a client has to send its headers. Default: 10."""
    body_timeout: Seconds = 60.0
    """Seconds a client has to send its body. Default: 60."""
    keep_alive_timeout: Seconds = 75.0
    """Seconds an idle client connection is kept. Default: 75."""
    drain_timeout: Annotated[float, Field(strict=True, ge=0, le=86_400, allow_inf_nan=False)] = 30.0
    """Seconds that running answers get to finish after SIGTERM. Default: 30."""
    registry_interval: Annotated[Seconds, Field(le=60)] = 0.5
    """Seconds between two looks at the replicas' registrations. Default: 0.5."""
    decisions_per_second: Annotated[int, Field(strict=True, ge=1, le=1_000_000)] = 100
    """Records of decisions that a router process keeps in a second, over ten seconds; of further requests none, but
    of those of tenants with a new policy on trial. Default: 100."""
    response_cache_bytes: Bytes = 64 * MEBI
    """Bytes of recorded answers that a router process holds beside Redis, for tenants with a response cache.
    Default: 64 MiB."""
    tls: Tls | None = None
    """Speak TLS (1.2 or newer) to clients, and nothing else. Default: plain HTTP."""
    metrics_access: MetricsAccess = MetricsAccess.LOOPBACK
    """Who may read `/metrics`. Default: `loopback`."""
    admin_key_digests: tuple[Digest, ...] = ()
    """SHA-256 (hexadecimal) of each admin key that is an owner's; owners make further ones. Default: none."""
    max_snapshot_age: Seconds = 900.0
    """Seconds without word from Redis after which no request is admitted, as keys may have been revoked. Default:
    900."""
    spool_bytes: Annotated[Bytes, Field(ge=8 * MEBI)] = 1024 * MEBI
    """Bytes of the disk that one router process may use for usage that the database does not have yet, about 600 a
    request; where they are used up it takes no more requests. Default: 1 GiB."""


class Config(Strict):
    """A whole fleet: pools, tenants, and the router's limits."""

    pools: tuple[Pool, ...] = ()
    """The pools. Further ones may be made while the platform runs. Default: none."""
    tenants: tuple[Tenant, ...] = ()
    """The tenants. `pointsman up` adds a tenant `demo` with a fresh key."""
    router: Router = Router()
    """Limits of the data plane."""
    predictor: Text | None = None
    """File of predictor weights. Default: the ones that ship with Pointsman."""
    database: DatabaseUrl | None = None
    """Database for policies and decisions, as SQLAlchemy spells its URL: `postgresql+psycopg://USER@HOST/NAME` (its
    driver is to be installed) or `sqlite:////FILE`. Default: SQLite in the state folder."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if problems := [problem for rule in FLEET_RULES for problem in rule(self)]:
            raise BrokenRules(problems)
        return self
