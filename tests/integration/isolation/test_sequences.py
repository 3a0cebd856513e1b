"""Whatever two tenants do in whatever order: neither is given, sees, pays for or ends anything of the other's."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from pointsman.contracts.names import Header
from pointsman.store.database import Database, database_url
from pointsman.store.ledger import LedgerStore
from support.gateway import Gateway, wait_for

PATH = "/v1/chat/completions"
TENANTS = ("alpha", "beta")
OTHER = {"alpha": "beta", "beta": "alpha"}

MADE: dict[str, set[str]] = {tenant: set() for tenant in TENANTS}
"""The decisions of all sequences."""

_rounds = itertools.count()

QUESTIONS = st.integers(0, 1)
HEADERS = st.just({}) | st.dictionaries(
    st.sampled_from(
        [
            *(Header.CACHE_CONTROL, Header.IDEMPOTENCY_KEY, Header.REQUEST_ID, Header.DECISION_ID, Header.CACHE),
            *(Header.PEER, "x-pointsman-tenant", "x-tenant-id", "cookie", "x-request-rid"),
        ]
    ),
    st.sampled_from(["refresh", "force", "bypass", "shared-name", "alpha", "beta", "1"]),
    max_size=2,
)
FIELDS = st.sampled_from(
    [
        *({}, {}, {"stream": True}, {"user": "alpha"}, {"user": "beta"}, {"metadata": {"tenant": "alpha"}}),
        *({"temperature": 1}, {"seed": 1}, {"max_tokens": 4}),
    ]
)
DEEDS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.sampled_from(TENANTS), QUESTIONS, HEADERS, FIELDS),
        st.tuples(st.just("begin"), st.sampled_from(TENANTS), QUESTIONS, HEADERS, FIELDS),
        st.tuples(st.just("leave"), st.sampled_from(TENANTS), QUESTIONS, HEADERS, FIELDS),
        st.tuples(st.just("look"), st.sampled_from(TENANTS), QUESTIONS, HEADERS, FIELDS),
    ),
    min_size=4,
    max_size=14,
)


@dataclass
class World:
    """What one sequence of deeds has come to, by tenant."""

    gateway: Gateway
    clients: dict[str, httpx.Client]
    asked: dict[str, set[str]] = field(default_factory=lambda: {tenant: set() for tenant in TENANTS})
    ids: dict[str, set[str]] = field(default_factory=lambda: {tenant: set() for tenant in TENANTS})
    decisions: dict[str, set[str]] = field(default_factory=lambda: {tenant: set() for tenant in TENANTS})
    streams: dict[str, list[Any]] = field(default_factory=lambda: {tenant: [] for tenant in TENANTS})

    def ask(self, tenant: str, body: dict[str, Any], headers: dict[str, str]) -> None:
        """One whole answer; what it is called was never given to the other one."""
        answer = self.clients[tenant].post(PATH, json=body, headers=headers)
        self.compare(tenant, body, answer)
        if answer.status_code != 200:
            assert answer.status_code in (400, 409, 422), answer.text
            assert OTHER[tenant] not in answer.json()["error"]["message"].replace(headers_said(headers), "")
            return
        self.note(tenant, answer, id_of(answer.text, stream="stream" in body and body["stream"]))

    def compare(self, tenant: str, body: dict[str, Any], answer: httpx.Response) -> None:
        """Who is given what was answered before has asked it before."""
        question = body["messages"][0]["content"]
        assert answer.headers.get(Header.CACHE) != "hit" or question in self.asked[tenant]
        self.asked[tenant].add(question)

    def note(self, tenant: str, answer: httpx.Response, identity: str) -> None:
        assert identity not in self.ids[OTHER[tenant]], "an answer of the other one"
        assert answer.headers[Header.DECISION_ID] not in self.decisions[OTHER[tenant]]
        self.ids[tenant].add(identity)
        self.decisions[tenant].add(answer.headers[Header.DECISION_ID])

    def begin(self, tenant: str, body: dict[str, Any], headers: dict[str, str]) -> None:
        """A stream that goes on while others do things."""
        plain = {name: value for name, value in headers.items() if name != Header.IDEMPOTENCY_KEY}
        context = self.clients[tenant].stream("POST", PATH, json={**body, "stream": True}, headers=plain)
        answer = context.__enter__()
        self.compare(tenant, body, answer)
        if answer.status_code == 200:
            self.streams[tenant].append((context, answer))
        else:
            context.__exit__(None, None, None)

    def leave(self, tenant: str) -> None:
        """Go away from all of its streams at once."""
        for context, _ in self.streams[tenant]:
            context.__exit__(None, None, None)
        self.streams[tenant].clear()

    def look(self, tenant: str) -> None:
        """Look for decisions of the other one's among its own."""
        listed = self.clients[tenant].get("/v1/decisions", params={"limit": 200}).json()["data"]
        assert {one["tenant"] for one in listed} <= {tenant}
        assert not self.decisions[OTHER[tenant]] & {one["id"] for one in listed}

    def end(self) -> None:
        """Whose streams nobody left come to their end, whatever the other one did."""
        for tenant in TENANTS:
            for context, answer in self.streams[tenant]:
                text = answer.read().decode()
                assert text.rstrip().endswith("data: [DONE]")
                assert '"error"' not in text
                self.note(tenant, answer, id_of(text, stream=True))
                context.__exit__(None, None, None)


def headers_said(headers: dict[str, str]) -> str:
    return next(iter(headers.values()), "\0")


def id_of(text: str, *, stream: bool) -> str:
    """What the engine called the answer."""
    if not stream:
        return str(json.loads(text)["id"])
    first = next(line for line in text.splitlines() if line.startswith("data: {"))
    return str(json.loads(first.removeprefix("data: "))["id"])


@pytest.fixture(scope="module")
def clients(gateway: Gateway) -> dict[str, httpx.Client]:
    return {
        tenant: httpx.Client(
            base_url=gateway.url, headers={"authorization": f"Bearer {gateway.keys[tenant]}"}, timeout=60
        )
        for tenant in TENANTS
    }


@given(deeds=DEEDS)
@settings(max_examples=30, deadline=None, phases=[Phase.reuse, Phase.generate])  # to shrink one takes minutes
def test_no_sequence_lets_one_into_the_others(
    gateway: Gateway, clients: dict[str, httpx.Client], deeds: list[tuple[str, str, int, Any, Any]]
) -> None:
    number = next(_rounds)
    engine = gateway.engines["fast"][0]
    engine.forget()
    world = World(gateway, clients)
    for deed, tenant, question, headers, fields in deeds:
        text = f"Round {number}, question {question}?"  # equal for both
        body = {"model": "smollm2:no_think", "messages": [{"role": "user", "content": text}]}
        body.update({"temperature": 0, **fields})
        if deed == "ask":
            world.ask(tenant, body, headers)
        elif deed == "begin":
            world.begin(tenant, body, headers)
        elif deed == "leave":
            world.leave(tenant)
        else:
            world.look(tenant)
    world.end()
    for tenant in TENANTS:
        world.look(tenant)
    got = engine.received()
    salts = {one["body"]["cache_salt"] for one in got}
    assert len(salts) <= len(TENANTS)
    rids = [one["body"]["rid"] for one in got]
    assert len(rids) == len(set(rids))
    assert not any(one != other and one.startswith(other) for one in rids for other in rids)
    for tenant in TENANTS:
        MADE[tenant] |= world.decisions[tenant]
    text = json.dumps(got)
    assert "x-tenant" not in text
    assert gateway.keys["alpha"] not in text


def test_no_decision_of_the_other_one_is_found_by_its_name(gateway: Gateway) -> None:
    """All at once: one that is not there is waited for, in case it is only late."""
    assert all(MADE.values())

    async def look(tenant: str) -> set[int]:
        headers = {"authorization": f"Bearer {gateway.keys[tenant]}"}
        async with httpx.AsyncClient(base_url=gateway.url, headers=headers, timeout=200) as client:
            paths = [f"/v1/decisions/{identity}" for identity in MADE[OTHER[tenant]]]
            asked = [client.get(path) for path in paths]
            said = [client.post(f"{path}/feedback", json={"should_think": True}) for path in paths]
            return {answer.status_code for answer in await asyncio.gather(*asked, *said)}

    for tenant in TENANTS:
        assert asyncio.run(look(tenant)) == {404}
    mine = MADE["alpha"].copy()
    with httpx.Client(headers={"authorization": f"Bearer {gateway.keys['alpha']}"}, timeout=60) as client:
        found = client.get(f"{gateway.url}/v1/decisions/{mine.pop()}")
    assert (found.status_code, found.json()["tenant"]) == (200, "alpha")


def test_each_pays_for_its_own_and_nothing_is_booked_on_the_other(gateway: Gateway) -> None:
    """Equal questions at equal times: what each was told is what is in the ledger in its name."""
    told: dict[str, set[str]] = {tenant: set() for tenant in TENANTS}
    for number in range(10):
        for tenant in TENANTS:
            headers = {"authorization": f"Bearer {gateway.keys[tenant]}", Header.REQUEST_ID: f"{tenant}-{number}"}
            said = [{"role": "user", "content": f"Equal {number}?"}]
            body = {"model": "smollm2:no_think", "messages": said, "temperature": 0}
            answer = httpx.post(f"{gateway.url}{PATH}", json=body, headers=headers, timeout=60)
            assert answer.headers[Header.CACHE] != "hit"
            told[tenant].add(f"{tenant}-{number}")
    ledger = LedgerStore(Database(database_url(None, gateway.state)))

    def booked(tenant: str) -> Counter[str]:
        entries = ledger.entries(tenant=tenant, limit=10_000)
        return Counter(entry.request_id for _, entry in entries if entry.request_id.startswith(tuple(TENANTS)))

    wait_for(lambda: all(told[tenant] <= set(booked(tenant)) for tenant in TENANTS), "the ledger")
    for tenant in TENANTS:
        mine = booked(tenant)
        assert {name for name in mine if name.startswith(f"{OTHER[tenant]}-")} == set()
        assert {mine[name] for name in told[tenant]} == {1}
