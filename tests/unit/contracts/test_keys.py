"""What a key opens: roles above each other, and networks written in one way."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pointsman.contracts.keys import KeyScope, Role

BELOW = {Role.OWNER: set(Role), Role.OPERATOR: {Role.OPERATOR, Role.VIEWER}, Role.VIEWER: {Role.VIEWER}}


def test_a_role_covers_itself_and_those_below() -> None:
    assert {role: {needed for needed in Role if role.covers(needed)} for role in Role} == BELOW


@given(st.ip_addresses(), st.integers(0, 128))
def test_a_network_has_one_spelling_and_no_bits_outside_its_prefix(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, prefix: int
) -> None:
    prefix = min(prefix, address.max_prefixlen)
    network = ipaddress.ip_network((address, prefix), strict=False)
    assert KeyScope(networks=(network.exploded,)).networks == (str(network),)
    if address != network.network_address:
        with pytest.raises(ValidationError):
            KeyScope(networks=(f"{address}/{prefix}",))


@pytest.mark.parametrize("text", ["", "localhost", "10.0.0.0/33", "10.0.0/8", "::1/129", "10.0.0.0/8 ", "0x7f.1"])
def test_what_is_no_network(text: str) -> None:
    with pytest.raises(ValidationError):
        KeyScope(networks=(text,))
