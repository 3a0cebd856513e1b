"""The rules of a whole fleet, between its pools and tenants; each says where it is broken.

Separate from the fields so that either list can be read as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pointsman.contracts.config_types import Location
from pointsman.contracts.modes import Mode

if TYPE_CHECKING:
    from pointsman.contracts.config import Config
    from pointsman.contracts.config_pools import Pool

Problems = Iterator[tuple[Location, str]]


def _names_are_unique(config: Config) -> Problems:
    """Names of pools are unique, and so are names of tenants."""
    for field, names in (
        ("pools", [pool.name for pool in config.pools]),
        ("tenants", [tenant.name for tenant in config.tenants]),
    ):
        first: dict[str, int] = {}
        for position, name in enumerate(names):
            if first.setdefault(name, position) != position:
                yield (field, position, "name"), f"{name!r} is already the name of {field}[{first[name]}]"


def _keys_have_one_owner(config: Config) -> Problems:
    """A key belongs to one tenant, or to the administrators."""
    owners: dict[str, str] = {}
    places: list[tuple[Location, str, str]] = [
        (("tenants", row, "key_digests", column), digest, f"tenant {tenant.name!r}")
        for row, tenant in enumerate(config.tenants)
        for column, digest in enumerate(tenant.key_digests)
    ]
    places += [
        (("router", "admin_key_digests", column), digest, "the administrators")
        for column, digest in enumerate(config.router.admin_key_digests)
    ]
    for location, digest, owner in places:
        if digest in owners:
            yield location, f"this key already belongs to {owners[digest]}"
        owners.setdefault(digest, owner)


def _prices_agree(config: Config) -> Problems:
    """Pools that answer the same model in the same mode have the same prices."""
    priced: dict[tuple[str, Mode], Pool] = {}
    for position, pool in enumerate(config.pools):
        for mode in pool.modes:
            twin = priced.setdefault((pool.model, mode), pool)
            if twin.prices.price_list() != pool.prices.price_list():
                yield (
                    ("pools", position, "prices"),
                    f"differ from those of pool {twin.name!r}, which answers the same model and mode "
                    f"({pool.model}, {mode})",
                )
                break


def _tenants_models_exist(config: Config) -> Problems:
    """A tenant's `models` are models that some pool answers; any may be named where there are no pools."""
    if not config.pools:
        return
    models = {pool.model for pool in config.pools}
    for row, tenant in enumerate(config.tenants):
        for column, model in enumerate(tenant.models or ()):
            if model not in models:
                yield ("tenants", row, "models", column), f"no pool answers the model {model!r}"


FLEET_RULES = (_names_are_unique, _keys_have_one_owner, _prices_agree, _tenants_models_exist)
"""Every rule of a whole fleet; their docstrings are the reference that users read."""
