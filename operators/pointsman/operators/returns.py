"""Hears of candidates that the platform has sent back, soon after it has.

Beside the comparison of all lists, which would find them minutes later: nothing in the cluster changes when a
candidate goes back, so no watch tells. The audit log of the admin API does, and is read from where it was last
seen: a page in the order of its numbers, which costs the same with ten thousand policies as with one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from pointsman.operators.admin_client import AdminApi, AdminError
from pointsman.operators.mirror import KEEPER

log = logging.getLogger(__name__)

INTERVAL = 2.0
"""Seconds between two looks."""

_ROWS = 200
_PAGES = 20
"""Pages that are read for one look at most: whatever is older is found when all lists are compared."""

_ACTION = "policies.put"
_OBJECT = "policy:"


class Returns:
    """Calls `heard` with the name of each tenant whose policy the platform has changed by itself."""

    def __init__(self, admin: AdminApi, heard: Callable[[str], Awaitable[None]]) -> None:
        self._admin = admin
        self._heard = heard
        self._seen: int | None = None
        self._untold: dict[str, None] = {}

    async def follow(self) -> None:
        """Look at the interval until cancelled; where the admin API is away, from where it was when it is back."""
        while True:
            try:
                self._untold |= dict.fromkeys(await self.look())
                for tenant in list(self._untold):
                    await self._heard(tenant)
                    del self._untold[tenant]
            except AdminError as error:
                log.debug("the audit log can't be read: %s", error)
            await asyncio.sleep(INTERVAL)

    async def look(self) -> list[str]:
        """The tenants concerned since the last look; none at the first. Raises `AdminError`."""
        seen, newest, after = self._seen, self._seen, None
        found: dict[str, None] = {}
        for _ in range(_PAGES if seen is not None else 1):
            page = (await self._admin.ask("GET", "/audit", params={"limit": _ROWS, "after": after})).body
            rows = page["data"]
            newest = max([newest or 0, *(row["id"] for row in rows)])
            for row in rows:
                if row["id"] > (seen or 0) and (row["actor"], row["action"]) == (KEEPER, _ACTION):
                    found[row["object"].removeprefix(_OBJECT)] = None
            after = page.get("after")
            if after is None or after <= (seen or 0):
                break
        self._seen = newest
        return [] if seen is None else list(found)
