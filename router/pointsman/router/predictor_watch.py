"""Take up tenants' predictors while the process runs: what is in Redis is loaded, what is gone from there let go.

A task of every worker, so that no request ever waits for weights. A version never changes, so only new ones are
read, in a thread, since the check of a file takes milliseconds that streams need. Redis may go away or be empty:
what is known holds on, and lies in a folder of the state folder, a file for each, for a process that starts then.
"""

from __future__ import annotations

import asyncio
import logging
import re
from pathlib import Path

from pointsman.contracts.config_types import PREDICTOR_PATTERN
from pointsman.router.predictor import Predictor, WeightsError, artefact
from pointsman.router.predictors import Predictors
from pointsman.router.rounds import Rounds
from pointsman.router.state_file import replace_file
from pointsman.store.predictor_projection import MOST, PredictorReader

log = logging.getLogger(__name__)

INTERVAL = 0.5
"""Seconds between two looks."""

PATIENCE = 10.0
"""Seconds that one look may take, all predictors included."""

FIRST = 3.0
"""Seconds that a process which starts waits for predictors before it begins without."""

_ENDING = ".weights"
_VERSION = re.compile(PREDICTOR_PATTERN)


class PredictorWatch:
    """
    Keeps `predictors` as `reader` has them.

    `known` is the folder for what is known; neither reading nor writing it ever raises.
    """

    def __init__(self, reader: PredictorReader, predictors: Predictors, known: Path) -> None:
        self._reader = reader
        self._predictors = predictors
        self._folder = known
        self._unfit: set[str] = set()
        self._revision: str | None = None
        self._rounds = Rounds(self.look, what="predictors")

    async def begin(self) -> None:
        """Look for the first time, not for longer than `FIRST` seconds; where nothing is there, read the folder."""
        await self._rounds.once(FIRST)
        if self._revision is None:
            for version in sorted(self._known()):
                if version not in self._predictors.versions:
                    await self._take(version, await asyncio.to_thread(self._read, version))

    async def follow(self) -> None:
        """Look at the interval until cancelled."""
        await self._rounds.follow(INTERVAL, PATIENCE)

    async def look(self) -> None:
        """Take up what has changed since the last time. Raises RedisError and OSError where Redis fails."""
        revision = await self._reader.revision()
        if revision is None or revision == self._revision:
            return
        there = {version for version in await self._reader.versions() if _VERSION.fullmatch(version)}
        whole = len(there) <= MOST
        if not whole:
            log.error("there are %d predictors, and room for %d: the others are left out", len(there), MOST)
        for version in sorted(there)[:MOST]:
            if version in self._predictors.versions or version in self._unfit:
                continue
            content = await asyncio.to_thread(self._read, version)
            known = content is not None
            content = content or await self._reader.content(version)
            if content is not None and await self._take(version, content) and not known:
                await asyncio.to_thread(self._keep, version, content)
        for version in self._predictors.versions - there:
            self._predictors.drop(version)
            log.info("the predictor %s is gone", version)
        await asyncio.to_thread(self._forget, there)
        self._unfit &= there
        self._revision = revision

    async def _take(self, version: str, content: bytes | None) -> bool:
        """Load the file `content`, which is to be of `version`; whether it could be used."""
        if content is None:
            return False
        try:
            predictor = await asyncio.to_thread(_loaded, version, content)
        except WeightsError as error:
            log.error("the predictor %s %s: the platform's own judges in its place", version, error)
            self._unfit.add(version)
            return False
        self._predictors.hold(version, predictor)
        log.info("took up the predictor %s", version)
        return True

    def _known(self) -> set[str]:
        try:
            names = {path.name.removesuffix(_ENDING) for path in self._folder.glob(f"*{_ENDING}")}
            return {name for name in names if _VERSION.fullmatch(name)}
        except OSError:
            return set()

    def _read(self, version: str) -> bytes | None:
        """The file of a version, None where there is none or none that is whole."""
        try:
            content = (self._folder / f"{version}{_ENDING}").read_bytes()
            return content if artefact.parse(content).version == version else None
        except (OSError, WeightsError):
            return None

    def _keep(self, version: str, content: bytes) -> None:
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            replace_file(self._folder / f"{version}{_ENDING}", content)
        except OSError as error:
            log.warning("the predictor %s can't be written: %s", version, error.strerror)

    def _forget(self, there: set[str]) -> None:
        for version in self._known() - there:
            try:
                (self._folder / f"{version}{_ENDING}").unlink(missing_ok=True)
            except OSError as error:
                log.warning("the predictor %s can't be deleted: %s", version, error.strerror)


def _loaded(version: str, content: bytes) -> Predictor:
    weights = artefact.parse(content)
    if weights.version != version:
        raise WeightsError(f"is another one: {weights.version}")
    return Predictor(weights)
