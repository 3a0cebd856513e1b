"""Predictors as a router takes them up: new ones soon, gone ones let go, and the own one where one is missing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from pointsman.contracts.names import Metric
from pointsman.router.metrics import Metrics
from pointsman.router.predictor import Predictor, artefact
from pointsman.router.predictor_watch import PredictorWatch
from pointsman.router.predictors import Predictors
from support.fleets import metrics_in

BASE = Predictor.load()


def made(name: str) -> tuple[str, bytes]:
    """A tenant's predictor, which always thinks: its version and its file."""
    base = artefact.read()
    weights = replace(base, name=name, base=base.version, offset=50.0, report={})
    return weights.version, artefact.packed(weights)


ACME, ACME_FILE = made("acme")
UMBRELLA, UMBRELLA_FILE = made("umbrella")


class Redis:
    """What `PredictorReader` reads; `revision` None where it was emptied, `away` where it does not answer."""

    def __init__(self) -> None:
        self.there: dict[str, bytes] = {}
        self.word: str | None = None
        self.away = False
        self.read: list[str] = []

    def hold(self, word: str, **there: bytes) -> None:
        self.word, self.there = word, there

    async def revision(self) -> str | None:
        if self.away:
            raise RedisConnectionError
        return self.word

    async def versions(self) -> set[str]:
        return set(self.there)

    async def content(self, version: str) -> bytes | None:
        self.read.append(version)
        return self.there.get(version)


class Router:
    """One worker after the other over one state folder and one Redis."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "known"
        self.redis = Redis()
        self.metrics: Metrics = metrics_in(folder)
        self.start()

    def start(self) -> None:
        self.predictors = Predictors(BASE, self.metrics)
        self.watch = PredictorWatch(cast(Any, self.redis), self.predictors, self.folder)

    def begin(self) -> None:
        asyncio.run(self.watch.begin())

    def look(self, word: str, **there: bytes) -> None:
        self.redis.hold(word, **there)
        asyncio.run(self.watch.look())

    def files(self) -> set[str]:
        return {path.name for path in self.folder.glob("*")} if self.folder.exists() else set()

    def missing(self) -> float:
        return self.metrics.counter(Metric.MISSING_PREDICTOR, {}).value


@pytest.fixture
def router(tmp_path: Path) -> Router:
    return Router(tmp_path)


def test_what_is_there_judges_until_it_is_gone(router: Router) -> None:
    router.begin()
    assert (router.predictors.of(ACME) is BASE, router.missing()) == (True, 1)
    assert ACME in (router.predictors.trouble() or "")
    router.look("1", **{ACME: ACME_FILE, UMBRELLA: UMBRELLA_FILE})
    assert router.predictors.of(ACME).version == ACME
    assert router.predictors.of(ACME).probability("hi") > 0.99 > BASE.probability("hi")
    assert router.predictors.trouble() is None
    assert router.files() == {f"{ACME}.weights", f"{UMBRELLA}.weights"}
    router.look("2", **{UMBRELLA: UMBRELLA_FILE})
    assert router.predictors.versions == {UMBRELLA}
    assert router.files() == {f"{UMBRELLA}.weights"}
    assert router.redis.read == [ACME, UMBRELLA]  # each was read once
    assert (router.predictors.of(ACME) is BASE, router.missing()) == (True, 2)


@pytest.mark.parametrize("away", [False, True], ids=["emptied", "away"])
def test_a_process_that_starts_without_redis_begins_with_what_was_known(router: Router, away: bool) -> None:
    router.look("1", **{ACME: ACME_FILE})
    router.redis.hold(cast(Any, None))
    router.redis.away = away
    if not away:
        asyncio.run(router.watch.look())
        assert router.predictors.versions == {ACME}  # nothing follows from an empty Redis
    router.start()
    router.begin()
    assert router.predictors.versions == {ACME}
    router.redis.away = False
    router.look("2", **{UMBRELLA: UMBRELLA_FILE})
    assert router.predictors.versions == {UMBRELLA}


def test_what_redis_has_again_is_read_from_the_folder(router: Router) -> None:
    router.look("1", **{ACME: ACME_FILE})
    router.start()
    router.redis.read.clear()
    router.begin()
    assert router.predictors.versions == {ACME}
    assert router.redis.read == []


@pytest.mark.parametrize(
    "harm",
    [
        pytest.param(lambda content: content[:-1], id="cut"),
        pytest.param(lambda content: content[:5000] + b"x" + content[5001:], id="edited"),
        pytest.param(lambda content: b"", id="empty"),
        pytest.param(lambda content: UMBRELLA_FILE, id="another one"),
        pytest.param(lambda content: artefact.BUNDLED.read_bytes(), id="the base"),
    ],
)
def test_a_file_that_is_not_what_it_should_be_is_left_alone(router: Router, harm: Callable[[bytes], bytes]) -> None:
    router.look("1", **{ACME: harm(ACME_FILE), UMBRELLA: UMBRELLA_FILE})
    assert router.predictors.versions == {UMBRELLA}
    assert router.predictors.of(ACME) is BASE
    assert router.files() == {f"{UMBRELLA}.weights"}
    router.folder.joinpath(f"{ACME}.weights").write_bytes(harm(ACME_FILE))
    router.start()
    router.look("2", **{ACME: ACME_FILE})
    assert router.predictors.of(ACME).version == ACME  # what lay in the folder is no reason not to ask Redis


def test_no_name_leads_out_of_the_folder(router: Router, tmp_path: Path) -> None:
    secret = tmp_path / "acme-2026-11-22-0123456789.weights"
    secret.write_bytes(ACME_FILE)
    router.look("1", **{f"../{secret.stem}": ACME_FILE, "x" * 300: ACME_FILE, "": ACME_FILE})
    assert router.predictors.versions == frozenset()
    assert router.redis.read == []
    assert secret.exists()
