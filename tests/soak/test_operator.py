"""
The operator with as many objects as one platform shall carry: how long from cold, with how much memory, and how
soon a change of one of them holds, meanwhile and afterwards.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import psutil
import pytest

from pointsman.contracts.names import OperatorMetric
from pointsman.contracts.tenants import key_digest, new_key
from pointsman.operators.kinds import API_VERSION, MODEL_POOL, TENANT
from support import control_plane
from support.admin import admin
from support.control_plane import NoControlPlane
from support.gateway import Gateway, sample_sum, wait_for
from support.operators import CRDS, Operator, install_account
from support.tenancy import Watched, mode_policy, opens, tenant

COLD = 300.0
"""Seconds that an operator may take, from its start, to have looked at everything."""

MEMORY = 300 * 1024 * 1024
"""Bytes that it may hold."""

PROMISED = 2.0
"""Seconds in which a change of one object has reached a running router: the median of some."""

CHANGES = 11


@pytest.mark.timeout(4500)
def test_many_objects(folder: Path, short: bool, say: Callable[[str, object], None]) -> None:
    tenants, pools = (300, 15) if short else (10_000, 500)
    try:
        with (
            control_plane.private(folder / "plane") as (cluster, _),
            cluster.namespace() as namespace,
            Gateway(folder, pools=()) as gateway,
        ):
            cluster.install_crds(*CRDS)
            install_account(cluster, namespace)
            here = Watched(cluster, namespace)
            here.apply(mode_policy("all", threshold=0.4))
            with ThreadPoolExecutor(8) as pool:
                for done in pool.map(here.apply, [*_tenants(tenants), *_pools(pools)]):
                    assert done is None
            with Operator(cluster, namespace, gateway, folder, lease_seconds=15) as operator:
                began = time.monotonic()
                wait_for(lambda: _ready(here) == (tenants, pools), "all of them", operator.process, seconds=3600)
                say("tenants, each with policy and key, and pools", f"{tenants:,}, {pools:,}")
                say("seconds to make all of them", f"{time.monotonic() - began:.0f}")
                say("most memory of the operator meanwhile", _mebibytes(_most_memory(operator)))
                operator.kill()
                last = f"t-{tenants - 1:05}"
                here.merge("tenant", last, {"spec": {"priority": 9}})
                began = time.monotonic()
                operator.start()
                wait_for(lambda: _looked_at(operator)[0] > 0, "its first look", operator.process, seconds=COLD)
                say("seconds for a change to hold meanwhile", f"{_change(here, gateway):.1f}")
                say("tenants that it had looked at by then", f"{_looked_at(operator)[0]:,.0f}")
                wait_for(
                    lambda: _looked_at(operator) >= (tenants, pools) and _queued(operator) == 0,
                    "the cold start",
                    operator.process,
                    seconds=COLD,
                )
                say("seconds from a cold start until all is looked at", f"{time.monotonic() - began:.1f}")
                times = psutil.Process(operator.process.popen.pid).cpu_times()
                say("seconds of its processor time", f"{times.user + times.system:.1f}")
                assert _priority(gateway, last) == 9, "what changed while it was away"
                most = _most_memory(operator)
                say("its most memory", _mebibytes(most))
                assert most < MEMORY
                took = [_change(here, gateway) for _ in range(CHANGES)]
                say(
                    "seconds for a change to hold afterwards, median and most",
                    f"{median(took):.2f}, {max(took):.2f}",
                )
                assert median(took) < PROMISED
    except NoControlPlane as reason:
        pytest.skip(str(reason))


def _change(here: Watched, gateway: Gateway) -> float:
    """Seconds from when a Tenant is given another key until that opens the router."""
    key = new_key()
    document = next(_tenants(1))
    began = time.monotonic()
    here.apply({**document, "spec": {**document["spec"], "keyDigests": [key_digest(key)]}})
    wait_for(lambda: opens(gateway, key), "a change", seconds=COLD)
    return time.monotonic() - began


def _tenants(number: int) -> Iterator[dict[str, Any]]:
    for one in range(number):
        yield tenant(f"t-{one:05}", limits={"concurrency": 5}, policyRef={"name": "all"}, keys=[{"name": "k"}])


def _pools(number: int) -> list[dict[str, Any]]:
    """Pools that sleep: each has its RayService, Secret and disruption budget, and needs nobody to play KubeRay."""
    return [
        {
            "apiVersion": API_VERSION,
            "kind": "ModelPool",
            "metadata": {"name": f"p-{one:05}"},
            "spec": {
                "model": f"m-{one:05}",
                "modes": ["no_think"],
                "engine": "sglang",
                "modelPath": f"/models/{one:05}",
                "tensorParallel": 4,
                "gpu": {"type": "NVIDIA-H100-80GB-HBM3", "perNode": 4},
                "autoscaling": {"minReplicas": 0, "maxReplicas": 4},
                "prices": {"input": "1", "output": "1"},
            },
        }
        for one in range(number)
    ]


def _ready(here: Watched) -> tuple[int, int]:
    """How many Tenants are ready, and how many ModelPools the admin API has taken."""
    found = []
    for kind, wanted in (("tenant", "Ready"), ("modelpool", "Synced")):
        conditions = [one.get("status", {}).get("conditions", ()) for one in here.list(kind)]
        found.append(
            sum(any(one["type"] == wanted and one["status"] == "True" for one in all_) for all_ in conditions)
        )
    return found[0], found[1]


def _most_memory(operator: Operator) -> int:
    """Bytes that the process has held at most."""
    status = Path(f"/proc/{operator.process.popen.pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024  # type: ignore[index]


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:.0f} MiB"


def _metrics(operator: Operator) -> str:
    """Its metrics; empty before it tells any."""
    try:
        return httpx.get(f"http://127.0.0.1:{operator.port}/metrics", timeout=5).text
    except httpx.TransportError:
        return ""


def _looked_at(operator: Operator) -> tuple[float, float]:
    """How many looks at Tenants and at ModelPools it has finished since its start, without those that failed."""
    text = _metrics(operator)
    done = [
        sample_sum(text, OperatorMetric.RECONCILED, kind=kind.name, outcome="done") for kind in (TENANT, MODEL_POOL)
    ]
    return done[0], done[1]


def _queued(operator: Operator) -> float:
    return sample_sum(_metrics(operator), OperatorMetric.QUEUED)


def _priority(gateway: Gateway, name: str) -> int:
    document: dict[str, Any] = admin(gateway, "GET", f"/tenants/{name}").json()["document"]
    priority: int = document["priority"]
    return priority
