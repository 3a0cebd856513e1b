"""What the operator hears of candidates that were sent back: each once, in whatever the audit log holds besides."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pointsman.operators import returns
from pointsman.operators.admin_client import AdminAnswer, AdminUnavailable
from pointsman.operators.returns import Returns


class Log:
    """Stands in for the admin API: an audit log, newest first."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.pages = 0
        self.away = False

    def write(self, number: int = 1, *, actor: str = "admin key 1", object: str = "policy:other") -> None:
        for _ in range(number):
            row = {"id": len(self.rows) + 1, "actor": actor, "action": "policies.put", "object": object}
            self.rows.insert(0, row)

    async def ask(self, method: str, path: str, *, params: dict[str, Any]) -> AdminAnswer:
        assert (method, path) == ("GET", "/audit")
        if self.away:
            raise AdminUnavailable("no router answers")
        self.pages += 1
        older = [row for row in self.rows if params["after"] is None or row["id"] < params["after"]]
        page = older[: params["limit"]]
        return AdminAnswer(200, None, {"data": page, "after": page[-1]["id"] if len(older) > len(page) else None})


async def nobody(_: str) -> None:
    raise AssertionError


def test_each_return_is_heard_of_once_among_many_other_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log()
    heard = Returns(log, nobody)  # type: ignore[arg-type]
    assert asyncio.run(heard.look()) == []
    log.write(500)
    log.write(actor="pointsman", object="policy:early")
    log.write(500)
    assert asyncio.run(heard.look()) == ["early"]
    log.pages = 0
    assert asyncio.run(heard.look()) == []
    assert log.pages == 1, "what was seen is not read again"
    log.write(actor="pointsman", object="policy:a")
    log.write(actor="pointsman", object="policy:b")
    log.write(actor="pointsman", object="policy:a")
    assert sorted(asyncio.run(heard.look())) == ["a", "b"]
    log.write(actor="pointsman", object="policy:lost")
    monkeypatch.setattr(returns, "_PAGES", 3)
    log.write(3 * returns._ROWS + 1)
    log.pages = 0
    asyncio.run(heard.look())
    assert log.pages == 3, "more than that is left to the comparison of all lists"


def test_what_could_not_be_told_is_told_when_the_admin_api_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    log, told = Log(), list[str]()
    monkeypatch.setattr(returns, "INTERVAL", 0.001)

    async def scenario() -> None:
        done = asyncio.Event()

        async def hear(tenant: str) -> None:
            if log.away:
                log.away = False
                raise AdminUnavailable("it went away just now")
            told.append(tenant)
            done.set()

        heard = Returns(log, hear)  # type: ignore[arg-type]
        await heard.look()
        log.write(actor="pointsman", object="policy:acme")
        found = await heard.look()
        assert found == ["acme"]
        log.rows.clear()
        log.write(actor="pointsman", object="policy:first")
        heard = Returns(log, hear)  # type: ignore[arg-type]
        await heard.look()
        log.write(actor="pointsman", object="policy:second")
        following = asyncio.create_task(heard.follow())
        async with asyncio.timeout(30):
            await done.wait()
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)

    asyncio.run(scenario())
    assert told == ["second"]
