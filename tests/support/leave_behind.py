"""Store what a release leaves behind, for later ones to be tested against: before a change of a format, say.

    cd tests && python -m support.leave_behind CHECKOUT integration/upgrade/samples/NAME.tar.xz

runs the processes of CHECKOUT, has them keep something of everything that is kept, kills the router while entries
are in its spool alone, and packs the state folder, the copy of Redis, and what a later release must make of them.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import httpx
from redis import Redis

from pointsman.contracts.names import Env, Header, StateFile
from support.admin import admin
from support.gateway import DEEP, FAST, SECRET, Gateway, Process, wait_for

ROOMS = ("platform", "router", "operators", "dashboards")
STORED = 5
"""Requests whose entries are in SQL."""
SPOOLED = 4
"""Requests whose entries are in the router's spool alone."""


class Earlier(Gateway):
    """The processes of another checkout."""

    def __init__(self, checkout: Path, folder: Path) -> None:
        super().__init__(folder, pools=(FAST, DEEP), tenants=({"name": "demo"},))
        self._path = os.pathsep.join(str(checkout / room) for room in ROOMS)

    def _command(self, *arguments: str) -> Process:
        env = {Env.REPLICA_SECRET: SECRET, "PYTHONPATH": self._path}
        return self._process(arguments[0], [sys.executable, "-m", "pointsman.cli", *arguments], env)


def ask(gateway: Gateway, key: str) -> httpx.Response:
    """A short question with `key`."""
    body = {"model": "smollm2", "max_tokens": 16, "messages": [{"role": "user", "content": "hello"}]}
    headers = {"authorization": f"Bearer {key}"}
    return httpx.post(f"{gateway.url}/v1/chat/completions", json=body, headers=headers, timeout=30)


def told(answer: httpx.Response) -> Any:
    """What the admin API says where it does what it is asked for."""
    answer.raise_for_status()
    return answer.json()


def requests_of(gateway: Gateway, tenant: str) -> int:
    """Requests of `tenant` that are in SQL, whenever they were."""
    asked = {"by": "tenant", "tenant": tenant, "since": "2026-01-01"}
    return sum(row["requests"] for row in told(admin(gateway, "GET", "/usage", params=asked))["data"])


def lived(gateway: Gateway) -> dict[str, Any]:
    """Have something kept of everything; what must be so afterwards. Ends with router and ledger writer killed."""
    told(admin(gateway, "PUT", "/tenants/team", json={"priority": 7, "limits": {"concurrency": 9}}))
    key = told(admin(gateway, "POST", "/keys", json={"tenant": "team", "label": "kept"}))["key"]
    revoked = told(admin(gateway, "POST", "/keys", json={"tenant": "team", "label": "revoked"}))
    told(admin(gateway, "DELETE", f"/keys/{revoked['id']}"))
    policy = {"policy": {"rules": [{"name": "always", "mode": "think"}]}}
    told(admin(gateway, "PUT", "/policies/team", json=policy, params={"comment": "as ever"}))
    wait_for(lambda: ask(gateway, key).headers.get(Header.MODE_SOURCE) == "policy", "the policy", seconds=60)
    price = {"pool": "deep", "prices": {"input": "0.5", "output": "1.5"}, "effective_from": "2035-01-01T00:00:00Z"}
    told(admin(gateway, "POST", "/prices", json=price))
    pool = {"model": "outside", "modes": ["think"], "engine": "openai", "urls": ["http://127.0.0.1:9"]}
    made = admin(gateway, "PUT", "/pools/outside", json={**pool, "prices": {"input": "1", "output": "2"}})
    for _ in range(STORED):
        ask(gateway, gateway.key).raise_for_status()
    wait_for(lambda: requests_of(gateway, "demo") == STORED, "entries to be in SQL", seconds=60)
    gateway.ledger_writer.popen.kill()
    gateway.ledger_writer.popen.wait()
    for _ in range(SPOOLED):
        ask(gateway, gateway.key).raise_for_status()
    known = gateway.state / StateFile.KNOWN_PRICES
    wait_for(lambda: len(known.read_bytes()) > 2, "the prices to be in the file of what is known", seconds=60)
    gateway.router.popen.kill()
    gateway.router.popen.wait()
    store = Redis.from_url(gateway.redis_url)
    store.delete("pointsman:ledger")  # what the writer had not taken is in the spool all the same
    store.save()
    return {
        "keys": {"demo": gateway.key, "team": key},
        "revoked": revoked["key"],
        "admin_key": gateway.admin_key,
        "requests": {"demo": STORED + SPOOLED},
        "pools": ["outside"] if made.is_success else [],
    }


def main(checkout: Path, target: Path) -> None:
    folder = Path(tempfile.mkdtemp(prefix="left"))  # a short path: Unix sockets lie in it
    try:
        with Earlier(checkout, folder) as gateway:
            facts = lived(gateway)
            gateway.admin.stop()
        (folder / "facts.json").write_text(json.dumps(facts, indent=1))
        for each in (gateway.socket_path(), gateway.state / "metrics"):
            shutil.rmtree(each) if each.is_dir() else each.unlink(missing_ok=True)
        with tarfile.open(target, "w:xz") as packed:
            for name in ("facts.json", "config.yaml", "dump.rdb", "state"):
                packed.add(folder / name, name)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]))
