"""What kopf is told: objects that change together are all heard of at once."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import kopf
import pytest
from kopf._cogs.clients import watching
from kopf._cogs.structs.references import Resource
from kopf._core.reactor import queueing

from pointsman.operators.process import _kopf_settings
from pointsman.operators.settings import Settings

OBJECTS = 1000

SOON = 20.0
"""Seconds in which all are heard of; with kopf's own settings and the same limit it would be 78."""


def test_a_thousand_objects_at_once_do_not_stand_in_line(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: set[str] = set()
    all_heard = asyncio.Event()

    async def told(**_: Any) -> AsyncIterator[Any]:
        for number in range(OBJECTS):
            yield {"type": "ADDED", "object": {"metadata": {"uid": f"u{number}", "resourceVersion": "1"}}}
        await asyncio.Event().wait()

    async def processor(*, raw_event: Any, **_: Any) -> None:
        heard.add(raw_event["object"]["metadata"]["uid"])
        if len(heard) == OBJECTS:
            all_heard.set()

    async def scenario(settings: kopf.OperatorSettings) -> float:
        resource = Resource("pointsman.dev", "v1alpha1", "tenants", namespaced=True)
        watcher = queueing.watcher(
            namespace=None,
            settings=settings,
            resource=resource,
            processor=processor,
        )
        task = asyncio.create_task(watcher)
        began = time.monotonic()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(all_heard.wait(), SOON)
        took = time.monotonic() - began
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return took

    monkeypatch.setattr(watching, "infinite_watch", told)
    took = asyncio.run(scenario(_kopf_settings(Settings("http://127.0.0.1:1", "k"))))
    assert len(heard) == OBJECTS, f"{len(heard)} after {took:.1f} s"
