"""Processes as a container starts them: told by the environment, with metrics on a port of their own."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from pointsman.cli import up
from pointsman.cli.main import app
from pointsman.contracts.names import Env, Metric, StateFile
from pointsman.contracts.tenants import key_digest, new_key
from support import forking
from support.gateway import Process, free_port, get_binary_path, wait_for

LOCAL = Path(up.__file__).with_name("local.yaml")


@pytest.mark.parametrize("command", ["admin", "ledger-writer"])
def test_everything_but_the_file_comes_from_the_environment(command: str, tmp_path: Path) -> None:
    key, port, database = new_key(), free_port(), tmp_path / "elsewhere.db"
    socket = tmp_path / "valkey.sock"
    valkey = Process(
        [str(get_binary_path()), "--port", "0", "--unixsocket", str(socket), "--save", ""], tmp_path / "valkey.log"
    )
    told = {
        Env.REDIS_URL: f"unix://{socket}",
        Env.DATABASE_URL: f"sqlite:///{database}",
        Env.ADMIN_KEY_DIGESTS: f"{key_digest(new_key())}, {key_digest(key)}",
        Env.LOG_FORMAT: "json",
    }
    options = ["--config", str(LOCAL), "--state-dir", str(tmp_path / "state"), "--metrics-port", str(port)]
    process = Process([*forking.COMMAND, command, *options], tmp_path / "log", told)
    try:
        page = f"http://127.0.0.1:{port}"
        wait_for(lambda: answers(f"{page}/healthz"), f"{command} to answer", process)
        wait_for(database.exists, "the database that the environment names", process)
        metrics = httpx.get(f"{page}/metrics").raise_for_status()
        assert metrics.headers["content-type"].startswith("text/plain")
        assert Metric.IN_FLIGHT in metrics.text
        assert httpx.get(f"{page}/admin/v1/tenants").status_code == 404
        if command == "admin":
            transport = httpx.HTTPTransport(uds=str(tmp_path / "state" / StateFile.ADMIN_SOCKET))
            with httpx.Client(transport=transport, base_url="http://admin") as admin:
                wait_for(lambda: shown(admin, key) == 200, "the admin key to be known", process)
                assert shown(admin, new_key()) == 401
        assert process.stop() == 0
        lines = [json.loads(line) for line in process.output().splitlines()]
        assert all(line.keys() >= {"time", "level", "logger", "process", "message"} for line in lines)
    finally:
        process.stop()
        valkey.stop()


def shown(admin: httpx.Client, key: str) -> int:
    try:
        return admin.get("/admin/v1/tenants", headers={"authorization": f"Bearer {key}"}).status_code
    except httpx.TransportError:
        return 0


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        (Env.DATABASE_URL, "mysql://root:hunter2@host/name", "is no URL of a PostgreSQL or SQLite database"),
        (Env.ADMIN_KEY_DIGESTS, "pk-hunter2", "must be SHA-256 digests"),
        (Env.LOG_FORMAT, "hunter2", "must be text or json"),
    ],
)
def test_what_the_environment_says_wrongly_is_refused_and_not_repeated(
    name: str, value: str, complaint: str, tmp_path: Path
) -> None:
    options = ["--config", str(LOCAL), "--redis-url", "redis://127.0.0.1:1", "--state-dir", str(tmp_path)]
    done = CliRunner().invoke(app, ["admin", *options], env={name: value})
    assert done.exit_code == 2
    assert done.stderr.startswith(f"{name} ")
    assert complaint in done.stderr
    assert "hunter2" not in done.stderr
