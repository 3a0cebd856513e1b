"""The admin API and the command line as the holder of a gateway's admin key uses them."""

from __future__ import annotations

import socket
from typing import Any

import httpx
from typer.testing import CliRunner, Result

from pointsman.cli.main import app
from pointsman.contracts.names import Env
from support.gateway import Gateway, wait_for


def admin(gateway: Gateway, method: str, path: str, **options: Any) -> httpx.Response:
    """One request to `/admin/v1` and what is below it."""
    headers = {"authorization": f"Bearer {gateway.admin_key}", **options.pop("headers", {})}
    return httpx.request(method, f"{gateway.url}/admin/v1{path}", headers=headers, timeout=30, **options)


def refused(gateway: Gateway, method: str, path: str, **options: Any) -> tuple[int, str | None]:
    """Status, and the field that the error names."""
    answer = admin(gateway, method, path, **options)
    return answer.status_code, answer.json()["error"]["param"]


def wait_until_known(gateway: Gateway, key: str) -> None:
    """
    Wait until the router knows `key`, which the admin API has just made.

    It hears of keys a moment later, and waits for no body of somebody unknown. That is asked by a head alone, for a
    body that comes along with its head is passed on to the admin process, which knows the key from the first.
    """

    def known() -> bool:
        with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as wire:
            wire.sendall(
                b"POST /admin/v1/whoami HTTP/1.1\r\nhost: router\r\nexpect: 100-continue\r\n"
                b"content-length: 2\r\nauthorization: Bearer %b\r\n\r\n" % key.encode()
            )
            return wire.recv(64).startswith(b"HTTP/1.1 100 ")

    wait_for(known, "the key to be known")


def invoked(gateway: Gateway, *arguments: str) -> Result:
    """What `pointsman` says, whatever it is."""
    environment = {Env.URL: gateway.url, Env.ADMIN_KEY: gateway.admin_key, "COLUMNS": "160", "NO_COLOR": "1"}
    return CliRunner().invoke(app, list(arguments), env=environment)


def pointsman(gateway: Gateway, *arguments: str) -> Result:
    """What `pointsman` says where all is well."""
    said = invoked(gateway, *arguments)
    assert said.exit_code == 0, said.output
    return said
