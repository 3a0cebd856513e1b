"""`pointsman serving`: bring up the pools of an instance, say how far they are, and take them down in order.

Everything of Ray's start and end is in `ray_instance.py`; this is the order of events and what people read of it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import psutil

from pointsman.contracts.config import Config, Engine, Pool
from pointsman.contracts.names import Env
from pointsman.serving import local_model
from pointsman.serving.ray_instance import running_ray

if TYPE_CHECKING:
    from pointsman.serving.pool_application import PoolArgs

log = logging.getLogger(__name__)

STOP_WITHIN = 3.0
"""Seconds that running answers get when a replica is stopped in order."""

FOLDER = "ray"
"""Name of Ray's folder inside the state folder."""

_LOOK = 1.0
"""Seconds between two looks at the pools."""

_LOOK_WHEN_READY = 15.0
"""The same, once all are ready: it takes some 40 ms of processor time."""

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)

Say = Callable[[str], None]


class PoolFailed(Exception):
    """A pool did not start; the message is for people."""


class _Stopped(BaseException):
    """SIGTERM or SIGINT arrived; a BaseException, so that no handler of errors on the way takes it for one."""


def pools_to_start(config: Config) -> list[Pool]:
    """The pools whose replicas are SGLang engines of this instance."""
    return [pool for pool in config.pools if pool.engine is Engine.SGLANG and not pool.urls]


def run(config: Config, *, redis_url: str, state_dir: Path, say: Say) -> None:
    """
    Serve the pools of `config` until SIGTERM or SIGINT; returns when all is stopped.

    `say` takes a sentence of progress. Raises `PoolFailed` or `local_model.ModelUnavailable` where a pool cannot
    be served. Call from the main thread.
    """
    pools = pools_to_start(config)
    if not pools:
        raise PoolFailed("The configuration has no pool of engine sglang for this machine to start.")
    _stop_on_signals()
    try:
        _prepare_models(pools, say)
        say("starting Ray")
        os.environ[Env.REDIS_URL] = redis_url  # for the policy of autoscaling, in Ray's own process
        with running_ray(state_dir.resolve() / FOLDER):
            _deploy(pools, redis_url)
            try:
                _watch(pools, say)
            except _Stopped:
                say("stopping the engines")
                _withdraw_replicas()
                raise
    except _Stopped:
        pass


def _stop_on_signals() -> None:
    def stop(signum: int, frame: FrameType | None) -> None:
        for one in _STOP_SIGNALS:  # the first is enough; the way down is not to be interrupted
            signal.signal(one, signal.SIG_IGN)
        raise _Stopped

    for signum in _STOP_SIGNALS:
        signal.signal(signum, stop)


def _prepare_models(pools: Iterable[Pool], say: Say) -> None:
    for path in dict.fromkeys(pool.model_path for pool in pools if pool.model_path):
        if not local_model.is_prepared(path):
            say(f"preparing the model {path} (once, about half a minute)")
            local_model.prepare(path)


def _deploy(pools: Iterable[Pool], redis_url: str) -> None:
    from ray import serve

    from pointsman.serving.pool_application import build_pool

    _stop_on_signals()  # Ray has set a handler of its own
    targets = [
        serve.RunTarget(build_pool(_arguments(pool, redis_url)), name=pool.name, route_prefix=None)
        for pool in pools
    ]
    serve.run_many(targets, wait_for_applications_running=False)


def _arguments(pool: Pool, redis_url: str) -> PoolArgs:
    from pointsman.serving.pool_application import PoolArgs

    # The router is stopped before the engines, so that only a replica that is one too many has answers to end.
    drain = STOP_WITHIN if pool.autoscaling is None else pool.answer_timeout
    return PoolArgs(pool=pool, redis_url=redis_url, host="127.0.0.1", drain_timeout=drain)


def _watch(pools: list[Pool], say: Say) -> None:
    from ray import serve

    began = time.monotonic()
    said = ""
    while True:
        applications = serve.status().applications
        states = [_state(pool, applications.get(pool.name)) for pool in pools]
        waiting = [f"pool {pool.name}: {state}" for pool, state in zip(pools, states, strict=True) if state]
        if waiting:
            say(f"{'; '.join(waiting)} ({time.monotonic() - began:.0f} s)")
            said = ""
        elif not said:
            said = f"serving {', '.join(pool.name for pool in pools)}"
            say(said)
        if not waiting:
            began = time.monotonic()
        _bury_the_dead()
        time.sleep(_LOOK if waiting else _LOOK_WHEN_READY)


def _withdraw_replicas() -> None:
    """
    Let replicas that answer end in order; where one is still loading, which cannot be interrupted, there is nothing
    to withdraw, and the end of Ray ends it.
    """
    from ray import serve

    overviews = [one for status in serve.status().applications.values() for one in status.deployments.values()]
    if all(set(overview.replica_states) <= {"RUNNING"} for overview in overviews):
        serve.shutdown()


def _bury_the_dead() -> None:
    """Reap processes of a replica that was lost: this process may be the one that adopts them."""
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error, ChildProcessError):
            if child.status() == psutil.STATUS_ZOMBIE:
                os.waitpid(child.pid, os.WNOHANG)


def _state(pool: Pool, application: Any) -> str | None:
    """What `pool` still waits for; None where all its replicas run. Raises `PoolFailed`."""
    from ray.serve.schema import ApplicationStatus

    if application is None:
        return "being set up"
    if application.status is ApplicationStatus.DEPLOY_FAILED:
        raise PoolFailed(f"Pool {pool.name} did not start: {application.message.strip()}")
    if application.status is ApplicationStatus.RUNNING:
        return None
    replicas: Counter[str] = Counter()
    for overview in application.deployments.values():
        replicas.update(overview.replica_states)
    starting = replicas["STARTING"] + replicas["RECOVERING"]
    running = replicas["RUNNING"]
    return f"loading the model, {running} of {running + starting} replicas ready" if starting else "starting"
