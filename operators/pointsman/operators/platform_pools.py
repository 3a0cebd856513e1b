"""Pools at the admin API: told there, asked about there, taken away there.

Between the one who reconciles a pool and the router that serves it. The admin API decides whether a pool goes with
the others, and which of two objects of one name is the platform's; here its answers become an object's words.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pointsman.operators.admin_client import (
    MANAGER,
    AdminApi,
    AdminNotFound,
    AdminRefused,
    AdminStale,
    ManagedElsewhere,
    below,
)
from pointsman.operators.documents import Annotation, ModelPoolObject, spec_path
from pointsman.operators.upgrade import Report


@dataclass(frozen=True, slots=True)
class PlatformPool:
    """
    A pool as routers have it.

    `reports`: by revision, None where no router has told anything lately. `ready`: replicas that answer, None
    likewise.
    """

    version: int
    traffic: Mapping[str, float]
    reports: Mapping[str, Report] | None
    ready: int | None
    running: int


class PoolRefused(Exception):
    """The admin API will not have this pool as it is: `reason` for programs, the message for people."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class PlatformPools:
    """The pools of one platform. Every method raises `AdminUnavailable` where the admin API can't be asked."""

    def __init__(self, admin: AdminApi) -> None:
        self._admin = admin

    async def put(self, pool: ModelPoolObject, *, reprice: bool) -> PlatformPool:
        """
        Let the platform have `pool` as it is, and say how it is there. Raises `PoolRefused`.

        `reprice`: pools of one model and mode have one price; let those of other objects follow this one's.
        """
        document = pool.pool.model_dump(mode="json", exclude_unset=True)
        params: dict[str, str | int | bool | None] = {"manager": MANAGER, "origin": str(pool.meta)}
        if reprice:
            params["twins"] = "reprice"
        path, adopts = below("/pools", pool.name), pool.meta.annotations.get(Annotation.ADOPT) == "true"
        try:
            try:  # what is as it should be, and what is new, need no look at what is there
                answer = await self._admin.ask("PUT", path, json=document, params=params)
            except (AdminStale, ManagedElsewhere) as error:
                if isinstance(error, ManagedElsewhere) and not adopts:
                    raise
                present = await self._present(pool.name)
                if adopts and present is not None:
                    params["take_from"] = str(present["managed_by"])
                seen = None if present is None else int(present["version"])
                answer = await self._admin.ask("PUT", path, json=document, params=params, if_match=seen)
        except ManagedElsewhere as error:
            raise PoolRefused("NameTaken", f"the platform's pool {pool.name} is another's: {error}") from None
        except AdminRefused as error:
            place = spec_path(ModelPoolObject, error.param) if error.param else "spec"
            raise PoolRefused("Refused", f"{place}: {error}") from None
        return _platform_pool(answer.body)

    async def direct(self, name: str, traffic: Mapping[str, int]) -> None:
        """Divide the requests of the pool `name` by `traffic`, weights by revision; an empty one: not at all."""
        await self._admin.ask(
            "PUT", below("/pools", name, "traffic"), json=dict(traffic), params={"manager": MANAGER}
        )

    async def left(self, name: str) -> int | None:
        """
        Requests that run or wait in the pool `name`, which may have been taken away; None where nobody knows.

        A router that still sends requests there counts as one, since more may come from it.
        """
        try:
            told = (await self._admin.ask("GET", below("/pools", name, "requests"))).body
        except AdminNotFound:
            return 0
        return int(told["running"]) + int(told["serving"]) if told["routers"] else None

    async def delete(self, name: str, origin: str) -> None:
        """Take the pool `name` away, where it was made of the object `origin`. No error where it is not."""
        try:
            await self._admin.ask("DELETE", below("/pools", name), params={"manager": MANAGER, "origin": origin})
        except (AdminNotFound, ManagedElsewhere):
            return

    async def _present(self, name: str) -> dict[str, Any] | None:
        try:
            return dict((await self._admin.ask("GET", below("/pools", name))).body)
        except AdminNotFound:
            return None


def _platform_pool(body: Mapping[str, Any]) -> PlatformPool:
    state = body.get("state") or {}
    revisions = body.get("revisions") or state.get("revisions") or {}
    known = not body.get("troubles")
    ready = sum(1 for replica in state.get("replicas", ()) if replica["states"].get("ready"))
    return PlatformPool(
        version=int(body["version"]),
        traffic=body.get("traffic") or {},
        reports={name: _report(told) for name, told in revisions.items()} if known else None,
        ready=ready if known else None,
        running=int(state.get("running") or 0),
    )


def _report(told: Mapping[str, Any]) -> Report:
    return Report(
        replicas=int(told.get("replicas") or 0),
        running=int(told.get("running") or 0),
        requests=int(told.get("requests") or 0),
        errors=int(told.get("errors") or 0),
        ttft=told.get("ttft_p95"),
        window=float(told.get("window") or 60.0),
    )
