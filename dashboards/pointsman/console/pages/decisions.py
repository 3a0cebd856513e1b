"""Decisions, newest first: filtered by what the address says, so that a view can be kept and sent to somebody.

A tenant sees its own, an administrator everybody's, and those that wait for a reviewer. The filter is a plain form:
it works by keyboard, and before any script has run. The first page keeps itself up to date.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from nicegui.events import GenericEventArguments

from pointsman.console.page import Page
from pointsman.console.parts.figures import NOTHING, clock, dollars, seconds
from pointsman.console.parts.markup import Markup, joined, link, mode_pill, pill, replace, show, table, tag
from pointsman.console.parts.states import empty
from pointsman.console.visit import Visit
from pointsman.contracts.decisions import Doubt
from pointsman.contracts.modes import Mode, Source

ON_A_PAGE = 40
"""Decisions on one page."""

EVERY = 3.0
"""Seconds after which the first page is looked at again."""

SPANS = {"15m": timedelta(minutes=15), "1h": timedelta(hours=1), "24h": timedelta(days=1), "7d": timedelta(days=7)}
"""How far back one may look, beside `all`."""

DOUBTS = {
    Doubt.NEAR_THRESHOLD: "near the threshold",
    Doubt.JUDGEMENT: "the model judged otherwise",
    Doubt.ESCALATED: "escalated",
    Doubt.FEEDBACK: "feedback",
}
"""Why a decision is worth a look, in words."""

_CHOICES: dict[str, dict[str, str]] = {
    "since": {"": "any time", **{span: f"last {span}" for span in SPANS}},
    "mode": {"": "any mode", **{mode.value: mode.value for mode in Mode}},
    "source": {"": "any source", **{source.value: source.value for source in Source}},
    "escalated": {"": "escalated or not", "true": "escalated", "false": "not escalated"},
}


async def build(visit: Visit) -> None:
    """The list, or the queue of reviews."""
    queue = visit.who.is_admin and visit.query.get("view") == "review"
    if visit.who.is_admin:
        views = {"": "All", "review": "To review"}
        show(
            tag(
                "div",
                *(
                    tag(
                        "a",
                        name,
                        href=f"/decisions?view={view}" if view else "/decisions",
                        aria_current="page" if (view == "review") == queue else None,
                    )
                    for view, name in views.items()
                ),
                class_="pm-tabs",
            )
        )
    wanted = {} if queue else _wanted(visit.query, tenants=visit.who.is_admin)
    if queue and (tenant := visit.query.get("tenant")):
        wanted["tenant"] = tenant
    show(_form(visit, queue=queue))
    path = "/admin/v1/reviews" if queue else "/admin/v1/decisions" if visit.who.is_admin else "/v1/decisions"
    after = visit.query.get("after")

    def params() -> dict[str, Any]:
        return {"limit": ON_A_PAGE, **wanted, "after": after}

    page = await visit.get(path, params())
    if not page["data"]:
        _nothing(queue=queue, filtered=bool(wanted))
        return
    shown = show(_list(page, visit))
    if after is not None:
        return
    reading = False

    def comes(_: GenericEventArguments) -> None:
        nonlocal reading
        reading = True

    def leaves(_: GenericEventArguments) -> None:
        nonlocal reading
        reading = False

    def renew(fresh: Mapping[str, Any]) -> None:
        if not reading:  # what somebody points at or has the focus on must not move away under them
            replace(shown, _list(fresh, visit))

    for event, heed in (("focusin", comes), ("mouseenter", comes), ("focusout", leaves), ("mouseleave", leaves)):
        shown.on(event, heed, args=[])
    visit.live(path, renew, every=EVERY, params=params())


def _wanted(query: Mapping[str, str], *, tenants: bool) -> dict[str, Any]:
    """The API's filter that the address asks for; what is no choice of the form counts as none."""
    wanted: dict[str, Any] = {name: said for name in ("model",) if (said := query.get(name, "").strip())}
    if tenants and (tenant := query.get("tenant", "").strip()):
        wanted["tenant"] = tenant
    for name in ("mode", "source", "escalated"):
        if (said := query.get(name, "")) and said in _CHOICES[name]:
            wanted[name] = said
    if span := SPANS.get(query.get("since", "")):
        # Whole minutes: who looks at the same thing within one shares the question.
        begun = datetime.now(UTC).replace(second=0, microsecond=0) - span
        wanted["since"] = begun.isoformat()
    return wanted


def _form(visit: Visit, *, queue: bool) -> Markup:
    fields = []
    if visit.who.is_admin:
        fields.append(_text("tenant", "Tenant", visit.query))
    if not queue:
        fields.append(_text("model", "Model", visit.query))
        fields += [
            _select(name, label, visit.query)
            for name, label in (
                ("since", "Time"),
                ("mode", "Mode"),
                ("source", "Decided by"),
                ("escalated", "Second try"),
            )
        ]
    kept = tag("input", type="hidden", name_="view", value="review") if queue else None
    return tag(
        "form",
        kept,
        *fields,
        tag("button", "Filter", type="submit", class_="pm-primary"),
        method="get",
        action="/decisions",
        class_="pm-filter",
        role="search",
        aria_label="Filter decisions",
    )


def _text(name: str, label: str, query: Mapping[str, str]) -> Markup:
    field = tag(
        "input", type="text", name_=name, value=query.get(name, ""), maxlength=128, autocomplete="off", size=12
    )
    return tag("label", label, field)


def _select(name: str, label: str, query: Mapping[str, str]) -> Markup:
    said = query.get(name, "")
    options = (tag("option", text, value=value, selected=value == said) for value, text in _CHOICES[name].items())
    return tag("label", label, tag("select", *options, name_=name))


def _list(page: Mapping[str, Any], visit: Visit) -> Markup:
    tenants = visit.who.is_admin
    columns = ["Time (UTC)", "Mode", "P(think)", "Decided by", "Model", "Cost", "Took", "Status", ""]
    if tenants:
        columns.insert(1, "Tenant")
    rows = [_row(each, tenants=tenants) for each in page["data"]]
    first = 6 if tenants else 5
    shown = table(columns, rows, numeric=(first, first + 1), caption="Decisions, newest first")
    return tag("div", shown, _more(page, visit), class_="pm-card")


def _row(decision: Mapping[str, Any], *, tenants: bool) -> list[Any]:
    bad = decision["status"] >= 400
    row: list[Any] = [
        link(clock(decision["at"]), f"/decisions/{decision['id']}", class_="pm-mono pm-time"),
        joined(
            [
                mode_pill(decision["mode"]),
                tag("span", " escalated", class_="pm-faint") if decision["escalated"] else None,
            ]
        ),
        _mini(decision),
        decision["source"] + (f" ({decision['rule']})" if decision["rule"] else ""),
        decision["model"],
        dollars(decision["cost"]),
        seconds(decision["duration"]),
        pill(str(decision["status"]), "bad" if bad else "good"),
        _notes(decision),
    ]
    if tenants:
        row.insert(1, decision["tenant"])
    return row


def _mini(decision: Mapping[str, Any]) -> Markup:
    """P(think) with a bar that shows it against the threshold."""
    probability, threshold = decision["probability"], decision["threshold"]
    if probability is None:
        return tag("span", NOTHING, class_="pm-faint")
    kind = "pm-think" if probability >= threshold else "pm-no-think"
    bar = tag(
        "span",
        tag("i", class_=kind, style=f"width:{probability * 100:.1f}%"),
        tag("b", style=f"left:{threshold * 100:.1f}%"),
        class_="pm-mini",
        aria_hidden="true",
    )
    return tag("span", bar, f"{probability:.3f}", style="white-space:nowrap")


def _notes(decision: Mapping[str, Any]) -> Markup:
    """What people said, and why it is worth a look."""
    words = [DOUBTS[Doubt(doubt)] for doubt in decision["doubtful"]]
    if decision["reviewed"]:
        words = ["reviewed"]
    return tag("span", ", ".join(words), class_="pm-faint pm-small")


def _more(page: Mapping[str, Any], visit: Visit) -> Markup:
    kept = {name: value for name, value in visit.query.items() if name != "after" and value}
    newest = f"/decisions?{urlencode(kept)}"
    older = f"/decisions?{urlencode({**kept, 'after': page['after']})}" if page["after"] else None
    return tag(
        "div",
        link("Newest", newest) if visit.query.get("after") else tag("span", "Newest first"),
        link("Older →", older) if older else tag("span", "No older ones"),
        class_="pm-more",
    )


def _nothing(*, queue: bool, filtered: bool) -> None:
    if queue:
        empty(
            "Nothing waits for a review", "Doubtful decisions of tenants that let reviewers see them turn up here."
        )
    elif filtered:
        empty("No decision is like that", joined(["Loosen the filter, or ", link("see all", "/decisions"), "."]))
    else:
        hint = joined(
            [
                "Ask something, in the ",
                link("playground", "/playground"),
                " or with ",
                tag("code", "pointsman traffic"),
                ".",
            ]
        )
        empty("No decisions yet", hint)


PAGE = Page("/decisions", "Decisions", build, icon="M12 3v6m0 0-6 6v6m6-12 6 6v6")
