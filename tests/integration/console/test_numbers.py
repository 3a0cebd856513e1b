"""The console's numbers are the bill's, to the last nano-dollar, and a tenant sees its own alone."""

from __future__ import annotations

import csv
import html
import io
import json
import re
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import httpx
import pytest

from pointsman.console.parts.figures import dollars
from pointsman.contracts.names import Header
from support.admin import admin, invoked
from support.console import DEAR_POOLS, ConsoleGateway, logged_in
from support.policies import within

TENANTS = ({"name": "acme"}, {"name": "globex"})
LATER = 60.0


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsoleGateway]:
    with ConsoleGateway(tmp_path_factory.mktemp("gw"), pools=DEAR_POOLS, tenants=TENANTS) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def told(gateway: ConsoleGateway) -> dict[str, int]:
    """What the clients of each tenant were told that their answers cost, in nano-dollars; all of it is booked."""
    sums = dict.fromkeys(gateway.keys, 0)
    for number in range(12):
        tenant = ("acme", "acme", "globex")[number % 3]
        body = {
            "model": "smollm2",
            "max_tokens": 40 + number,
            "messages": [{"role": "user", "content": "x " * number}],
        }
        headers = {
            "authorization": f"Bearer {gateway.keys[tenant]}",
            Header.MODE: ("think", "no_think")[number % 2],
        }
        answer = httpx.post(f"{gateway.url}/v1/chat/completions", json=body, headers=headers, timeout=30)
        assert answer.status_code == 200, answer.text
        sums[tenant] += round(float(answer.headers[Header.COST_USD]) * 1e9)
    assert all(sums.values())
    within(LATER, lambda: sum(row["requests"] for row in costs(gateway)) == 12)
    return sums


def costs(gateway: ConsoleGateway, by: str = "tenant") -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = admin(gateway, "GET", "/costs", params={"by": by, "since": "24h"}).json()["data"]
    return rows


def texts(page: httpx.Response) -> str:
    """What a page shows, without the markup around it."""
    assert page.status_code == 200, page.text
    elements = json.loads(html.unescape(re.search(r"String\.raw`(.*?)`\), \{", page.text, re.DOTALL)[1]))  # type: ignore[index]
    shown = " ".join(str(one.get("props", {}).get("innerHTML", "")) for one in elements.values())
    return html.unescape(re.sub(r"<[^>]*>", " ", shown))


def test_console_command_ledger_and_clients_agree_exactly(gateway: ConsoleGateway, told: dict[str, int]) -> None:
    entries = admin(gateway, "GET", "/usage/entries", params={"limit": 100}).json()["data"]
    booked = {name: sum(one["cost"] for one in entries if one["tenant"] == name) for name in told}
    assert booked == told
    assert {row["tenant"]: row["cost"] for row in costs(gateway)} == told
    listed = json.loads(invoked(gateway, "costs", "--by", "tenant", "--since", "24h", "--format", "json").stdout)
    assert {row["tenant"]: row["cost"] for row in listed["data"]} == told

    with closing(logged_in(gateway.console_url, gateway.admin_key)) as owner:
        page = texts(owner.get("/costs?span=24h&by=tenant"))
        for nano in (*told.values(), sum(told.values())):
            assert dollars(nano) in page
        by_mode = texts(owner.get("/costs?span=24h&by=mode"))
        for row in costs(gateway, "mode"):
            assert dollars(row["cost"]) in by_mode
        one = texts(owner.get("/costs?span=24h&tenant=globex&by=mode"))
        assert dollars(told["globex"]) in one
        assert dollars(told["acme"]) not in one
        download = owner.get("/download/costs.csv?by=tenant&since=24h")
        assert download.headers["content-disposition"] == 'attachment; filename="pointsman-costs.csv"'
        rows = list(csv.DictReader(io.StringIO(download.text)))
    assert {row["tenant"]: round(float(row["cost_usd"]) * 1e9) for row in rows} == told


def test_a_tenant_sees_its_own_alone(gateway: ConsoleGateway, told: dict[str, int]) -> None:
    with closing(logged_in(gateway.console_url, gateway.keys["acme"])) as tenant:
        page = texts(tenant.get("/costs?span=24h&by=mode"))
        assert dollars(told["acme"]) in page
        for address in ("/costs?tenant=globex", "/costs?span=24h&by=tenant", "/costs?by=mode&tenant=globex", "/"):
            shown = tenant.get(address)
            assert shown.status_code == 200
            assert "globex" not in shown.text
            assert dollars(told["globex"]) not in shown.text
        own = list(csv.DictReader(io.StringIO(tenant.get("/download/costs.csv?by=tenant&since=24h").text)))
        assert [row["tenant"] for row in own] == ["acme"]
        refused = tenant.get("/download/costs.csv?by=mode&tenant=globex")
        assert refused.status_code == 403
        assert tenant.get("/download/entries.csv").status_code == 404
    with httpx.Client(base_url=gateway.console_url) as nobody:
        assert nobody.get("/download/costs.csv").status_code == 401
        assert nobody.get("/costs", headers={"accept": "text/html"}).status_code == 303


@pytest.mark.parametrize(
    "query",
    ["span=1s", "by=secrets", "measure=x", "page=0", "page=-1", "page=99999999", "tenant=", "tenant=%00", "page=٣"],
)
def test_a_wrong_address_shows_something_sensible(gateway: ConsoleGateway, query: str) -> None:
    with closing(logged_in(gateway.console_url, gateway.admin_key)) as owner:
        assert owner.get(f"/costs?{query}").status_code == 200
