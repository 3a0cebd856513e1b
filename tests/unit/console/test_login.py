"""What somebody is told who can't be logged in now, by what the router answered."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from pointsman.console.admin_client import AdminClient, AdminError
from pointsman.console.login import login_routes
from pointsman.console.sessions import Sessions
from pointsman.contracts.tenants import new_key


class Router:
    """Answers with one error."""

    def __init__(self, error: AdminError) -> None:
        self._error = error

    async def ask(self, *_: Any, **__: Any) -> Any:
        raise self._error


@pytest.mark.parametrize(
    ("status", "answered", "told"),
    [
        (0, 503, "The platform is still starting"),
        (502, 503, "The platform is still starting"),
        (503, 503, "The platform is still starting"),
        (401, 401, "The router does not know this key."),
        (429, 502, "as the router says"),
    ],
)
def test_who_comes_too_early_is_told_to_wait(status: int, answered: int, told: str) -> None:
    router = cast(AdminClient, Router(AdminError("as the router says", status=status)))
    app = FastAPI()
    app.include_router(login_routes(router, cast(Sessions, None), asyncio.Queue()))
    key = new_key()
    answer = TestClient(app).post("/login", data={"key": key, "next": "/costs"})
    assert answer.status_code == answered
    assert told in answer.text
    assert key not in answer.text
    assert 'name="next" value="/costs"' in answer.text, "what was asked for comes after logging in all the same"
