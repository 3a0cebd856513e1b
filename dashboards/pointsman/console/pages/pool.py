"""One pool: its replicas as routers see them, its load over the last minutes, how it scales, and who gets what.

How requests are divided between revisions of its replicas is changed here by owners, where nobody else manages the
pool: everything else of a pool is changed where it is described.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from nicegui import ui

from pointsman.console.admin_client import AdminError
from pointsman.console.page import Page, administrators
from pointsman.console.pages.pools import EVERY, PATH, STATES
from pointsman.console.pages.pools import load as load_of
from pointsman.console.parts.dialogs import button, hint
from pointsman.console.parts.figures import NOTHING, count, percent, seconds
from pointsman.console.parts.live_chart import LiveChart
from pointsman.console.parts.markup import (
    Markup,
    facts,
    joined,
    link,
    mode_pill,
    pill,
    replace,
    show,
    stat,
    stats,
    table,
    tag,
)
from pointsman.console.parts.states import Section
from pointsman.console.theme import SERIES, mode_colour
from pointsman.console.visit import Visit, part
from pointsman.contracts.keys import Role

_REPLICA_STATES = {"ready": "good", "trial": "warn", "resting": "warn", "unhealthy": "bad"}
_CLASSES = ("input", "cached_input", "output", "reasoning")


async def build(visit: Visit) -> None:
    """The pool that the path names."""
    name = visit.path["pool"]
    path = f"{PATH}/{part(name)}"
    show(tag("p", link("← Pools", "/pools"), class_="pm-crumbs"))
    show(tag("h2", name, class_="pm-name"))
    one = await visit.get(path, {"defaults": "true"}, max_age=EVERY)
    now = show(_now(one))
    with ui.element("section").classes("pm-card"):
        show(tag("h3", "Running and waiting since this page was opened"))
        chart = LiveChart(
            visit.scheme,
            ("running", "waiting"),
            (colour_of(one["pool"]["modes"]), visit.scheme.warn),
            label=f"Requests that run and that wait in the pool {name}",
            gap=4 * EVERY,
        )
    with ui.element("div").classes("pm-two"):
        replicas = show(_replicas(one), class_="pm-section")
        show(tag("section", tag("h3", "How it scales"), _scaling(one["pool"]), class_="pm-card"))
        show(tag("section", tag("h3", "What holds for it"), _about(one), class_="pm-card"))
        with ui.element("section").classes("pm-card"):
            show(tag("h3", "Traffic by revision"))
            revisions = show(_revisions(one))
            if visit.who.may(Role.OWNER) and one["managed_by"] == "api" and any(one["revisions"]):
                await _traffic(visit, path)

    def told(fresh: dict[str, Any]) -> None:
        chart.push(time.time(), (fresh["state"]["running"], fresh["state"]["waiting"]))
        replace(now, _now(fresh))
        replace(replicas, _replicas(fresh))
        replace(revisions, _revisions(fresh))

    visit.live(path, told, every=EVERY, params={"defaults": "true"})


def colour_of(modes: Sequence[str]) -> str:
    """The colour of the track that a pool is; one that is both has the console's own."""
    return mode_colour(modes[0]) if len(modes) == 1 else SERIES[4]


def _now(one: Mapping[str, Any]) -> Markup:
    state = one["state"]
    troubles = [tag("p", f"{name}: {told}", class_="pm-warn") for name, told in one["troubles"].items()]
    able = sum(1 for replica in state["replicas"] if {"ready", "trial"} & set(replica["states"]))
    waiting = f"of {count(state['max_waiting'])} that may" if state["max_waiting"] else "none may"
    taken = load_of(state["running"], state["places"], state["modes"])
    condition = pill(state["state"], STATES.get(state["state"], ""))
    return joined(
        [
            *troubles,
            stats(
                stat("State", condition, f"{able} of {len(state['replicas'])} replicas can answer"),
                stat("Running", count(state["running"]), taken),
                stat("Waiting", count(state["waiting"]), waiting),
                stat("Tokens to come", count(state["running_tokens"] + state["waiting_tokens"]), "as predicted"),
            ),
        ]
    )


def _replicas(one: Mapping[str, Any]) -> Markup:
    rows = [
        (
            tag("span", replica["address"], class_="pm-mono"),
            joined(
                pill(state if seen == 1 else f"{state} ×{seen}", _REPLICA_STATES.get(state, ""))
                for state, seen in replica["states"].items()
            )
            if replica["states"]
            else tag("span", "no router has told", class_="pm-faint"),
            count(replica["running"]),
            count(replica["running_tokens"]),
            count(replica["engine_load"]),
            replica["version"] or ("given by URL" if not replica["registered"] else NOTHING),
        )
        for replica in one["state"]["replicas"]
    ]
    columns = ("Address", "State", "Running", "Tokens to come", "Engine's load", "Engine")
    body = (
        table(columns, rows, numeric=(2, 3, 4), caption="Replicas")
        if rows
        else tag("p", "None right now. A pool that sleeps is woken by its next request.", class_="pm-dim")
    )
    return tag("section", tag("h3", "Replicas"), body, class_="pm-card")


def _scaling(pool: Mapping[str, Any]) -> Markup:
    if pool["urls"]:
        return tag("p", f"Somebody else runs its replicas: {len(pool['urls'])} are given by URL.", class_="pm-dim")
    places = {"Places of each": count(pool["max_ongoing_requests"])}
    scaling = pool["autoscaling"]
    if scaling is None:
        return facts({"Replicas": f"{pool['replicas']}, always", **places})
    target = scaling["target_requests"] or pool["max_ongoing_requests"] * 0.75
    zero = scaling["downscale_to_zero_delay"] or scaling["downscale_delay"]
    told: dict[str, Any] = {
        "Replicas": f"{scaling['min_replicas']} to {scaling['max_replicas']}",
        "Each is to have": f"{target:g} requests"
        + (f" or {count(scaling['target_tokens'])} tokens" if scaling["target_tokens"] else ""),
        "More after": seconds(scaling["upscale_delay"]),
        "Fewer after": seconds(scaling["downscale_delay"]),
    }
    if scaling["min_replicas"] == 0:
        told["Sleeps after"] = seconds(zero)
    return facts({**told, **places})


def _about(one: Mapping[str, Any]) -> Markup:
    pool = one["pool"]
    budget = pool["thinking_budget"]
    prices = [f"{name.replace('_', ' ')} ${pool['prices'][name]}" for name in _CLASSES if pool["prices"].get(name)]
    shape = f"TP {pool['tensor_parallel']} · PP {pool['pipeline_parallel']} · {pool['nodes']} node(s)"
    able = [name for name in ("tools", "images", "json_schema", "logprobs") if pool["capabilities"].get(name)]
    return facts(
        {
            "Modes": joined(tag("span", mode_pill(mode), " ") for mode in pool["modes"]),
            "Engine": f"{pool['engine']}, family {pool['family']}",
            "Accelerators": f"{pool['gpu']['type']} · {shape}" if pool["gpu"] else f"none, on CPU · {shape}",
            "Can": ", ".join(able) or "chat alone",
            "Thinking at most": f"{count(budget)} tokens" if budget else "no budget",
            "Per million tokens": " · ".join(prices),
            "Managed by": joined([one["managed_by"], f" ({one['origin']})" if one["origin"] else None]),
            **({"Licence": pool["licence_notice"]} if pool["licence_notice"] else {}),
        }
    )


def _revisions(one: Mapping[str, Any]) -> Markup:
    if not any(one["revisions"]):
        return tag("p", "Its replicas are all alike: there is nothing to divide.", class_="pm-dim")
    rows = [
        (
            tag("span", name or "none named", class_="pm-mono"),
            NOTHING if revision["weight"] is None else f"{revision['weight']:g}",
            count(revision["replicas"]),
            count(revision["requests"]),
            percent(revision["errors"] / revision["requests"] if revision["requests"] else None),
            seconds(revision["ttft_p95"]),
        )
        for name, revision in one["revisions"].items()
    ]
    columns = ("Revision", "Weight", "Replicas", "Requests", "Failed", "First byte, p95")
    return table(columns, rows, numeric=(1, 2, 3, 4, 5), caption="Revisions")


async def _traffic(visit: Visit, path: str) -> None:
    """Weights of the revisions, to be changed."""

    async def load() -> None:
        answer = await visit.call("GET", path)
        one, etag = answer.body, answer.etag
        boxes = {}
        with ui.element("div").classes("pm-form"):
            for name in filter(None, one["revisions"]):
                weight = one["traffic"].get(name)
                said = "" if weight is None else f"{weight:g}"
                box = ui.input(f"Weight of {name}", value=said, placeholder="alike")
                boxes[name] = box.props("outlined dense stack-label inputmode=decimal").classes("pm-field")

        async def save() -> None:
            weights = {}
            for name, box in boxes.items():
                box.error = None
                try:
                    if text := (box.value or "").strip():
                        weights[name] = float(text)
                except ValueError:
                    box.error = "This is no number."
                    return
            try:
                await visit.call("PUT", f"{path}/traffic", json=weights, headers={"if-match": etag or ""})
            except AdminError as error:
                at_fault = boxes.get(error.param or "")
                if at_fault is None:
                    raise
                at_fault.error = error.message
                return
            visit.say("Saved. Routers divide by it from now on.")
            await section.refresh()

        with ui.element("div").classes("pm-row"):
            button("Divide", visit.doing(save), kind="pm-primary")
            hint("Empty everywhere: all replicas alike.")

    section = Section(load)
    await section.refresh()


PAGE = Page("/pools/{pool}", "Pool", build, allowed=administrators, listed=False)
