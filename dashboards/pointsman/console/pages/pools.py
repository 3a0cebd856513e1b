"""Pools as they are right now: who answers which model in which mode, how busy they are, and who waits.

For administrators. Kept up to date while it is looked at; everybody who looks shares two questions to the router.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pointsman.console.page import Page, administrators
from pointsman.console.parts.figures import NOTHING, count, seconds
from pointsman.console.parts.markup import Markup, joined, link, mode_pill, pill, replace, show, tag
from pointsman.console.parts.states import empty
from pointsman.console.visit import Visit, part

EVERY = 2.0
"""Seconds after which it is looked at again."""

PATH, LIVE = "/admin/v1/pools", "/admin/v1/live"

STATES = {"ready": "good", "full": "warn", "unavailable": "bad", "unknown": ""}
"""States of pools, as `pill` shows them."""


async def build(visit: Visit) -> None:
    """A card for each pool."""
    pools, now = await visit.get(PATH, max_age=EVERY), await visit.get(LIVE, max_age=EVERY)
    if not pools["data"]:
        empty("There are no pools", "They stand in the configuration file, or the operator makes them.")
        return
    shown = show(Markup(""))

    def draw() -> None:
        rates = {rate["pool"]: rate for rate in merged(now["rates"])}
        cards = [_card(pool, rates.get(pool["pool"])) for pool in pools["data"]]
        troubles = [tag("p", f"{name}: {told}", class_="pm-warn") for name, told in pools["troubles"].items()]
        replace(shown, joined([*troubles, tag("div", *cards, class_="pm-grid")]))

    def take_pools(fresh: dict[str, Any]) -> None:
        nonlocal pools
        pools = fresh
        draw()

    def take_rates(fresh: dict[str, Any]) -> None:
        nonlocal now
        now = fresh
        draw()

    draw()
    visit.live(PATH, take_pools, every=EVERY)
    visit.live(LIVE, take_rates, every=EVERY)


def merged(rates: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What ended lately by pool, where the router tells it by pool and mode."""
    sums: dict[str, dict[str, Any]] = {}
    for rate in rates:
        one = sums.setdefault(
            rate["pool"], {"pool": rate["pool"], "requests_per_second": 0.0, "weighed": 0.0, "first": None}
        )
        one["requests_per_second"] += rate["requests_per_second"]
        one["weighed"] += rate["requests_per_second"] * rate["mean_seconds"]
        if rate["mean_first_byte_seconds"] is not None:
            one["first"] = max(one["first"] or 0.0, rate["mean_first_byte_seconds"])
    for one in sums.values():
        one["mean_seconds"] = one["weighed"] / one["requests_per_second"] if one["requests_per_second"] else None
    return list(sums.values())


def load(running: int, places: int, modes: Iterable[str]) -> Markup:
    """How much of a pool's places is taken, as a bar in the colour of its track and as words."""
    tracks = list(modes)
    kind = f"pm-{tracks[0].replace('_', '-')}" if len(tracks) == 1 else None
    share = min(running / places, 1.0) if places else 0.0
    bar = tag("span", tag("i", class_=kind, style=f"width:{share * 100:.1f}%"), class_="pm-bar", aria_hidden="true")
    return tag("div", bar, tag("p", f"{count(running)} of {count(places)} places taken", class_="pm-dim pm-small"))


def _card(pool: Mapping[str, Any], rate: Mapping[str, Any] | None) -> Markup:
    name = pool["pool"]
    able = sum(1 for replica in pool["replicas"] if {"ready", "trial"} & set(replica["states"]))
    return tag(
        "section",
        tag(
            "div",
            tag("h2", link(name, f"/pools/{part(name)}")),
            pill(pool["state"], STATES.get(pool["state"], "")),
            class_="pm-card-head",
        ),
        tag(
            "p",
            tag("span", pool["model"], class_="pm-mono"),
            " ",
            joined(tag("span", mode_pill(mode), " ") for mode in pool["modes"]),
            tag("span", pool["engine"], class_="pm-faint"),
            class_="pm-row",
        ),
        load(pool["running"], pool["places"], pool["modes"]),
        tag(
            "dl",
            _number("Replicas", f"{able} of {len(pool['replicas'])}"),
            _number("Requests/s", f"{rate['requests_per_second']:.1f}" if rate else "0"),
            _number("First byte", seconds(rate["first"]) if rate else NOTHING),
            _number("Answer", seconds(rate["mean_seconds"]) if rate else NOTHING),
            _number("Waiting", count(pool["waiting"])),
            _number("Tokens to come", count(pool["running_tokens"] + pool["waiting_tokens"])),
            class_="pm-numbers",
        ),
        class_="pm-card",
    )


def _number(name: str, value: str) -> Markup:
    return tag("div", tag("dt", name), tag("dd", value))


PAGE = Page(
    "/pools",
    "Pools",
    build,
    icon="M4 7h16v4H4zM4 13h16v4H4zM8 9h.01M8 15h.01",
    allowed=administrators,
)
