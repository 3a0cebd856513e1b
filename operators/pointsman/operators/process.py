"""The process `pointsman operator`: waits for the Lease, then watches and reconciles until it is stopped.

Whatever ends, ends the process, and Kubernetes starts another one: nothing is kept in memory that could be lost. A
Lease that can't be renewed ends it at once, without another write, because somebody else may work already.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Coroutine
from typing import Any

import kopf

from pointsman.operators import health
from pointsman.operators.admin_client import AdminApi
from pointsman.operators.cluster import Cluster
from pointsman.operators.context import Context
from pointsman.operators.kinds import FINALIZER, GROUP
from pointsman.operators.lease import Lease, LeaseLost
from pointsman.operators.metrics import LEADER, QUEUED, REGISTRY
from pointsman.operators.pools import PoolKeeper
from pointsman.operators.settings import Settings
from pointsman.operators.tenants import Tenancy

log = logging.getLogger(__name__)

LOST = 3
"""Exit status of an operator whose Lease is another's now."""

_WATCH = 240
"""Seconds after which a watch is begun anew, so that one that has silently died is noticed."""


_CHUNK = 500
"""Objects that kopf lists at a time: ten thousand Tenants in one answer are tens of megabytes of memory."""


def run(settings: Settings) -> int:
    """Run until SIGTERM or SIGINT; the exit status. Call from the main thread."""
    return asyncio.run(_run(settings))


async def _run(settings: Settings) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    cluster = await Cluster.connect(settings.kubeconfig)
    context = Context(settings, cluster, AdminApi(settings.admin_url, settings.admin_key))
    lease = Lease(cluster, namespace=settings.namespace, identity=settings.identity, seconds=settings.lease_seconds)
    LEADER.set_function(lambda: float(lease.held))
    pages = await health.serve(
        settings.host, settings.port, state=lambda: "leading" if lease.held else "waiting", registry=REGISTRY
    )
    try:
        if await _first(stop.wait(), lease.acquire()) == 0:
            return 0
        return await _lead(context, lease, stop)
    finally:
        await pages.cleanup()
        await context.admin.close()
        await cluster.close()


async def _lead(context: Context, lease: Lease, stop: asyncio.Event) -> int:
    """Work while the Lease is held; the exit status."""
    registry, kopf_settings = kopf.OperatorRegistry(), _kopf_settings(context.settings)
    _login(registry, context.settings)
    pools, tenancy = PoolKeeper(context), Tenancy(context.cluster, context.admin, context.settings.namespaces)
    for keeper in (pools, tenancy):
        keeper.register(registry)
    QUEUED.labels("pools").set_function(lambda: float(len(pools.queue)))
    QUEUED.labels("tenants").set_function(lambda: float(len(tenancy.queue)))
    namespaces = context.settings.namespaces
    watching = kopf.operator(
        registry=registry,
        settings=kopf_settings,
        standalone=True,
        clusterwide=not namespaces,
        namespaces=namespaces,
        stop_flag=stop,
    )
    try:
        await _first(watching, lease.keep(), pools.run(), tenancy.run())
    except LeaseLost as lost:
        log.critical("%s: ending at once", lost)
        logging.shutdown()
        os._exit(LOST)
    await lease.release()
    return 0


async def _first(*coroutines: Coroutine[Any, Any, Any]) -> int:
    """
    Run all until the first ends, then cancel the others; which one it was. Raises what it raised.

    One that was cancelled has not ended: kopf, when it stops, cancels whatever began after itself.
    """
    tasks = [asyncio.create_task(each) for each in coroutines]
    running = set(tasks)
    try:
        while True:
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if not task.cancelled():
                    task.result()
                    return tasks.index(task)
            if not running:
                return 0
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _kopf_settings(settings: Settings) -> kopf.OperatorSettings:
    """kopf as a quiet watcher: its events, its own names and its limits replaced by ours."""
    logging.getLogger("kopf").setLevel(logging.WARNING)  # else a line for each event of each object
    logging.getLogger("kopf.objects").addFilter(_awaited_is_no_error)
    chosen = kopf.OperatorSettings()
    chosen.posting.enabled = False  # Events are the keepers' to write
    chosen.persistence.finalizer = FINALIZER
    chosen.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=GROUP)
    chosen.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix=GROUP, key="last-handled")
    chosen.scanning.disabled = True  # it would watch all kinds and namespaces, which needs rules of its own
    chosen.watching.server_timeout = _WATCH
    chosen.watching.client_timeout = _WATCH + 30
    chosen.watching.connect_timeout = 10
    chosen.networking.request_timeout = 30
    # The handlers of events only name who is to be looked at, so a worker of kopf's is done at once; but it stays
    # for `idle_timeout`, and keeps its place as long: with kopf's 5 s no more than 13 objects a second got one.
    chosen.queueing.worker_limit = 64
    chosen.queueing.idle_timeout = 0.01
    chosen.watching.chunk_size = _CHUNK
    chosen.process.ultimate_exiting_timeout = 20
    return chosen


def _awaited_is_no_error(record: logging.LogRecord) -> bool:
    """Leaves out what kopf says of a handler that asked to be called again: the pool's status says it."""
    return "failed temporarily" not in record.getMessage()


def _login(registry: kopf.OperatorRegistry, settings: Settings) -> None:
    """Have kopf use the credentials that the cluster's client uses."""

    @kopf.on.login(registry=registry)
    async def login(**kwargs: Any) -> Any:
        if settings.kubeconfig is not None:
            os.environ["KUBECONFIG"] = settings.kubeconfig
        in_pod = os.environ.get("KUBERNETES_SERVICE_HOST") and not os.environ.get("KUBECONFIG")
        return (kopf.login_with_service_account if in_pod else kopf.login_with_kubeconfig)(**kwargs)
