"""What only the serving side can get wrong: a lost engine, and words that must not be written down."""

from __future__ import annotations

import psutil
import pytest

from support.instances import wait_until
from support.platform import Platform

pytestmark = pytest.mark.timeout(400)

MARKER = "quokka-4711"


@pytest.mark.parametrize("mode", ["no_think", "think"])
def test_nothing_that_was_asked_is_written_to_a_file(platform: Platform, mode: str) -> None:
    answer = platform.client().chat.completions.create(
        model=f"smollm2:{mode}", max_tokens=40, messages=[{"role": "user", "content": f"What is a {MARKER}?"}]
    )
    assert answer.choices
    searched = 0
    for path in platform.state.rglob("*"):
        if path.is_file() and not path.is_symlink():
            assert MARKER.encode() not in path.read_bytes(), path
            searched += 1
    assert searched > 10


def test_an_engine_that_dies_takes_its_replica_along_and_a_successor_comes(platform: Platform) -> None:
    lost = platform.replica("fast")
    replica = platform.replica_process("fast")
    (scheduler,) = [child for child in replica.children() if child.name().startswith("sglang::schedul")]
    scheduler.kill()
    wait_until(
        lambda: not replica.is_running() or replica.status() == psutil.STATUS_ZOMBIE, seconds=20, what="it ends"
    )
    wait_until(lambda: fresh(platform, lost.instance), seconds=180, what="a successor of the replica")
    answer = platform.client().chat.completions.create(
        model="smollm2:no_think",
        temperature=0,
        messages=[{"role": "user", "content": "What is the capital of France?"}],
    )
    assert "Paris" in (answer.choices[0].message.content or "")


def fresh(platform: Platform, lost: str) -> bool:
    """Whether `fast` has a replica that is not the one that was lost."""
    try:
        return platform.replica("fast").instance != lost
    except ValueError:  # none, or for a moment two
        return False
