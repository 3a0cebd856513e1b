"""Who is logged in, as the router says of a key: a tenant, or an administrator with a role."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pointsman.contracts.keys import Role


@dataclass(frozen=True, slots=True)
class Who:
    """
    `key`: the first eight hexadecimal digits of the key's digest. `role` is None for a tenant, `tenant` for an
    administrator. `models`: what a tenant's key may ask for.
    """

    key: str
    role: Role | None
    tenant: str | None
    models: tuple[str, ...] = ()

    @property
    def is_admin(self) -> bool:
        """Whether it is an administrator, whatever the role."""
        return self.role is not None

    def may(self, role: Role) -> bool:
        """Whether an administrator with `role` may do no more than this one."""
        return self.role is not None and self.role.covers(role)

    @property
    def name(self) -> str:
        """How the console greets them."""
        return self.tenant if self.tenant is not None else str(self.role)

    def told(self) -> dict[str, Any]:
        """As JSON that `read` takes."""
        return {"key": self.key, "role": self.role, "tenant": self.tenant, "models": list(self.models)}

    @classmethod
    def read(cls, told: Mapping[str, Any]) -> Who:
        """What the router told of a key. Raises KeyError or ValueError where it did not."""
        role = told["role"]
        if (role is None) == (told["tenant"] is None):
            raise ValueError("a key is a tenant's or an administrator's")
        return cls(
            key=str(told["key"]),
            role=None if role is None else Role(role),
            tenant=told["tenant"],
            models=tuple(told["models"]),
        )
