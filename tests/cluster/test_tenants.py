"""Tenants and ModePolicies of a real API server, with keys in Secrets, at a real gateway."""

from __future__ import annotations

import base64
import random
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import Any

import httpx
import pytest

from pointsman.contracts.names import Header
from pointsman.contracts.tenants import is_well_formed, key_digest, new_key
from support.admin import admin
from support.control_plane import Cluster
from support.convergence import Convergence
from support.gateway import FAST, Gateway, wait_for
from support.operators import CRDS, Operator, install_account
from support.policies import within
from support.tenancy import Watched, mode_policy, opens, tenant

PROMISED = 2.0
"""Seconds in which a change has reached a running router, of the median of some: one may share the machine."""

SOON = 10.0
"""Seconds in which any of them has."""

LATER = 60.0
"""Seconds for what is not measured, on a busy machine."""

MANY = 200


@pytest.fixture(scope="module")
def here(cluster: Cluster) -> Iterator[Watched]:
    with cluster.namespace("tenants") as namespace:
        yield Watched(cluster, namespace)


@pytest.fixture(scope="module")
def elsewhere(cluster: Cluster) -> Iterator[Watched]:
    with cluster.namespace("elsewhere") as namespace:
        yield Watched(cluster, namespace)


@pytest.fixture(scope="module")
def gateway(fork_server: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    both = {**FAST, "name": "both", "modes": ["think", "no_think"], "family": "qwen3"}
    with Gateway(tmp_path_factory.mktemp("gw"), pools=[both]) as gateway:
        yield gateway


@pytest.fixture(scope="module", autouse=True)
def operator(
    cluster: Cluster,
    gateway: Gateway,
    here: Watched,
    elsewhere: Watched,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Operator]:
    cluster.install_crds(*CRDS)
    install_account(cluster, here.namespace, elsewhere.namespace)
    folder = tmp_path_factory.mktemp("operator")
    with Operator(
        cluster, here.namespace, gateway, folder, also=(elsewhere.namespace,), lease_seconds=15
    ) as operator:
        operator.until_leading()
        yield operator


def mode_of(gateway: Gateway, key: str, **fields: Any) -> tuple[int, str | None, str | None]:
    """Status, mode and source of a short answer."""
    body = {"model": "smollm2", "max_tokens": 16, "messages": [{"role": "user", "content": "hello"}], **fields}
    headers = {"authorization": f"Bearer {key}"}
    answer = httpx.post(f"{gateway.url}/v1/chat/completions", json=body, headers=headers, timeout=30)
    return answer.status_code, answer.headers.get(Header.MODE), answer.headers.get(Header.MODE_SOURCE)


def reaches(change: Callable[[], None], seen: Callable[[], bool]) -> float:
    """Seconds from the beginning of a change until a client sees it."""
    begun = time.monotonic()
    change()
    within(SOON, seen)
    return time.monotonic() - begun


def live_keys(gateway: Gateway, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = admin(gateway, "GET", "/keys", params={"tenant": name, "live": True}).json()[
        "data"
    ]
    return found


def test_a_tenant_its_policy_and_its_key(gateway: Gateway, operator: Operator, here: Watched) -> None:
    """From nothing to an answer; then each change is at the router within two seconds; and away again."""
    name = "shop"
    here.apply(tenant(name, policyRef={"name": "rules"}, keys=[{"name": "web"}]))
    here.becomes(name, "False", "WaitsForPolicy")
    assert admin(gateway, "GET", f"/tenants/{name}").status_code == 404  # rather none than one without its rules

    here.apply(mode_policy("rules", rules=[{"name": "always", "mode": "think"}]))
    here.becomes(name, "True", "Ready")
    key = here.key(f"{name}-web")
    assert is_well_formed(key)
    within(LATER, lambda: mode_of(gateway, key) == (200, "think", "policy"))
    there = here.get("tenant", name)
    (told,) = there["status"]["keys"]
    assert (told["name"], told["secretName"]) == ("web", f"{name}-web")
    assert [one["id"] for one in live_keys(gateway, name)] == [told["keyId"]]
    owner = here.get("secret", f"{name}-web")["metadata"]["ownerReferences"][0]
    assert (owner["kind"], owner["uid"], owner["controller"]) == ("Tenant", there["metadata"]["uid"], True)
    held = admin(gateway, "GET", f"/tenants/{name}").json()
    assert (held["managed_by"], held["origin"]) == ("kubernetes", f"{here.namespace}/{name}")
    here.becomes("rules", "True", "Ready", of="modepolicy")
    within(LATER, lambda: here.get("modepolicy", "rules")["status"].get("tenants") == 1)

    policies = [
        reaches(
            lambda mode=mode: here.apply(mode_policy("rules", rules=[{"name": "never", "mode": mode}])),
            lambda mode=mode: mode_of(gateway, key) == (200, mode, "policy"),
        )
        for mode in ("no_think", "think") * 4 + ("no_think",)
    ]
    had = [new_key() for _ in range(3)]
    tenants = [
        reaches(
            lambda digests=digests: here.apply(
                tenant(name, keyDigests=digests, policyRef={"name": "rules"}, keys=[{"name": "web"}])
            ),
            lambda digests=digests, one=one: opens(gateway, one) == bool(digests),
        )
        for one in had
        for digests in ([key_digest(one)], [])
    ]
    print(
        "policies after", *map("{:.2f}".format, policies), "s, tenants after", *map("{:.2f}".format, tenants), "s"
    )
    assert median(policies) < PROMISED
    assert median(tenants) < PROMISED
    assert key not in here.everything() + operator.log() + gateway.logs()

    here.delete("modepolicy", "rules")  # no rule is dropped by accident
    here.becomes(name, "False", "PolicyNotFound")
    assert admin(gateway, "GET", f"/policies/{name}").json()["document"]["policy"]["rules"][0]["name"] == "never"
    here.apply(tenant(name))
    here.becomes(name, "True", "Ready")
    assert admin(gateway, "GET", f"/policies/{name}").json()["version"] == 0
    assert live_keys(gateway, name) == []
    within(LATER, lambda: here.get("secret", f"{name}-web") is None)
    here.delete("tenant", name)
    within(LATER, lambda: admin(gateway, "GET", f"/tenants/{name}").status_code == 404)


def test_keys_are_replaced_and_never_lost(gateway: Gateway, here: Watched) -> None:
    name = "keys"
    mine = [{"name": "a"}, {"name": "b", "modes": ["no_think"], "secretName": "other-b"}]
    old_digest = key_digest(had := new_key())
    here.apply(tenant(name, keys=mine, keyDigests=[old_digest]))
    here.becomes(name, "True", "Ready")
    first, other = here.key(f"{name}-a"), here.key("other-b")
    within(LATER, lambda: opens(gateway, first) and opens(gateway, other) and opens(gateway, had))

    here.annotate("tenant", name, rotate="a@2026-01")  # one of them
    within(LATER, lambda: here.key(f"{name}-a") != first)
    second = here.key(f"{name}-a")
    within(LATER, lambda: opens(gateway, second))
    assert opens(gateway, first)  # for the overlap
    assert here.key("other-b") == other

    (held,) = [one for one in live_keys(gateway, name) if one["digest"] == key_digest(second)]
    assert admin(gateway, "DELETE", f"/keys/{held['id']}").status_code == 200  # it leaked, say
    here.annotate("tenant", name, rotate="a@2026-02")
    within(LATER, lambda: here.key(f"{name}-a") not in (first, second))
    third = here.key(f"{name}-a")
    within(LATER, lambda: opens(gateway, third) and not opens(gateway, second))

    here.delete("secret", f"{name}-a")  # clients that have it go on
    within(LATER, lambda: here.get("secret", f"{name}-a") is not None and here.condition(name)[0] == "True")
    within(LATER, lambda: is_well_formed(here.key(f"{name}-a")))
    fourth = here.key(f"{name}-a")
    assert fourth != third
    within(LATER, lambda: opens(gateway, fourth) and opens(gateway, third))

    forged = base64.b64encode(new_key().encode()).decode()
    here.merge("secret", "other-b", {"data": {"key": forged}})
    within(LATER, lambda: opens(gateway, here.key("other-b")))
    assert mode_of(gateway, here.key("other-b"), reasoning_effort="high")[0] == 403

    mine[1] = {"name": "b", "modes": ["think"], "secretName": "other-b", "overlap": 0}
    here.apply(tenant(name, keys=mine[1:]))  # another scope; no `a`, and no digests any more
    within(LATER, lambda: not opens(gateway, fourth) and not opens(gateway, had))
    within(LATER, lambda: here.get("secret", f"{name}-a") is None)
    within(LATER, lambda: mode_of(gateway, here.key("other-b"), reasoning_effort="high")[:2] == (200, "think"))
    assert {one["scope"]["modes"][0] for one in live_keys(gateway, name) if not one.get("expires_at")} == {"think"}


def test_what_is_not_the_tenants_is_left_alone(gateway: Gateway, here: Watched, elsewhere: Watched) -> None:
    """Secrets of others, names of others, tenants that people made; and what is paused."""
    name = "one"
    precious = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "precious"},
        "stringData": {"password": "theirs"},
    }
    here.apply(precious)
    here.apply(tenant(name, keys=[{"name": "k", "secretName": "precious"}]))
    assert "precious" in here.becomes(name, "False", "SecretTaken")
    assert set(here.get("secret", "precious")["data"]) == {"password"}
    assert live_keys(gateway, name) == []

    elsewhere.apply(tenant(name, priority=9, keys=[{"name": "k"}]))
    message = elsewhere.becomes(name, "False", "NameTaken")
    assert f"{here.namespace}/{name}" in message
    assert elsewhere.get("secret", f"{name}-k") is None
    assert admin(gateway, "GET", f"/tenants/{name}").json()["document"].get("priority") == 5
    here.delete("tenant", name)  # bills and cached answers go by names: it is not the other one's now
    within(LATER, lambda: admin(gateway, "GET", f"/tenants/{name}").status_code == 404)
    within(LATER, lambda: "belongs to another" in elsewhere.condition(name)[2])
    here.apply(tenant(name, priority=3))
    here.becomes(name, "True", "Ready")
    assert admin(gateway, "GET", f"/tenants/{name}").json()["document"]["priority"] == 3

    made = "made"
    assert admin(gateway, "POST", "/tenants", json={"name": made, "priority": 1}).status_code == 201
    here.apply(tenant(made, priority=8))
    here.becomes(made, "False", "ManagedElsewhere")
    here.apply(tenant(made, priority=8, models=["nobody"]))
    assert "spec.models[0]" in here.becomes(made, "False", "Refused")
    here.annotate("tenant", made, adopt="true")
    here.apply(tenant(made, priority=8))
    here.becomes(made, "True", "Ready")
    assert admin(gateway, "GET", f"/tenants/{made}").json()["managed_by"] == "kubernetes"

    here.annotate("tenant", made, paused="true")
    here.becomes(made, "True", "Annotation", "Paused")
    here.apply(tenant(made, priority=2))
    here.apply(tenant(name, priority=4))  # comes after it, and is done
    within(LATER, lambda: admin(gateway, "GET", f"/tenants/{name}").json()["document"]["priority"] == 4)
    assert admin(gateway, "GET", f"/tenants/{made}").json()["document"]["priority"] == 8
    here.annotate("tenant", made, paused=None)
    within(LATER, lambda: admin(gateway, "GET", f"/tenants/{made}").json()["document"]["priority"] == 2)


def test_a_candidate_that_the_platform_sends_back_is_told_soon(gateway: Gateway, here: Watched) -> None:
    """Long before all lists are compared; and it stays back."""
    name, rules = "staged", "careful"
    candidate = {"policy": {"rules": [{"name": "always", "mode": "think"}]}, "stage": "enforce"}
    candidate["limits"] = {"disagreement": 0.1, "atLeast": 5}
    here.apply(mode_policy(rules, rules=[{"name": "never", "mode": "no_think"}], candidate=candidate))
    here.apply(tenant(name, policyRef={"name": rules}, keys=[{"name": "k"}]))
    here.becomes(name, "True", "Ready")
    here.becomes(rules, "True", "Kept", "CandidateKept", of="modepolicy")
    key = here.key(f"{name}-k")

    def told() -> bool:
        mode_of(gateway, key)
        return here.condition(rules, "CandidateKept", of="modepolicy")[1] == "SentBack"

    within(LATER, told)
    assert f"{name}: back from enforce to canary" in here.condition(rules, "CandidateKept", of="modepolicy")[2]
    here.merge("tenant", name, {"spec": {"priority": 7}})  # it is looked at once more
    within(LATER, lambda: admin(gateway, "GET", f"/tenants/{name}").json()["document"]["priority"] == 7)
    assert admin(gateway, "GET", f"/policies/{name}").json()["document"]["candidate"]["stage"] == "canary"
    here.delete("tenant", name)
    here.delete("modepolicy", rules)


def test_the_admin_process_is_away(gateway: Gateway, here: Watched) -> None:
    name = "late"
    here.apply(tenant(name, keys=[{"name": "k"}]))
    here.becomes(name, "True", "Ready")
    gateway.admin.stop()
    here.apply(tenant(name, priority=7, keys=[{"name": "k"}]))
    here.becomes(name, "Unknown", "AdminUnavailable")
    gateway.start_admin()
    here.becomes(name, "True", "Ready")
    assert admin(gateway, "GET", f"/tenants/{name}").json()["document"]["priority"] == 7


def settled(gateway: Gateway, here: Watched, prefix: str, wanted: dict[str, int]) -> str:
    """
    What is not as it should be where the Tenants of `wanted` (name: priority) and no others shall be; empty: all.

    Each has one key, which is in its Secret and is the only one.
    """
    page = admin(gateway, "GET", "/tenants", params={"limit": 1000, "managed_by": "kubernetes"}).json()["data"]
    mine = {one["name"]: one["document"]["priority"] for one in page if one["name"].startswith(prefix)}
    if mine != wanted:
        return f"tenants differ in {sorted(mine.items() ^ wanted.items())[:4]}"
    labelled = here.list("secret", labelSelector="pointsman.dev/tenant-key")
    secrets = [one for one in labelled if one["metadata"]["name"].startswith(prefix)]
    inside = {key_digest(base64.b64decode(one["data"]["key"]).decode()) for one in secrets if one.get("data")}
    keys = admin(gateway, "GET", "/keys", params={"limit": 1000, "live": True}).json()["data"]
    owned = [one for one in keys if one.get("tenant") in wanted]
    if len(secrets) != len(wanted) or {one["digest"] for one in owned} != inside or len(owned) != len(wanted):
        return f"{len(secrets)} Secrets with {len(inside)} keys, and {len(owned)} keys, for {len(wanted)} tenants"
    objects = [one for one in here.list("tenant") if one["metadata"]["name"] in wanted]
    ready = sum(
        {"type": "Ready", "status": "True", "observedGeneration": one["metadata"]["generation"]}.items()
        <= one["status"]["conditions"][0].items()
        for one in objects
        if one.get("status", {}).get("conditions")
    )
    return "" if ready == len(wanted) else f"{ready} of {len(wanted)} are ready"


def converges(look: Callable[[], str], operator: Operator) -> float:
    """
    Wait until nothing is wrong; the seconds it took. Fails with what is still wrong when it is late.
    """
    convergence = Convergence()
    while wrong := look():
        assert not convergence.late(), f"{wrong}\n{operator.log()[-3000:]}"
        time.sleep(0.5)
    return convergence.seconds()


@pytest.mark.long
@pytest.mark.timeout(400)  # on a busy machine
def test_two_hundred_at_once_while_the_operator_is_killed(
    gateway: Gateway, operator: Operator, here: Watched
) -> None:
    """All are made, half of them changed, some deleted; the operator is killed meanwhile, at moments of chance."""
    prefix = "many"
    chance = random.Random(6)
    wanted = {f"{prefix}-{number}": 5 for number in range(MANY)}

    def objects(names: list[str]) -> list[dict[str, Any]]:
        return [tenant(name, priority=wanted[name], keys=[{"name": "k"}]) for name in names]

    here.apply(*objects(list(wanted)))
    took = converges(lambda: settled(gateway, here, prefix, wanted), operator)

    changed = chance.sample(sorted(wanted), MANY // 2)
    wanted.update({name: 1 + number % 4 for number, name in enumerate(changed)})
    gone = chance.sample(sorted(wanted.keys() - set(changed)), MANY // 5)
    new = {f"{prefix}-new-{number}": 5 for number in range(MANY // 5)}
    with ThreadPoolExecutor(2) as pool:
        wanted.update(new)
        applying = pool.submit(here.apply, *objects([*changed, *new]))
        deleting = pool.submit(here.delete, "tenant", *gone)
        for _ in range(6):
            time.sleep(chance.uniform(0.2, 1.5))
            operator.kill()
            operator.start()
        applying.result()
        deleting.result()
    for name in gone:
        del wanted[name]
    again = converges(lambda: settled(gateway, here, prefix, wanted), operator)
    print(f"{MANY} tenants after {took:.1f} s; after six SIGKILLs {again:.1f} s")

    def written() -> tuple[Any, ...]:
        audit = admin(gateway, "GET", "/audit", params={"limit": 1}).json()["data"]
        objects = [*here.list("tenant"), *here.list("secret")]
        return audit, {one["metadata"]["uid"]: one["metadata"]["resourceVersion"] for one in objects}

    before = written()
    operator.kill()
    here.delete("tenant", *(last := sorted(wanted)[:3]))  # while nobody looks
    for name in last:
        del wanted[name]
    begun = len(operator.log())
    operator.start()
    converges(lambda: settled(gateway, here, prefix, wanted), operator)
    after = written()
    assert after[1].items() <= before[1].items()  # the whole stream of events once more, and nothing else written
    assert not re.search(r"Traceback|failed", operator.log()[begun:])
    here.delete("tenant", *wanted)
    wait_for(lambda: settled(gateway, here, prefix, {}) == "", "all of them to be gone", seconds=LATER)
