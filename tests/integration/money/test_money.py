"""Prices that change while requests come, the bills they make, and what the command line shows of them."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet
import pytest
from redis import Redis

from pointsman.contracts.config_pools import Prices
from pointsman.contracts.names import Header, RedisKey
from pointsman.contracts.pricing import Usage, cost_of, dollars
from support.admin import admin, invoked, pointsman, refused
from support.gateway import DEEP, FAST, Gateway
from support.policies import within

PAID = {
    **FAST,
    "prices": {
        "input": "0.20",
        "cached_input": 0,
        "output": 1,
        "cache_creation": "1.00",
        "cache_storage": "0.15",
        "cache_call": "0.0015",
    },
}
TWIN = {**PAID, "name": "fast-too", "engine_args": {"simulated": {"decode_speed": 400, "answer_tokens": 24}}}
TENANTS = ({"name": "acme"}, {"name": "globex"})
LATER = 60.0


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("gw")
    with Gateway(folder, pools=[PAID, TWIN, DEEP], tenants=TENANTS) as gateway:
        yield gateway


def ask(gateway: Gateway, tenant: str, mode: str = "no_think") -> tuple[Usage, str, tuple[int, int]]:
    """What one answer used, what its client was told that it cost, and from when until when it took, in ms."""
    at = time.time_ns() // 1_000_000
    body = {"model": "smollm2", "max_tokens": 64, "messages": [{"role": "user", "content": "hello"}]}
    headers = {"authorization": f"Bearer {gateway.keys[tenant]}", Header.MODE: mode}
    answer = httpx.post(f"{gateway.url}/v1/chat/completions", json=body, headers=headers, timeout=30)
    assert answer.status_code == 200, answer.text
    told = answer.json()["usage"]
    cached = told["prompt_tokens_details"]["cached_tokens"]
    reasoning = told["completion_tokens_details"]["reasoning_tokens"]
    usage = Usage(told["prompt_tokens"] - cached, cached, reasoning, told["completion_tokens"] - reasoning)
    return usage, answer.headers[Header.COST_USD], (at, time.time_ns() // 1_000_000)


def entries(gateway: Gateway, **params: Any) -> list[dict[str, Any]]:
    data: list[dict[str, Any]] = admin(gateway, "GET", "/usage/entries", params=params).json()["data"]
    return data


def test_a_bill_uses_the_price_that_held_when_the_request_came(gateway: Gateway) -> None:
    before = {**Prices.model_validate(PAID["prices"]).model_dump()}
    usage, cost, _ = ask(gateway, "acme")
    assert cost == dollars(cost_of(usage, Prices.model_validate(before).price_list()).total)

    dear = {"input": 7, "output": 11, "cache_call": "0.0015"}
    answer = admin(
        gateway, "POST", "/prices", json={"pool": "fast", "prices": dear}, params={"comment": "new year"}
    )
    assert answer.status_code == 201, answer.text
    shown = answer.json()
    assert (shown["same_as"], shown["live"], shown["version"]) == (["fast-too"], True, 0)  # it has not begun
    (version,) = shown["versions"]
    begins = datetime.fromisoformat(version["effective_from"]).timestamp() * 1000
    spans: dict[int, int] = {}
    while not spans.get(1, 0) > 3:  # asked all along, across the moment
        usage, cost, (asked, answered) = ask(gateway, "acme")
        number = 0 if asked < begins else 1
        prices = Prices.model_validate(dear if number else before).price_list()
        if answered < begins or asked > begins + 50:  # else it may have come to the router before or after
            assert cost == dollars(cost_of(usage, prices).total)
            spans[number] = spans.get(number, 0) + 1
    assert spans[0] > 0
    assert admin(gateway, "GET", "/prices/fast-too").json()["version"] == 1
    assert admin(gateway, "GET", "/prices/deep").json()["version"] == 0

    def billed() -> list[int]:
        return [part["price_version"] for entry in entries(gateway) for part in entry["parts"]]

    within(LATER, lambda: len(billed()) >= sum(spans.values()))
    versions = billed()  # of some more, perhaps, that are still being written
    assert sorted(versions) == versions  # in the order in which they came: first the old price, then the new one
    assert set(versions) == {0, 1}

    listed = pointsman(gateway, "prices", "show", "fast").stdout
    assert "now: version 1: 7 input, 7 cached input, 11 output" in listed
    assert "(new year)" in listed
    back = pointsman(gateway, "prices", "end", "fast", "1")
    assert back.stdout.startswith("fast, fast-too: version 1 from")
    within(
        LATER,
        lambda: ask(gateway, "globex")[1] != "0" and admin(gateway, "GET", "/prices/fast").json()["version"] == 0,
    )
    audit = admin(gateway, "GET", "/audit", params={"action": "prices.set"})
    assert {row["object"] for row in audit.json()["data"]} == {"pool:fast", "pool:fast-too"}


def test_prices_that_cannot_be_are_refused_by_their_field(gateway: Gateway) -> None:
    good = {"input": 1, "output": 2}
    soon = datetime.now(UTC) + timedelta(days=1)

    def post(prices: Any, pool: str = "deep", **document: Any) -> tuple[int, str | None]:
        return refused(gateway, "POST", "/prices", json={"pool": pool, "prices": prices, **document})

    assert post({**good, "input": -1}) == (400, "prices.input")
    assert post({**good, "output": 10**9}) == (400, "prices.output")
    assert post({**good, "cache_call": 5_000}) == (400, "prices.cache_call")
    assert post({"input": 1}) == (400, "prices.output")
    assert post({**good, "currency": "EUR"}) == (400, "prices.currency")
    assert post({**good, "input": True}) == (400, "prices.input")
    assert post({**good, "input": "NaN"}) == (400, "prices.input")
    assert post({**good, "discount": 1}) == (400, "prices.discount")
    assert post(good, pool="nobody") == (400, "pool")
    assert post(good, effective_from="2020-01-01T00:00:00Z") == (400, "effective_from")
    assert post(good, effective_from="2026-01-01T00:00:00") == (400, "effective_from")  # of which clock?
    assert post(good, effective_from="9999-01-01T00:00:00Z") == (400, "effective_from")
    assert post(good, effective_from=soon.isoformat(), effective_until=soon.isoformat()) == (400, "effective_until")
    assert admin(gateway, "GET", "/prices/deep").json()["versions"] == []
    until = (soon + timedelta(days=2)).isoformat()
    first = {"effective_from": soon.isoformat(), "effective_until": until}
    made = admin(gateway, "POST", "/prices", json={"pool": "deep", "prices": good, **first})
    assert made.status_code == 201
    between = (soon + timedelta(days=1)).isoformat()
    assert post(good, effective_from=between) == (400, "effective_from")
    assert post(good, effective_until=between) == (400, "effective_until")
    stale = {"if-match": made.headers["etag"]}
    assert admin(gateway, "DELETE", "/prices/deep/1", headers=stale).status_code == 200
    assert admin(gateway, "DELETE", "/prices/deep/1", headers=stale).status_code == 404  # it is taken back already
    late = admin(gateway, "POST", "/prices", json={"pool": "deep", "prices": good}, headers=stale)
    assert late.status_code == 412
    assert [one["withdrawn"] for one in admin(gateway, "GET", "/prices/deep").json()["versions"]] == [True]
    assert refused(gateway, "GET", "/prices/nobody")[0] == 404
    tenant = {"authorization": f"Bearer {gateway.key}"}
    for method, path in (("GET", "/prices"), ("POST", "/prices"), ("GET", "/costs"), ("GET", "/usage/entries")):
        assert httpx.request(method, f"{gateway.url}/admin/v1{path}", headers=tenant).status_code == 401
    page = gateway.client().get("/openapi.json").json()["paths"]
    assert {"get", "post"} <= set(page["/admin/v1/prices"])
    assert "/admin/v1/costs" in page


def test_redis_emptied_and_prices_come_back(gateway: Gateway) -> None:
    with Redis.from_url(gateway.redis_url) as redis:
        known = redis.get(RedisKey.PRICES)
        assert known
        redis.delete(RedisKey.PRICES)
        within(LATER, lambda: redis.get(RedisKey.PRICES) == known)


def test_reports_add_up_to_what_clients_were_told(gateway: Gateway, tmp_path: Path) -> None:
    told = {mode: [Decimal(ask(gateway, "globex", mode)[1]) for _ in range(3)] for mode in ("think", "no_think")}

    def seen() -> int:
        rows = admin(gateway, "GET", "/costs", params={"by": "tenant"}).json()["data"]
        return sum(row["requests"] for row in rows if row["tenant"] == "globex")

    earlier = entries(gateway, tenant="globex", limit=1000)
    within(LATER, lambda: seen() >= len(told["think"]) * 2)
    within(LATER, lambda: gateway.total("pointsman_requests_total", tenant="globex") == seen())
    every = entries(gateway, tenant="globex", limit=1000)
    assert len(every) >= len(earlier)
    bill = sum((Decimal(entry["cost_usd"]) for entry in every), Decimal(0))
    for by in ("", "mode", "tenant,key,model,mode,pool,cache,hour", "day"):
        params = {"by": by, "tenant": "globex", "since": "2h"}
        rows = admin(gateway, "GET", "/costs", params=params).json()["data"]
        assert sum(Decimal(row["cost_usd"]) for row in rows) == bill
        detailed = admin(gateway, "GET", "/usage", params=params).json()["data"]
        assert sum(row["cost"] for row in detailed) == sum(sum(row["costs"].values()) for row in detailed)
        assert sum(row["requests"] for row in detailed) == len(every)
    think = admin(gateway, "GET", "/costs", params={"by": "mode", "tenant": "globex", "mode": "think"}).json()[
        "data"
    ]
    assert [row["mode"] for row in think] == ["think"]
    assert Decimal(think[0]["cost_usd"]) == sum(told["think"])

    options = ("--by", "tenant,mode", "--since", "7d", "--tenant", "globex")
    table = pointsman(gateway, "costs", *options).stdout.splitlines()
    assert table[0].split() == [
        "TENANT",
        "MODE",
        "REQUESTS",
        "INPUT",
        "TOKENS",
        "OUTPUT",
        "TOKENS",
        "US",
        "DOLLARS",
    ]
    assert table[-1].split()[0] == "total"
    assert table[-1].split()[-1] == f"{bill:.6f}"
    assert json.loads(pointsman(gateway, "costs", *options, "--format", "json").stdout)["by"] == ["tenant", "mode"]
    lines = list(csv.DictReader(io.StringIO(pointsman(gateway, "costs", *options, "--format", "csv").stdout)))
    assert sum(Decimal(line["cost_usd"]) for line in lines) == bill
    file = tmp_path / "usage.parquet"
    pointsman(gateway, "usage", "report", *options, "--format", "parquet", "--output", str(file))
    read = pyarrow.parquet.read_table(file).to_pylist()
    assert sum(row["cost_usd"] for row in read) == bill
    assert (
        sum(
            row["answer_cost_usd"]
            + row["reasoning_cost_usd"]
            + row["input_cost_usd"]
            + row["cached_input_cost_usd"]
            for row in read
        )
        == bill
    )
    picture = tmp_path / "costs.png"
    pointsman(gateway, "costs", *options, "--format", "plot", "--output", str(picture))
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    for form in ("csv", "parquet"):
        file = tmp_path / f"ledger.{form}"
        pointsman(gateway, "usage", "export", "--tenant", "globex", "--format", form, "--output", str(file))
        rows = (
            pyarrow.parquet.read_table(file).to_pylist()
            if form == "parquet"
            else list(csv.DictReader(file.read_text().splitlines()))
        )
        assert sum(Decimal(row["cost_usd"]) for row in rows) == bill
        assert [row["id"] for row in rows] == [entry["id"] for entry in every]

    unwritable = invoked(gateway, "usage", "export", "--output", "/nowhere/at/all.csv")
    assert (unwritable.exit_code, unwritable.stderr) == (
        2,
        "/nowhere/at/all.csv can't be written: No such file or directory\n",
    )
    assert sorted(each.name for each in tmp_path.iterdir()) == [
        *("costs.png", "ledger.csv", "ledger.parquet", "usage.parquet"),
    ]

    course = admin(
        gateway, "GET", "/timeseries", params={"by": "mode", "tenant": "globex", "since": "3h", "step": "hour"}
    ).json()
    assert {one["of"]["mode"] for one in course["data"]} == {"think", "no_think"}
    assert dollars(sum(sum(one["values"]) for one in course["data"])) == f"{bill:.9f}"
    assert all(len(one["values"]) == len(course["moments"]) for one in course["data"])
    cut = admin(
        gateway, "GET", "/timeseries", params={"by": "mode", "tenant": "globex", "since": "3h", "limit": 1}
    ).json()
    assert sum(cut["data"][0]["values"]) + sum(cut["others"]["values"]) == int(bill * 10**9)


@pytest.mark.parametrize(
    ("path", "params", "field"),
    [
        ("/costs", {"by": "tenant,secret"}, "by"),
        ("/costs", {"since": "yesterday"}, "since"),
        ("/costs", {"since": "99999999999999d"}, "since"),
        ("/costs", {"since": "9999-12-31T23:59:59-23:59"}, "since"),
        ("/costs", {"since": "1d", "until": "2d"}, "until"),
        ("/usage", {"format": "xml"}, "format"),
        ("/timeseries", {"since": "400d", "step": "hour"}, "since"),
        ("/timeseries", {"by": "hour"}, "by"),
        ("/timeseries", {"step": "tenant"}, "step"),
        ("/usage/entries", {"limit": 5000}, "limit"),
        ("/usage/entries", {"after": -1}, "after"),
    ],
)
def test_reports_of_what_cannot_be_are_refused_by_field(
    gateway: Gateway, path: str, params: dict[str, Any], field: str
) -> None:
    assert refused(gateway, "GET", path, params=params) == (400, field)


def test_corrections_are_entries_of_their_own(gateway: Gateway) -> None:
    usage, cost, _ = ask(gateway, "acme", "think")
    within(LATER, lambda: dollars_of(entries(gateway, tenant="acme", limit=1000)[-1]) == cost)
    entry = entries(gateway, tenant="acme", limit=1000)[-1]

    def bill() -> Decimal:
        return sum(
            (
                Decimal(row["cost_usd"])
                for row in admin(gateway, "GET", "/costs", params={"by": "tenant", "tenant": "acme"}).json()["data"]
            ),
            Decimal(0),
        )

    def post(**fields: Any) -> tuple[int, str | None]:
        return refused(gateway, "POST", "/usage/corrections", json={"entry": entry["id"], "comment": "x", **fields})

    before = bill()
    assert post() == (400, None)
    assert post(void=True, comment="") == (400, "comment")
    assert post(void=True, comment="two\nlines") == (400, "comment")
    assert post(void=True, comment="nothing\0more") == (400, "comment")
    assert post(cost={"answer": "-9"}) == (400, "cost.answer")
    assert post(cost={"answer": "2000000"}) == (400, "cost.answer")
    assert post(cost={"tokens": 1}) == (400, "cost.tokens")
    assert post(void=True, entry="none")[0] == 404
    assert bill() == before
    said = pointsman(gateway, "usage", "correct", entry["id"], "--comment", "goodwill", "--answer", "-0.000001")
    assert "-0.000001000 US dollars to acme" in said.stdout
    assert post(void=True, after=0) == (412, None)
    all_of_it = {"entry": entry["id"], "comment": "all", "void": True, "after": 1}
    assert admin(gateway, "POST", "/usage/corrections", json=all_of_it).status_code == 201
    assert before - bill() == Decimal(cost)
    assert post(void=True) == (400, "void")  # nothing is left
    kept = json.loads(pointsman(gateway, "usage", "entry", entry["id"]).stdout)
    assert kept["cost_usd"] == cost  # what was written stays
    assert [one["comment"] for one in kept["corrections"]] == ["goodwill", "all"]
    assert post(entry=kept["corrections"][0]["id"], void=True)[0] == 404
    tokens = admin(gateway, "GET", "/usage", params={"by": "mode", "tenant": "acme", "mode": "think"}).json()[
        "data"
    ][0]
    assert usage.reasoning > 0
    assert tokens["usage"]["reasoning"] == 0
    assert tokens["requests"] == 1


def dollars_of(entry: dict[str, Any]) -> str:
    return str(entry["cost_usd"])


def test_context_caches_are_charged_once_at_the_price_of_the_time(gateway: Gateway) -> None:
    charge = {
        "id": "july-7",
        "tenant": "acme",
        "pool": "fast",
        "cache_creation": 12_000,
        "cache_storage": 120_000,
        "cache_call": 3,
    }

    def post(**changes: Any) -> tuple[int, str | None]:
        return refused(gateway, "POST", "/usage/charges", json={**charge, **changes})

    assert post(cache_creation=-1) == (400, "cache_creation")
    assert post(id="two words") == (400, "id")
    assert post(id="jul\0i") == (400, "id")
    assert post(comment="a\tb") == (400, "comment")
    assert post(cache_call=10**15) == (400, "cache_call")  # more dollars than a database counts
    assert post(cache_creation=0, cache_storage=0, cache_call=0) == (400, None)
    assert post(tenant="nobody") == (400, "tenant")
    assert post(pool="nobody") == (400, "pool")
    assert post(pool="deep") == (400, "cache_creation")  # which has no price for it
    assert post(at=(datetime.now(UTC) + timedelta(hours=1)).isoformat()) == (400, "at")
    first = admin(gateway, "POST", "/usage/charges", json=charge).json()
    assert first["cost_usd"] == "0.034500000"  # 0.012 + 0.018 + 0.0045
    assert admin(gateway, "POST", "/usage/charges", json=charge).json()["id"] == first["id"]
    assert post(cache_call=4) == (409, "id")
    row = admin(gateway, "GET", "/usage", params={"by": "pool", "tenant": "acme", "pool": "fast"}).json()["data"][0]
    assert (row["usage"]["cache_creation"], row["usage"]["cache_storage"], row["usage"]["cache_call"]) == (
        12_000,
        120_000,
        3,
    )
    assert row["costs"]["cache_call"] == 4_500_000


def as_tenant(gateway: Gateway, name: str, path: str, **params: Any) -> httpx.Response:
    headers = {"authorization": f"Bearer {gateway.keys[name]}"}
    return httpx.get(f"{gateway.url}/v1/{path}", headers=headers, params=params)


def test_a_tenant_sees_what_it_used_and_nobody_elses(gateway: Gateway) -> None:
    def cost(report: httpx.Response) -> int:
        return sum(row["cost"] for row in report.json()["data"])

    def asked(name: str) -> int:
        return sum(row["requests"] for row in as_tenant(gateway, name, "usage").json()["data"])

    before = {name: asked(name) for name in ("acme", "globex")}
    for name in before:
        ask(gateway, name)
    within(LATER, lambda: all(asked(name) > known for name, known in before.items()))
    for name in ("acme", "globex"):
        every = admin(gateway, "GET", "/costs", params={"by": "tenant"}).json()["data"]
        (theirs,) = (row["cost"] for row in every if row["tenant"] == name)
        assert cost(as_tenant(gateway, name, "costs", by="mode")) == theirs > 0
        assert cost(as_tenant(gateway, name, "usage", by="tenant,pool")) == theirs
        assert {row["tenant"] for row in as_tenant(gateway, name, "usage", by="tenant").json()["data"]} == {name}
        (course,) = as_tenant(gateway, name, "timeseries", by="tenant", step="hour", since="2h").json()["data"]
        assert (course["of"], sum(course["values"])) == ({"tenant": name}, theirs)
    for path in ("costs", "usage", "timeseries"):
        refusal = as_tenant(gateway, "acme", path, tenant="globex")
        assert (refusal.status_code, refusal.json()["error"]["param"]) == (403, "tenant")
        assert as_tenant(gateway, "acme", path, tenant="acme").status_code == 200
        admin_key = {"authorization": f"Bearer {gateway.admin_key}"}
        assert httpx.get(f"{gateway.url}/v1/{path}", headers=admin_key).status_code == 401

    policy = {"policy": {"show_cost": False}}
    assert admin(gateway, "PUT", "/policies/acme", json=policy).status_code == 200
    hidden = as_tenant(gateway, "acme", "costs")
    assert (hidden.status_code, hidden.json()["error"]["code"]) == (403, "key_out_of_scope")
    assert as_tenant(gateway, "globex", "costs").status_code == 200
    assert admin(gateway, "DELETE", "/policies/acme").status_code == 200


def test_a_key_is_told_what_it_is(gateway: Gateway) -> None:
    assert as_tenant(gateway, "acme", "whoami").json() | {"key": ""} == {
        "key": "",
        "role": None,
        "tenant": "acme",
        "models": ["smollm2"],
        "expires_at": None,
    }
    url = f"{gateway.url}/v1/whoami"
    owner = httpx.get(url, headers={"authorization": f"Bearer {gateway.admin_key}"}).json()
    assert (owner["role"], owner["tenant"], owner["models"]) == ("owner", None, [])
    assert (
        httpx.get(url).status_code == httpx.get(url, headers={"authorization": "Bearer pk-no"}).status_code == 401
    )
