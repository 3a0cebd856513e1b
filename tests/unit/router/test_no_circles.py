"""A request that has ended is gone at once: nothing of it waits for the collector, which would hold streams up."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pointsman.contracts.modes import Mode
from pointsman.router.exchange import Exchange
from pointsman.router.pipeline.events import Events
from pointsman.router.pipeline.relay import Relaying
from pointsman.router.pipeline.reworked import Reworked
from support.scenes import BUFFERED, Scene, said, tail, used

PARTS = (Exchange, Relaying, Events, Reworked)


@contextmanager
def no_circles() -> Iterator[None]:
    """Fails where what was left behind inside can't go without the collector."""
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield
        gc.collect()
        left = [type(item).__name__ for item in gc.garbage if isinstance(item, PARTS)]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert left == []


def whole(scene: Scene) -> None:
    exchange = scene.ask(Mode.NO_THINK)
    scene.sent().answer()
    assert scene.told(exchange).status == 200


def stream(scene: Scene) -> None:
    exchange = scene.ask(Mode.NO_THINK, stream=True)
    scene.sent().say(said(content="Because"), said("stop"), *tail(5, 2))
    assert scene.told(exchange).message == {"content": "Because"}


def stream_that_is_held(scene: Scene) -> None:
    exchange = scene.ask(Mode.NO_THINK, stream=True, headers=BUFFERED)
    scene.sent().say(said(content="Because"), said("stop"), *tail(5, 2))
    assert scene.told(exchange).message == {"content": "Because"}


def stream_that_is_asked_for_twice(scene: Scene) -> None:
    exchange = scene.ask(Mode.NO_THINK, stream=True)
    scene.sent().say(said("stop"), *tail(5, 0))
    scene.sent().say(said(reasoning_content="Hm"), said(content="Because"), said("stop"), *tail(5, 2, 1))
    assert scene.told(exchange).headers["x-pointsman-escalated"] == "empty"


def stream_whose_client_goes(scene: Scene) -> None:
    exchange = scene.ask(Mode.NO_THINK, stream=True)
    scene.sent().say(said(content="Because"))
    scene.pipeline.abandon(exchange)
    assert exchange.usage is not None
    assert exchange.usage.answer == 1


def stream_that_breaks(scene: Scene) -> None:
    exchange = scene.ask(Mode.NO_THINK, stream=True)
    scene.sent().say(said(content="Because"), b"noise\n\n")
    assert scene.told(exchange).error == "engine_failed"


def stream_that_counts(scene: Scene) -> None:
    """An engine that tells its usage with the last chunk, and ends without an end mark."""
    exchange = scene.ask(Mode.NO_THINK, stream=True)
    sending = scene.sent()
    sending.say(said(content="Because"), said("stop", usage=used(5, 2)))
    sending.receive(b"0\r\n\r\n")
    assert scene.told(exchange).ended


@pytest.mark.parametrize(
    "run",
    [
        whole,
        stream,
        stream_that_is_held,
        stream_that_is_asked_for_twice,
        stream_whose_client_goes,
        stream_that_breaks,
        stream_that_counts,
    ],
)
def test_a_request_that_has_ended_leaves_nothing_to_the_collector(
    run: Callable[[Scene], None], tmp_path: Path
) -> None:
    scene = Scene(tmp_path)
    run(scene)  # what is made once and kept is not counted
    with no_circles():
        run(scene)
