"""What one key is limited to, in the form in which a request is compared with it.

Stands between the keys' entries and the steps: who asks from where, and for which path, is looked at when the key
is shown, models and modes where they are chosen. A key without limits has no scope at all, and costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from time import time

from pointsman.contracts.errors import KeyOutOfScope, Unauthenticated
from pointsman.contracts.modes import Mode
from pointsman.router.tenant_view import ModelView
from pointsman.store.tenant_projection import KeyEntry

MAX_PEERS = 1000
"""Addresses that a scope remembers; with more, all are forgotten and looked at anew."""


class Scope:
    """
    The limits of one key; None: not limited. `expires_at`: seconds since 1970.

    Raises ValueError where a mode or a network makes no sense: such a key must not open anything.
    """

    __slots__ = ("_endpoints", "_known_peers", "_modes", "_networks", "expires_at", "models")

    def __init__(
        self,
        *,
        expires_at: float | None = None,
        models: Iterable[str] | None = None,
        modes: Iterable[str] | None = None,
        endpoints: Iterable[str] | None = None,
        networks: Iterable[str] | None = None,
    ) -> None:
        self.expires_at = expires_at
        self.models = None if models is None else frozenset(models)
        self._modes = None if modes is None else frozenset(map(Mode, modes))
        self._endpoints = None if endpoints is None else tuple(endpoints)
        self._networks = None if networks is None else tuple(map(ip_network, networks))
        self._known_peers: dict[str, bool] = {}

    def check(self, path: str, peer: str) -> None:
        """
        Raises `Unauthenticated` where the key has expired, and `KeyOutOfScope` where it may not be used from the
        address `peer` or for `path`.
        """
        if self.expires_at is not None and time() >= self.expires_at:
            raise Unauthenticated("The API key has expired.")
        if self._networks is not None and not self._covers(peer, self._networks):
            raise KeyOutOfScope("This key may not be used from your network.")
        if self._endpoints is not None and not any(
            path == allowed or path.startswith(f"{allowed}/") for allowed in self._endpoints
        ):
            raise KeyOutOfScope("This key is limited to other paths.")

    def allows_model(self, name: str) -> bool:
        """Whether the key may ask for the model `name`, if its tenant may."""
        return self.models is None or name in self.models

    def offered(self, model: ModelView) -> frozenset[Mode]:
        """The modes in which `model` answers to this key."""
        return model.modes if self._modes is None else model.modes & self._modes

    def _covers(self, peer: str, networks: tuple[IPv4Network | IPv6Network, ...]) -> bool:
        known = self._known_peers.get(peer)
        if known is None:
            if len(self._known_peers) >= MAX_PEERS:
                self._known_peers.clear()
            address = _address(peer)
            known = address is not None and any(address in network for network in networks)
            self._known_peers[peer] = known
        return known


def scope_of(key: KeyEntry) -> Scope | None:
    """The scope of `key`, None where it has no limits. Raises ValueError as `Scope` does."""
    if key[2:] == _UNLIMITED:
        return None
    return Scope(
        expires_at=None if key.expires_at is None else key.expires_at / 1000,
        models=key.models,
        modes=key.modes,
        endpoints=key.endpoints,
        networks=key.networks,
    )


_UNLIMITED = (None,) * 5


def _address(peer: str) -> IPv4Address | IPv6Address | None:
    """The address `peer`; one of IPv4 that came through a socket of IPv6 as what it is. None: it is none."""
    try:
        address = ip_address(peer)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return address if mapped is None else mapped
