"""The admin API and the command line as the holder of a gateway's admin key uses them."""

from __future__ import annotations

from typing import Any

import httpx
from typer.testing import CliRunner, Result

from pointsman.cli.main import app
from pointsman.contracts.names import Env
from support.gateway import Gateway


def admin(gateway: Gateway, method: str, path: str, **options: Any) -> httpx.Response:
    """One request to `/admin/v1` and what is below it."""
    headers = {"authorization": f"Bearer {gateway.admin_key}", **options.pop("headers", {})}
    return httpx.request(method, f"{gateway.url}/admin/v1{path}", headers=headers, timeout=30, **options)


def refused(gateway: Gateway, method: str, path: str, **options: Any) -> tuple[int, str | None]:
    """Status, and the field that the error names."""
    answer = admin(gateway, method, path, **options)
    return answer.status_code, answer.json()["error"]["param"]


def invoked(gateway: Gateway, *arguments: str) -> Result:
    """What `pointsman` says, whatever it is."""
    environment = {Env.URL: gateway.url, Env.ADMIN_KEY: gateway.admin_key, "COLUMNS": "160", "NO_COLOR": "1"}
    return CliRunner().invoke(app, list(arguments), env=environment)


def pointsman(gateway: Gateway, *arguments: str) -> Result:
    """What `pointsman` says where all is well."""
    said = invoked(gateway, *arguments)
    assert said.exit_code == 0, said.output
    return said
