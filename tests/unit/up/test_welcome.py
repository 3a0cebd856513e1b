"""What people and scripts are told once the platform is ready, and what they see before."""

from __future__ import annotations

import asyncio
import io
import json
import shlex
from pathlib import Path

import pytest
from rich.console import Console

from pointsman.cli.instance import preflight
from pointsman.cli.instance.progress import progress_for
from pointsman.cli.instance.welcome import Ready, welcome
from pointsman.contracts.config import Config
from pointsman.contracts.config_file import load_config

READY = Ready(
    url="http://127.0.0.1:8080",
    demo_key_file="/s/demo.key",
    admin_key_file="/s/admin.key",
    state_dir="/s",
    redis_url="unix:///s/valkey.sock",
    pid=4711,
    console_url="http://127.0.0.1:8081",
)


@pytest.fixture
def local() -> Config:
    return load_config(Path(preflight.__file__).parents[1] / "local.yaml")


def test_the_lines_to_copy_work_as_they_are(local: Config) -> None:
    text = welcome(READY, local, key="pk-x", logs="/s/logs", seconds=3.21)
    assert "Ready after 3.2 s." in text
    assert "http://127.0.0.1:8080/v1" in text
    assert "kill 4711" in text
    assert "Console  http://127.0.0.1:8081  (log in with that key, or with the one in /s/admin.key)" in text
    (curl,) = [line for line in text.splitlines() if line.startswith("curl ")]
    words = shlex.split(curl)
    assert words[1] == "http://127.0.0.1:8080/v1/chat/completions"
    assert "Authorization: Bearer pk-x" in words
    assert json.loads(words[words.index("-d") + 1])["model"] == "smollm2"
    snippet = text[text.index("from openai") :]
    compile(snippet, "snippet", "exec")
    assert 'base_url="http://127.0.0.1:8080/v1", api_key="pk-x"' in snippet


def test_licence_notices_are_shown(local: Config) -> None:
    pool = local.pools[0].model_copy(update={"licence_notice": "Ask before you sell."})
    text = welcome(READY, local.model_copy(update={"pools": (pool,)}), key="k", logs="l", seconds=1)
    assert "fast: Ask before you sell." in text


def test_scripts_get_one_object() -> None:
    assert json.loads(READY.as_json()) == {
        "url": "http://127.0.0.1:8080",
        "demo_key_file": "/s/demo.key",
        "admin_key_file": "/s/admin.key",
        "state_dir": "/s",
        "redis_url": "unix:///s/valkey.sock",
        "pid": 4711,
        "console_url": "http://127.0.0.1:8081",
    }


@pytest.mark.parametrize("terminal", [True, False])
def test_sentences_of_children_cannot_move_the_cursor_or_style_the_screen(terminal: bool) -> None:
    screen = io.StringIO()
    progress = progress_for(Console(file=screen, force_terminal=terminal, width=80, color_system=None))
    progress.began("serving")
    progress.said("serving", "loading [bold red]weights[/] \x1b[2J\x1b[31m\r(12 s)\x1b]")
    progress.noted("something happened")
    progress.settled()
    shown = screen.getvalue()
    assert "loading [bold red]weights[/]  (12 s) ]" in shown
    assert "\x1b[2J" not in shown
    assert "something happened" in shown


def test_a_sentence_that_only_counts_on_is_not_repeated() -> None:
    screen = io.StringIO()
    progress = progress_for(Console(file=screen, width=80))
    for second in range(9):
        progress.said("serving", f"loading the model ({second} s)")
        progress.said("admin", "listening")
    progress.said("serving", "loaded in 9 s")
    shown = [line.partition("] ")[2] for line in screen.getvalue().splitlines()]
    assert shown == ["serving: loading the model (0 s)", "admin: listening", "serving: loaded in 9 s"]


def test_the_last_line_is_repeated_during_the_start_and_not_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pointsman.cli.instance.progress._LOOK", 0.01)
    monkeypatch.setattr("pointsman.cli.instance.progress._REMIND", 0.0)
    reminded = asyncio.Event()

    class Screen(io.StringIO):
        def write(self, text: str) -> int:
            if "still at it (serving: loading)" in text:
                reminded.set()
            return super().write(text)

    async def start() -> None:
        screen = Screen()
        progress = progress_for(Console(file=screen, width=80))
        progress.said("serving", "loading")
        showing = asyncio.create_task(progress.keep_current())
        await asyncio.wait_for(reminded.wait(), 5)
        progress.settled()
        shown = screen.getvalue()
        await asyncio.wait_for(showing, 5)
        assert screen.getvalue() == shown

    asyncio.run(start())


@pytest.mark.parametrize("terminal", [True, False])
def test_a_terminal_that_went_away_stops_nothing(terminal: bool) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(5, "Input/output error")

    progress = progress_for(Console(file=Gone(), force_terminal=terminal, width=80))
    progress.began("serving")
    progress.said("serving", "loading")
    progress.noted("something happened")
    progress.settled()
    progress.said("serving", "loaded")
