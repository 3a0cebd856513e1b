"""Tenants' predictors, and every way in which one is brought in, chosen or deleted.

Stands between the pages and the two places where predictors are kept: the database, which decides, and Redis, which
routers read. A change is first in the one, then in the other; what did not get through to Redis is sent again until
it did. Needs no event loop: all of it may be called from any thread.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict, defaultdict
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import orjson
from redis import Redis
from redis.exceptions import RedisError

from pointsman.contracts.config import Config
from pointsman.contracts.errors import (
    DatabaseUnavailable,
    GateNotPassed,
    InvalidRequest,
    PredictorInUse,
    PredictorNotFound,
)
from pointsman.contracts.policies import Candidate, Policy
from pointsman.router.predictor import Predictor, WeightsError, artefact
from pointsman.store.predictor_projection import MOST, PredictorProjection
from pointsman.store.predictors import PredictorRow, PredictorStore, TooMany

log = logging.getLogger(__name__)

LARGEST = 4 * 1024 * 1024 - 64 * 1024
"""Bytes of a weights file at most: with its headers it has to fit into what the data plane passes on."""

LOOK = 1.0
"""Seconds between two looks whether Redis holds what was written last."""

RECONCILE = 15.0
"""Seconds after which Redis is compared with the database even where nothing seems to have changed."""

LOADED = 4
"""Predictors that are kept in memory here, to explain decisions by."""


@dataclass(frozen=True, slots=True)
class PresentPredictor:
    """A predictor as it is. `used_by`: tenants whose policies name it, by name; `live`: Redis has all of them."""

    row: PredictorRow
    used_by: tuple[str, ...]
    live: bool

    @property
    def report(self) -> dict[str, Any]:
        """What its training measured."""
        found: dict[str, Any] = orjson.loads(self.row.report)
        return found


class LivePredictors:
    """
    Predictors beside the platform's own. What touches the database raises `DatabaseUnavailable`, what names a
    version `PredictorNotFound`. That Redis is away hinders no change: it is made good when it is back.
    """

    def __init__(self, config: Config, store: PredictorStore, redis: Redis) -> None:
        self._own = Path(config.predictor) if config.predictor else None
        self._base: Predictor | None = None
        self._configured = {tenant.name: (tenant.policy, tenant.candidate) for tenant in config.tenants}
        self._store = store
        self._projection = PredictorProjection(redis)
        self._loaded: OrderedDict[str, Predictor] = OrderedDict()
        self._changing = threading.RLock()
        self._loading = threading.Lock()
        self._unsent = True
        self._revision: str | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="predictors", daemon=True)

    def start(self) -> None:
        """Begin to keep Redis as the database is."""
        self._thread.start()

    def stop(self) -> None:
        """Stop that, and wait until it has."""
        self._stop.set()
        self._thread.join()

    @property
    def base(self) -> Predictor:
        """The platform's own predictor. Raises `WeightsError` where its file can't be used."""
        with self._loading:
            if self._base is None:
                self._base = Predictor.load(self._own)
            return self._base

    def all(self) -> list[PresentPredictor]:
        """All of them, newest first."""
        named = self._named_by()
        return [self._present(row, named) for row in self._store.all()]

    def present(self, version: str) -> PresentPredictor:
        """The predictor of that version."""
        row = self._store.get(version)
        if row is None:
            raise PredictorNotFound("There is no predictor of this version.")
        return self._present(row, self._named_by())

    def put(self, content: bytes, *, force: bool, by: str, comment: str) -> PresentPredictor:
        """
        Keep the predictor whose weights file is `content`; one that is kept already stays as it is.

        Raises `InvalidRequest` where it is no such file, or there are too many, and `GateNotPassed` where it was
        not shown to be good enough, unless `force`.
        """
        try:
            weights = artefact.parse(content)
        except WeightsError as error:
            raise InvalidRequest(f"The body {error}.", param="body", code="invalid_value") from None
        if weights.base is None:
            raise InvalidRequest(
                "The body is a predictor for everybody: name its file as `predictor` in the configuration.",
                param="body",
                code="invalid_value",
            )
        refusal = self._refusal(weights)
        if refusal is not None and not force:
            raise GateNotPassed(f"{refusal} Force it in if you know better.")
        with self._changing:
            there = self._store.get(weights.version)
            if there is None:
                try:
                    there = self._store.add(
                        version=weights.version,
                        name=weights.name,
                        base=weights.base,
                        report=orjson.dumps(weights.report).decode(),
                        refusal=refusal,
                        content=content,
                        most=MOST,
                        by=by,
                        comment=comment,
                    )
                except TooMany:
                    raise InvalidRequest(
                        f"There are {MOST} predictors already, and no room for more: delete one that no policy "
                        "names.",
                        code="too_many_predictors",
                    ) from None
                log.info("predictor %s: brought in by %s", weights.version, by)
                self._publish()
            return self._present(there, self._named_by())

    def delete(self, version: str, *, by: str, comment: str) -> None:
        """Delete a version. Raises `PredictorInUse` where a policy names it."""
        with self._changing:
            users = sorted(self._named_by().get(version, ()))
            if users:
                more = f" and {len(users) - 3} more" if len(users) > 3 else ""
                raise PredictorInUse(f"The policies of these tenants name it: {', '.join(users[:3])}{more}.")
            if not self._store.delete(version, by=by, comment=comment):
                raise PredictorNotFound("There is no predictor of this version.")
            log.info("predictor %s: deleted by %s", version, by)
            self._publish()

    def check(self, policy: Policy, candidate: Candidate | None) -> None:
        """Raises `InvalidRequest` that names the field where either policy asks for a version that there is not."""
        asked = [("policy.predictor", policy.predictor)]
        if candidate is not None:
            asked.append(("candidate.policy.predictor", candidate.policy.predictor))
        if not any(version for _, version in asked):
            return
        there = self._store.versions()
        for field, version in asked:
            if version is not None and version not in there:
                raise InvalidRequest(
                    f"{field}: there is no predictor {version}: bring it in first.",
                    param=field,
                    code="invalid_value",
                )

    def loaded(self, version: str) -> Predictor | None:
        """The predictor of that version, the platform's own among them; None where it is not to be had now."""
        try:
            if version == self.base.version:
                return self.base
            with self._loading:
                found = self._loaded.get(version)
                if found is None:
                    content = self._store.content(version)
                    if content is None:
                        return None
                    found = self._loaded[version] = Predictor(artefact.parse(content))
                    if len(self._loaded) > LOADED:
                        self._loaded.popitem(last=False)
                self._loaded.move_to_end(version)
                return found
        except (WeightsError, DatabaseUnavailable):
            return None

    def _refusal(self, weights: artefact.Weights) -> str | None:
        """Why `weights` should not hold for anybody, in a sentence; None where nothing speaks against it."""
        gate = weights.report.get("gate")
        if not isinstance(gate, dict) or gate.get("passed") is not True:
            reason = gate.get("reason") if isinstance(gate, dict) else None
            return str(reason) if reason else "It has not passed the gate."
        if weights.base != self.base.version:
            return f"It was adapted from {weights.base}, and compared with that; here {self.base.version} judges."
        return None

    def _named_by(self) -> dict[str, set[str]]:
        named: defaultdict[str, set[str]] = defaultdict(set)
        for tenant, (policy, candidate) in self._configured.items():
            for one in (policy, candidate.policy if candidate else None):
                if one is not None and one.predictor is not None:
                    named[one.predictor].add(tenant)
        for version, tenants in self._store.named_by().items():
            named[version] |= tenants
        return dict(named)

    def _present(self, row: PredictorRow, named: dict[str, set[str]]) -> PresentPredictor:
        return PresentPredictor(row, tuple(sorted(named.get(row.version, ()))), not self._unsent)

    def _publish(self) -> None:
        try:
            self._project()
        except RedisError as error:
            log.warning("predictors are not in Redis yet (%s)", type(error).__name__)
            self._unsent = True

    def _project(self) -> None:
        """Make Redis what the database is."""
        with self._changing:
            self._revision = self._projection.replace(self._store.versions(), self._store.content)
            self._unsent = False

    def _keep(self) -> None:
        """Runs in a thread of its own until `stop`."""
        compared = monotonic()
        troubled = False
        while True:
            try:
                revision = self._projection.revision()
                if self._unsent or revision is None:
                    self._project()
                elif revision != self._revision or monotonic() - compared >= RECONCILE:
                    if self._projection.versions() != self._store.versions():
                        self._project()
                    else:
                        self._revision = revision
                    compared = monotonic()
                troubled = False
            except Exception as error:  # a thread that ends would do so unseen
                if not troubled:
                    log.warning("predictors can't be brought into Redis (%s)", type(error).__name__)
                troubled = True
            if self._stop.wait(LOOK):
                return
