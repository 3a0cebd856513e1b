"""What `up` does with its children, tried on stand-ins that misbehave in every way that matters."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from pointsman.cli.instance.supervisor import until
from support.instances import wait_until

Begin = Callable[..., Any]


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_everything_in_order(trial: Begin, signum: signal.Signals, tmp_path: Path) -> None:
    ends = tmp_path / "ends"
    ends.mkdir()
    one = trial(
        engine=["tell-end", str(ends / "engine")],
        admin=["tell-end", str(ends / "admin")],
        router=["tell-end", str(ends / "router"), "startupz", "PORT"],
        **{"ledger-writer": ["tell-end", str(ends / "writer")]},
        stop_within=60,
    )
    one.until_ready()
    for name in ("engine", "admin", "router", "writer"):
        one.until_told(f"{name} will tell")
    assert len(one.living()) == 6  # guardian, supervisor, four children
    assert one.end(signum) == 0
    assert not one.living()
    ended = {path.name: float(path.read_text().split()[1]) for path in ends.iterdir()}
    assert ended["router"] < min(ended["admin"], ended["engine"], ended["writer"])


def test_a_stop_during_the_start_leaves_nothing(trial: Begin) -> None:
    one = trial(engine=["hidden-grandchild"], router=[])  # a router that never becomes ready
    one.until_told("a grandchild is deaf")
    assert one.end(signal.SIGTERM) == 128 + signal.SIGTERM
    assert not one.living()


def test_a_child_deaf_to_sigterm_is_killed_after_its_time(trial: Begin) -> None:
    one = trial(engine=["stubborn"], stop_within=0.5)
    one.until_ready()
    begun = time.monotonic()
    assert one.end(signal.SIGINT) == 0
    assert time.monotonic() - begun >= 0.5
    assert not one.living()
    assert "engine did not stop within 0.5 s and is killed" in one.told.read_text()


def test_a_second_ctrl_c_hurries(trial: Begin) -> None:
    one = trial(engine=["stubborn"], admin=["stubborn"], router=["stubborn", "startupz", "PORT"], stop_within=60)
    one.until_ready()
    one.process.send_signal(signal.SIGINT)
    one.until_told("Ctrl-C again to hurry")
    time.sleep(0.6)  # until it is no echo of the first
    assert one.end(signal.SIGINT, seconds=50) == 0
    assert not one.living()


def test_grandchildren_that_hide_are_found(trial: Begin) -> None:
    one = trial(engine=["hidden-grandchild"])
    one.until_ready()
    one.until_told("a grandchild is deaf")
    assert len(one.living()) == 7
    assert one.end(signal.SIGTERM) == 0
    assert not one.living()


@pytest.mark.parametrize("victim", ["guardian", "supervisor"])
def test_sigkill_of_either_guard_leaves_nothing(trial: Begin, victim: str) -> None:
    one = trial(engine=["stubborn", "hidden-grandchild"])
    one.until_ready()
    one.until_told("a grandchild is deaf")
    guardian = psutil.Process(one.process.pid)
    (supervisor,) = guardian.children()
    (guardian if victim == "guardian" else supervisor).kill()
    wait_until(lambda: not one.living(), seconds=60, what="all gone")
    assert one.process.wait(60) == (-signal.SIGKILL if victim == "guardian" else 1)


def test_a_child_that_dies_is_started_again_and_what_it_left_is_ended(trial: Begin) -> None:
    one = trial(engine=["hidden-grandchild"])
    one.until_ready()
    one.until_told("a grandchild is deaf")
    before = one.parts(one.folder / "logs")["engine"]
    left = before.children()
    assert len(left) == 1
    before.kill()
    one.until_told("engine was ended by SIGKILL; it is started again in 0.1 s")
    one.until_told("engine was started again")
    assert not left[0].is_running() or left[0].status() == psutil.STATUS_ZOMBIE
    assert one.parts(one.folder / "logs")["engine"].pid != before.pid
    assert one.process.poll() is None
    assert one.end(signal.SIGTERM) == 0
    assert not one.living()


def test_a_child_that_keeps_dying_is_given_up(trial: Begin, tmp_path: Path) -> None:
    one = trial(engine=["die-when", str(tmp_path / "now")])
    one.until_ready()
    (tmp_path / "now").touch()
    assert one.process.wait(120) == 1
    told = one.told.read_text()
    assert "engine stopped with exit code 3; that was 5 times within 60 s, so it is not started again." in told
    assert "a line for the log" in told
    assert str(one.folder / "logs" / "engine.log") in told
    assert not one.living()


def test_a_child_that_dies_during_the_start_ends_it(trial: Begin) -> None:
    one = trial(engine=["die", "7"], router=[])
    assert one.process.wait(90) == 1
    told = one.told.read_text()
    assert "engine stopped with exit code 7 while the platform was starting." in told
    assert "  out of luck\n" in told
    assert not one.living()
    assert one.process.stdout.read() == ""


def test_what_children_say_is_shown_and_logged(trial: Begin) -> None:
    one = trial(engine=[])
    one.until_ready()
    one.until_told("engine: here with 0 orders")
    one.end(signal.SIGTERM)
    log = one.folder / "logs" / "engine.log"
    assert sorted(log.read_text().splitlines()) == ["a line for the log", "here with 0 orders"]
    assert log.stat().st_mode & 0o777 == 0o600


def test_two_instances_do_not_disturb_each_other(trial: Begin) -> None:
    one, other = trial(engine=[]), trial(engine=[])
    one.until_ready()
    other.until_ready()
    assert one.end(signal.SIGTERM) == 0
    assert not one.living()
    assert len(other.living()) == 6
    assert other.end(signal.SIGTERM) == 0


def test_waiting_ends_when_it_is_cancelled_even_where_the_question_swallows_that() -> None:
    async def deaf() -> bool:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return True
        return False

    async def cancelled() -> bool:
        waiting = asyncio.create_task(until(deaf))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting], timeout=60)
        return waiting.cancelled()

    assert asyncio.run(cancelled())
