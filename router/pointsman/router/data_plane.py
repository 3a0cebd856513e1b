"""What a request meets in one data-plane process, put together: the steps, and all that they share.

Stands apart from `process.py`, which serves, keeps up with Redis and drains, so that a measurement can drive the
very same parts without sockets. Opens the files of `state_dir`, and no connection.
"""

from __future__ import annotations

from pathlib import Path

from redis.asyncio import Redis

from pointsman.contracts.config import Config
from pointsman.contracts.names import StateFile
from pointsman.router.admission.bounds import Bounds
from pointsman.router.admission.lease_book import LeaseBook
from pointsman.router.decision_log import DecisionLog
from pointsman.router.exchange import Exchange
from pointsman.router.fleet import Fleet
from pointsman.router.fleet.last_known import LastKnown
from pointsman.router.health import Health
from pointsman.router.ledger import Ledger
from pointsman.router.metrics import Metrics
from pointsman.router.pipeline import Pipeline
from pointsman.router.pipeline.admit import Admit
from pointsman.router.pipeline.authenticate import Authenticate
from pointsman.router.pipeline.decide import Decide
from pointsman.router.pipeline.parse import Parse
from pointsman.router.pipeline.place import Place
from pointsman.router.pipeline.recall import Recall
from pointsman.router.pipeline.relay import Relay
from pointsman.router.pipeline.settle import Settle
from pointsman.router.pipeline.thinking_price import ThinkingPrice
from pointsman.router.pools import Pools
from pointsman.router.predictor import Predictor
from pointsman.router.predictors import Predictors
from pointsman.router.response_cache.answers import Answers
from pointsman.router.response_cache.keys import Keys
from pointsman.router.response_cache.versions import Versions
from pointsman.router.savings import Savings
from pointsman.router.snapshot import compile_snapshot
from pointsman.router.tracks import Tracks
from pointsman.store.leases import LeaseStore
from pointsman.store.replicas import ReplicaRegistry
from pointsman.store.response_cache import AnswerStore


class DataPlane:
    """
    The parts of one process. `secret` is the replicas' shared secret; `impatient_redis` fails rather than tries
    again, for what requests wait for.

    Raises `WeightsError` where the predictor's file can't be used.
    """

    def __init__(
        self, config: Config, *, state_dir: Path, secret: str, redis: Redis, impatient_redis: Redis
    ) -> None:
        router = config.router
        metrics = self.metrics = Metrics(state_dir / StateFile.METRICS)
        snapshot = self.snapshot = compile_snapshot(config)
        last_known = LastKnown(state_dir / StateFile.LAST_KNOWN)
        fleet = self.fleet = Fleet(config, ReplicaRegistry(redis), metrics, secret=secret, last_known=last_known)
        self.pools = Pools(config, snapshot, fleet)
        self.predictors = Predictors(Predictor.load(Path(config.predictor) if config.predictor else None), metrics)
        ledger = self.ledger = Ledger(state_dir / StateFile.SPOOL, redis, metrics, most=router.spool_bytes)
        self.answers = Answers(
            AnswerStore(impatient_redis),
            self.pools.now,
            metrics,
            secret=secret,
            most_bytes=router.response_cache_bytes,
        )
        self.leases = LeaseBook(LeaseStore(impatient_redis), ledger.run, ledger.now)
        snapshot.tenants.listen(self.leases.open)
        snapshot.tenants.listen(self.answers.heed)
        place = Place(fleet)
        rate = router.decisions_per_second
        self.decisions = DecisionLog(redis, metrics, place, secret=secret, rate=rate)
        self.savings = Savings(place, snapshot.prices, metrics)
        self._tracks = Tracks(state_dir / StateFile.TRACKS)
        thinking_price = ThinkingPrice(place, snapshot.prices)
        admit = Admit(self.leases, Bounds(snapshot.prices), ledger, metrics)
        recall = Recall(self.answers, Keys(Versions(fleet)))
        relay = Relay(fleet, metrics, max_response_bytes=router.max_response_bytes)
        self.pipeline = Pipeline(
            [
                Authenticate(snapshot),
                Parse(),
                Decide(self.predictors, metrics, fleet, thinking_price, self._tracks),
                admit,
                recall,
                place,
                relay,
                Settle(snapshot, metrics, self._decided, ledger, self.savings.note),
            ],
            metrics,
        )
        admit.pipeline = place.pipeline = relay.pipeline = recall.pipeline = self.pipeline
        self.health = Health(fleet, snapshot.tenants)
        self.health.watch("ledger", ledger.trouble)
        self.health.watch("leases", self.leases.trouble)
        self.health.watch("response cache", self.answers.trouble)
        self.health.watch("predictors", self.predictors.trouble)

    def _decided(self, exchange: Exchange, status: int, seconds: float) -> None:
        self._tracks.note(exchange, status)
        self.decisions.note(exchange, status, seconds)
