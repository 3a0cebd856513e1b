"""Commands that run one process, given what they cannot work with: one sentence, exit code 2, no traceback."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pointsman.cli import up
from pointsman.cli.main import app
from pointsman.contracts.names import Env

LOCAL = Path(up.__file__).with_name("local.yaml")
REDIS = "redis://127.0.0.1:1"


def refused(*arguments: str | Path, secret: str | None = "s") -> str:
    done = CliRunner().invoke(app, list(map(str, arguments)), env={Env.REPLICA_SECRET: secret})
    assert (done.exit_code, done.stdout) == (2, "")
    return done.stderr


def options(command: str, folder: Path, *, config: Path = LOCAL, redis_url: str = REDIS) -> list[str | Path]:
    return [command, "--config", config, "--redis-url", redis_url, "--state-dir", folder]


@pytest.mark.parametrize("command", ["router", "admin", "ledger-writer", "serving"])
def test_a_configuration_that_cannot_be_used(command: str, tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text("pools: {}\n")
    said = refused(*options(command, tmp_path, config=broken))
    assert said == f"{broken}: pools: must be a list, not a mapping (line 1)\n"


@pytest.mark.parametrize("command", ["router", "admin", "ledger-writer", "serving"])
def test_a_state_folder_that_is_none(command: str, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    said = refused(*options(command, file))
    assert said == f"The state folder {file} cannot be written (file exists): choose another with --state-dir.\n"


@pytest.mark.parametrize("command", ["router", "serving"])
def test_no_secret(command: str, tmp_path: Path) -> None:
    assert refused(*options(command, tmp_path), secret=None).startswith(f"{Env.REPLICA_SECRET} is not set")


@pytest.mark.parametrize("url", ["nonsense", "http://127.0.0.1", "redis://host:port"])
def test_no_redis_url(url: str, tmp_path: Path) -> None:
    for command in ("router", "admin", "ledger-writer", "serving"):
        assert refused(*options(command, tmp_path, redis_url=url)).startswith(f"{url} is no Redis URL: ")
    assert refused("simulate-engine", "--pool", "fast", "--redis-url", url).startswith(f"{url} is no Redis URL: ")


def test_a_port_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = refused(*options("router", tmp_path), "--port", str(port))
    assert said == f"Port {port} of 127.0.0.1 is in use: choose another with --port.\n"


def test_a_predictor_that_is_none(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(f"{LOCAL.read_text()}\npredictor: {LOCAL}\n")
    with socket.create_server(("127.0.0.1", 0)) as once:
        port = once.getsockname()[1]
    said = refused(*options("router", tmp_path, config=config), "--port", str(port))
    assert f"The configuration's predictor cannot be used: {LOCAL} is not a weights file" in said


def test_a_database_that_cannot_be_used(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(f"{LOCAL.read_text()}\ndatabase: sqlite:////nowhere/at/all.db\n")
    said = refused(*options("admin", tmp_path, config=config))
    assert said.startswith("The configuration's database cannot be used: its file cannot be made: ")


@pytest.mark.parametrize("name", ["folder", "missing"])
def test_questions_that_cannot_be_read(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    assert refused("predict", "--input", tmp_path / name).startswith(f"error: cannot read {tmp_path / name}: ")


def test_a_package_that_is_not_installed_is_named_with_the_extra_that_brings_it() -> None:
    code = "import sys; sys.modules['httpx'] = None; sys.argv = ['pointsman', 'chat', 'x']\n"
    code += "from pointsman.cli.main import main\nmain()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "This command needs httpx: pip install 'pointsman[up]'.\n"
