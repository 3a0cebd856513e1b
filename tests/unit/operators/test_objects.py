"""Copies of Tenants and ModePolicies: what of an event is news, beside the operator's own writes."""

from __future__ import annotations

from typing import Any

from pointsman.operators.kinds import MODE_POLICY
from pointsman.operators.objects import Objects, Ref

HERE = Ref("shop", "rules")


def policy(version: int, *, generation: int, told: int = 0) -> dict[str, Any]:
    """The ModePolicy at resource version `version`, whose status speaks of the generation `told`."""
    metadata = {"namespace": HERE.namespace, "name": HERE.name, "uid": "u-1", "resourceVersion": str(version)}
    return {
        "metadata": {**metadata, "generation": generation},
        "spec": {"threshold": generation / 10},
        "status": {"observedGeneration": told} if told else {},
    }


def generation(objects: Objects) -> int | None:
    copy = objects.get(HERE)
    return None if copy is None else copy.body(MODE_POLICY)["metadata"]["generation"]


def test_a_status_of_our_own_is_no_news_and_whatever_else_changed_is() -> None:
    objects = Objects(MODE_POLICY)
    assert objects.seen(policy(1, generation=1))
    objects.wrote(policy(2, generation=1, told=1))
    assert not objects.seen(policy(2, generation=1, told=1))
    assert objects.seen(policy(3, generation=2, told=1))
    assert objects.seen(policy(4, generation=2)), "somebody else's status is to be put right"
    assert not objects.seen(policy(3, generation=2, told=1)), "late"


def test_a_change_that_crosses_our_own_write_is_news_when_the_watch_tells_of_it() -> None:
    objects = Objects(MODE_POLICY)
    objects.seen(policy(1, generation=1))
    objects.wrote(policy(3, generation=2, told=1))  # somebody wrote generation 2 while we told of the first
    assert generation(objects) == 1
    assert objects.seen(policy(2, generation=2))
    assert objects.seen(policy(3, generation=2, told=1))

    heard_first = Objects(MODE_POLICY)
    heard_first.seen(policy(1, generation=1))
    assert heard_first.seen(policy(2, generation=2))
    heard_first.wrote(policy(3, generation=2, told=1))
    assert not heard_first.seen(policy(3, generation=2, told=1))


def test_an_answer_that_comes_after_the_object_has_gone_brings_none_back() -> None:
    objects = Objects(MODE_POLICY)
    objects.seen(policy(1, generation=1))
    assert objects.gone(HERE, resource_version=3)
    objects.wrote(policy(2, generation=1, told=1))
    assert generation(objects) is None
