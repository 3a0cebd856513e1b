"""The overview: what goes on now on both tracks, what an hour of it costs, and what it spares.

An administrator sees the whole fleet, second by second, as the routers tell it. A tenant sees its own use: the
router keeps no live numbers by tenant, so these come from the ledger, every few seconds.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from nicegui import ui

from pointsman.console.page import Page
from pointsman.console.parts.figures import NOTHING, about_dollars, clock, dollars, moment, percent, seconds, short
from pointsman.console.parts.live_chart import LiveChart, Ring
from pointsman.console.parts.markup import (
    Markup,
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
from pointsman.console.parts.rails import Rails, Track
from pointsman.console.visit import Visit, part
from pointsman.contracts.colours import NO_THINK, THINK

LIVE = "/admin/v1/live"

_OWN_EVERY = 5.0
"""Seconds between two looks at a tenant's own use."""

_MODES = ("think", "no_think")
_COURSES = (("Requests a second", ""), ("Tokens a second", ""), ("Dollars an hour", " $"))


async def build(visit: Visit) -> None:
    """The fleet's overview, or a tenant's own."""
    if visit.who.is_admin:
        await _fleet(visit)
    else:
        await _own(visit)


async def _fleet(visit: Visit) -> None:
    now = await visit.get(LIVE)
    pools = {pool["pool"]: pool for pool in (await visit.get("/admin/v1/pools", max_age=30.0))["data"]}
    numbers = show(_numbers(now))
    with ui.element("section").classes("pm-card").props('aria-label="Both tracks"'):
        rails = Rails()
    ring: Ring = visit.shared.setdefault("overview", Ring())
    charts = _charts(visit, ring, gap=5.0)
    with ui.element("section").classes("pm-card"):
        show(
            tag("h2", "By model, mode and pool")
            + tag("p", "Of what ended in the last ten seconds.", class_="pm-dim")
        )
        rates = show(_rates(now))
    with ui.element("section").classes("pm-card"):
        show(tag("h2", "Processes"))
        processes = show(_processes(now))

    def told(now: dict[str, Any]) -> None:
        at = datetime.fromisoformat(now["at"]).timestamp()
        values = _values(now)
        ring.add(at, values)
        for place, chart in enumerate(charts):
            chart.push(at, values[2 * place : 2 * place + 2])
        replace(numbers, _numbers(now))
        replace(rates, _rates(now))
        replace(processes, _processes(now))
        rails.show(*(_track(now, pools, mode) for mode in _MODES))

    told(now)
    visit.live(LIVE, told, every=1.0)


def _charts(visit: Visit, ring: Ring, *, gap: float) -> list[LiveChart]:
    charts = []
    with ui.element("div").classes("pm-grid"):
        for place, (title, unit) in enumerate(_COURSES):
            with ui.element("section").classes("pm-card"):
                legend = tag("span", mode_pill("think"), mode_pill("no_think"), class_="pm-legend")
                show(tag("h2", title) + legend, class_="pm-card-head")
                past = [(at, values[2 * place : 2 * place + 2]) for at, values in ring.points]
                label = f"{title} on each track, over the last hour"
                charts.append(
                    LiveChart(
                        visit.scheme,
                        ("think", "no think"),
                        (THINK, NO_THINK),
                        label=label,
                        unit=unit,
                        past=past,
                        gap=gap,
                    )
                )
    return charts


def _values(now: Mapping[str, Any]) -> tuple[float, ...]:
    """Requests and tokens a second and dollars an hour, each of both modes."""
    return tuple(
        sum(rate[name] for rate in now["rates"] if rate["mode"] == mode)
        for name in ("requests_per_second", "output_tokens_per_second", "usd_per_hour")
        for mode in _MODES
    )


def _numbers(now: Mapping[str, Any]) -> Markup:
    think, fast, think_tokens, fast_tokens, think_usd, fast_usd = _values(now)
    spared = now["spared"]
    since = min((router["started_at"] for router in now["routers"]), default=None)
    if spared["requests"]:
        low, high = (about_dollars(spared[name]["nano"] / 1e9) for name in ("low", "high"))
        note = f"{low} to {high}, estimated, since {moment(since)[:16] if since else '–'}"
        saved = stat("Spared by not thinking", about_dollars(spared["middle"]["nano"] / 1e9), note)
    else:
        saved = stat("Spared by not thinking", "–", "not enough answers in both modes yet")
    waiting = f"{now['waiting']} waiting for a place"
    return stats(
        stat("In flight", now["in_flight"], waiting),
        stat("Requests a second", short(think + fast), f"{_share(think, think + fast)} think"),
        stat("Tokens a second", short(think_tokens + fast_tokens), "of output"),
        stat("Dollars an hour", about_dollars(think_usd + fast_usd), f"{about_dollars(think_usd)} of it thinking"),
        saved,
    )


def _track(now: Mapping[str, Any], pools: Mapping[str, Mapping[str, Any]], mode: str) -> Track:
    of_mode = [rate for rate in now["rates"] if rate["mode"] == mode]
    rate = sum(one["requests_per_second"] for one in of_mode)
    spent = sum(one["requests_per_second"] * one["mean_seconds"] for one in of_mode)
    loads = [load for name, load in now["pools"].items() if name in pools and mode in pools[name]["modes"]]
    running, places, waiting = (sum(load[name] for load in loads) for name in ("running", "places", "waiting"))
    takes = spent / rate if rate else 0.0
    note = f"{running} of {places} places, {waiting} waiting"
    return Track(round(rate, 2), round(takes, 2), f"{note}, {seconds(takes)}" if rate else note)


def _rates(now: Mapping[str, Any]) -> Markup:
    if not now["rates"]:
        return tag(
            "p", "Nothing ended in the last ten seconds. ", tag("code", "pointsman traffic"), " plays questions."
        )
    return table(
        ("Model", "Mode", "Pool", "Requests/s", "Mean time", "First byte", "Tokens/s", "Dollars/h"),
        [
            (
                rate["model"] or "–",
                mode_pill(rate["mode"]),
                link(rate["pool"], f"/pools/{part(rate['pool'])}") if rate["pool"] else "–",
                f"{rate['requests_per_second']:.1f}",
                seconds(rate["mean_seconds"]),
                seconds(rate["mean_first_byte_seconds"]),
                short(rate["output_tokens_per_second"]),
                about_dollars(rate["usd_per_hour"]),
            )
            for rate in now["rates"]
        ],
        numeric=(3, 4, 5, 6, 7),
        caption="Rates by model, mode and pool",
    )


def _processes(now: Mapping[str, Any]) -> Markup:
    rows: list[Sequence[Any]] = [
        (
            f"router {router['host']}:{router['pid']}",
            pill(router["status"], "good" if router["status"] == "ready" else "warn"),
            _troubles(router["troubles"]),
            moment(router["started_at"]),
        )
        for router in now["routers"]
    ]
    for name, troubles in now["parts"].items():
        state = pill("says nothing", "bad") if troubles is None else pill("ready", "good")
        if troubles:
            state = pill("degraded", "warn")
        rows.append((name, state, _troubles(troubles or {}), ""))
    return table(("Process", "State", "Does without", "Since (UTC)"), rows, caption="Processes")


def _troubles(troubles: Mapping[str, str]) -> Markup | str:
    return joined(tag("div", f"{name}: {words}", class_="pm-warn") for name, words in troubles.items()) or "nothing"


async def _own(visit: Visit) -> None:
    midnight = datetime.now(UTC).strftime("%Y-%m-%dT00:00:00Z")
    params = {"by": "mode", "since": midnight}
    report = await visit.get("/v1/usage", params)
    numbers = show(_own_numbers(report["data"]))
    with ui.element("section").classes("pm-card").props('aria-label="Both tracks"'):
        rails = Rails()
    ring: Ring = visit.shared.setdefault("own overview", Ring())
    charts = _charts(visit, ring, gap=4 * _OWN_EVERY)
    with ui.element("section").classes("pm-card"):
        show(tag("h2", "Latest decisions"))
        latest = show(Markup(""))
    before = _Sums(time.time(), report["data"])

    def told(report: dict[str, Any]) -> None:
        nonlocal before
        now = _Sums(time.time(), report["data"])
        values = now.rates_since(before)
        before = now
        ring.add(now.at, values)
        for place, chart in enumerate(charts):
            chart.push(now.at, values[2 * place : 2 * place + 2])
        replace(numbers, _own_numbers(report["data"]))
        think, fast = (
            Track(round(rate, 2), takes, "of yours") for rate, takes in zip(values[:2], (5.0, 1.5), strict=True)
        )
        rails.show(think, fast)

    def told_latest(page: dict[str, Any]) -> None:
        replace(latest, _latest(page["data"]))

    decisions = await visit.get("/v1/decisions", {"limit": 12})
    told_latest(decisions)
    visit.live("/v1/usage", told, every=_OWN_EVERY, params=params)
    visit.live("/v1/decisions", told_latest, every=_OWN_EVERY, params={"limit": 12})


class _Sums:
    """What was used up to `at`, in seconds since 1970, by mode."""

    def __init__(self, at: float, rows: Sequence[Mapping[str, Any]]) -> None:
        self.at = at
        self._by_mode = {
            row["mode"]: (row["requests"], row["usage"]["reasoning"] + row["usage"]["answer"], row["cost"])
            for row in rows
        }

    def of(self, mode: str) -> tuple[int, int, int]:
        """Requests, tokens of output, and nano-dollars."""
        return self._by_mode.get(mode, (0, 0, 0))

    def rates_since(self, before: _Sums) -> tuple[float, ...]:
        """Requests and tokens a second and dollars an hour since `before`, each of both modes."""
        passed = max(self.at - before.at, 0.1)
        factors = (1 / passed, 1 / passed, 3600 / 1e9 / passed)
        return tuple(
            max(0, self.of(mode)[place] - before.of(mode)[place]) * factor
            for place, factor in enumerate(factors)
            for mode in _MODES
        )


def _share(some: float, all_of_them: float) -> str:
    return percent(some / all_of_them, digits=0) if all_of_them else NOTHING


def _own_numbers(rows: Sequence[Mapping[str, Any]]) -> Markup:
    total = sum(row["requests"] for row in rows)
    thought = sum(row["requests"] for row in rows if row["mode"] == "think")
    reasoning = sum(row["usage"]["reasoning"] for row in rows)
    answer = sum(row["usage"]["answer"] for row in rows)
    prompt = sum(row["usage"]["input"] + row["usage"]["cached_input"] for row in rows)
    return stats(
        stat("Requests today", f"{total:,}", f"{_share(thought, total)} think"),
        stat("Cost today", dollars(sum(row["cost"] for row in rows)), "UTC, as billed"),
        stat("Thinking tokens", short(reasoning), f"{short(answer)} of answers"),
        stat("Prompt tokens", short(prompt)),
    )


def _latest(decisions: Sequence[Mapping[str, Any]]) -> Markup:
    if not decisions:
        return tag("p", "No decision yet: ask something with this tenant's key.", class_="pm-dim")
    rows = [
        (
            link(clock(one["at"]), f"/decisions/{part(one['id'])}"),
            one["model"],
            mode_pill(one["mode"]),
            one["source"],
        )
        for one in decisions
    ]
    return table(("When (UTC)", "Model", "Mode", "Decided by"), rows, caption="Latest decisions")


PAGE = Page("/", "Overview", build, icon="M3 17h18M3 17c8 0 8-10 18-10")
