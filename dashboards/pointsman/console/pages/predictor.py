"""One tenant's predictor: what it was made of, how the gate judged it, whom it judges, and the way back.

Whom a predictor judges is said by policies. To roll one back is to let the policy before hold again, as
`pointsman policies rollback` does: as a new version, and only if nobody has changed it since it was looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nicegui import ui

from pointsman.console.admin_client import AdminError
from pointsman.console.page import Page, administrators
from pointsman.console.pages.predictors import PATH, gate
from pointsman.console.parts.dialogs import button, confirmed, hint
from pointsman.console.parts.figures import NOTHING, count, moment
from pointsman.console.parts.markup import Markup, facts, link, pill, show, table, tag
from pointsman.console.parts.states import Section
from pointsman.console.visit import Visit, part
from pointsman.contracts.keys import Role

_ROWS = {"tenant": "the tenant's, held out", "base_set": "everybody's"}
_FIGURES = ("accuracy", "auroc", "loss")


async def build(visit: Visit) -> None:
    """The predictor that the path names."""
    version = str(visit.path["version"])

    async def load() -> None:
        one = (await visit.call("GET", f"{PATH}/{part(version)}")).body
        show(_head(one) + _judged(one), class_="pm-section")
        with ui.element("div").classes("pm-two"):
            with ui.element("section").classes("pm-card"):
                show(tag("h2", "Whom it judges"))
                _users(visit, one, section)
            show(tag("section", tag("h2", "What it is"), _about(one), class_="pm-card"))

    section = Section(load)
    await section.refresh()


def _head(one: Mapping[str, Any]) -> Markup:
    late = None if one["live"] else pill("not yet where routers read it", "warn")
    return tag(
        "div",
        tag("div", link("← Predictors", "/predictors"), class_="pm-row"),
        tag("p", tag("span", one["version"], class_="pm-lead pm-name"), " ", gate(one), " ", late),
        class_="pm-section",
    )


def _judged(one: Mapping[str, Any]) -> Markup:
    """The gate's report: both predictors on the same rows."""
    verdict = one["report"].get("gate")
    verdict = verdict if isinstance(verdict, Mapping) else {}
    reason = one["refusal"] or verdict.get("reason") or "Its file says nothing of a gate."
    inner: list[Any] = [tag("h2", "The gate"), tag("p", reason)]
    if rows := [row for name, words in _ROWS.items() if (row := _compared(words, verdict.get(name))) is not None]:
        columns = ("Rows", "How many", "Accuracy", "AUROC", "Log loss", "Put right", "Spoilt")
        inner.append(table(columns, rows, numeric=range(1, 7), caption="The base's figures → this predictor's"))
        inner.append(tag("p", "Each figure: the base's → this predictor's.", class_="pm-dim pm-small"))
    return tag("section", *inner, class_="pm-card")


def _compared(words: str, on: Any) -> list[Any] | None:
    """A line of the report; None where there is none: the file's word is not checked by the router."""
    try:
        figures = [f"{on[f'{figure}_base']:.3f} → {on[figure]:.3f}" for figure in _FIGURES]
        return [
            tag("span", words, class_="pm-time"),
            count(on["rows"]),
            *figures,
            count(on["fixed"]),
            count(on["broken"]),
        ]
    except (KeyError, TypeError, ValueError):
        return None


def _users(visit: Visit, one: Mapping[str, Any], section: Section) -> None:
    may = visit.who.may(Role.OPERATOR)
    if not one["used_by"]:
        show(tag("p", "No policy names it: it judges nobody.", class_="pm-dim"))
        if may:
            with ui.element("div").classes("pm-row"):
                button("Delete this predictor", visit.doing(lambda: _delete(visit, one)), kind="pm-danger")
    with ui.element("div").classes("pm-section pm-keys"):
        for tenant in one["used_by"]:
            with ui.element("div").classes("pm-key"):
                show(link(tenant, f"/policies/{part(tenant)}", class_="pm-strong pm-name"))
                if may:
                    _back_button(visit, tenant, section)
    if more := one["users"] - len(one["used_by"]):
        hint(f"and {count(more)} more tenants")
    if one["used_by"] and not may:
        hint("Your role may look, not change anything.")


def _back_button(visit: Visit, tenant: str, section: Section) -> None:
    async def back() -> None:
        if await _roll_back(visit, tenant):
            await section.refresh()

    button("Roll back", visit.doing(back)).props["aria-label"] = f"Roll back {tenant}"


async def _roll_back(visit: Visit, tenant: str) -> bool:
    """Whether the policy before the one of `tenant` holds now: somebody may think better of it."""
    path = f"/admin/v1/policies/{part(tenant)}"
    history = (await visit.call("GET", f"{path}/history", params={"limit": 2})).body["data"]
    if not history:
        raise AdminError(f"The configuration's policy holds for {tenant}, and no other one ever did.")
    newest = history[0]
    before = history[1]["document"] if len(history) > 1 else None
    number = f"version {newest['version'] - 1}" if len(history) > 1 else "the configuration's policy"
    sure = await confirmed(
        f"Roll {tenant} back?",
        f"Version {newest['version']} of its policy ({_names(newest['document'])}) gives way to {number} "
        f"({_names(before)}). It holds for the next request, and can be rolled back like any other.",
        "Roll it back",
    )
    if not sure:
        return False
    held = {"if-match": f'"{newest["version"]}"'}
    await visit.call("POST", f"{path}/rollback", json={"to": newest["version"] - 1}, headers=held)
    visit.say(f"{tenant} is back at {number}.")
    return True


def _names(document: Mapping[str, Any] | None) -> str:
    """The predictor and the threshold of a policy, in words."""
    if document is None:
        return "the configuration's"
    policy = document.get("policy") or {}
    judge = policy.get("predictor") or "the platform's own predictor"
    words = f"{judge}, threshold {policy.get('threshold', 0.5):g}"
    tried = ((document.get("candidate") or {}).get("policy") or {}).get("predictor")
    return words if tried is None else f"{words}; on trial: {tried}"


async def _delete(visit: Visit, one: Mapping[str, Any]) -> None:
    sure = await confirmed(
        f"Delete {one['version']}?",
        "Policies can't be rolled back to it any more, unless its file is brought in again.",
        "Delete it",
    )
    if sure:
        await visit.call("DELETE", f"{PATH}/{part(one['version'])}")
        ui.navigate.to("/predictors")


def _about(one: Mapping[str, Any]) -> Markup:
    report = one["report"]
    learnt, held_out = report.get("training_rows", NOTHING), report.get("held_out_rows", NOTHING)
    return facts(
        {
            "Whose it is": one["name"],
            "Adapted from": tag("span", one["base"], class_="pm-mono"),
            "Rows": f"{learnt} learnt from, {held_out} held out",
            "Size": f"{count(one['bytes'])} bytes",
            "Brought in": f"{moment(one['created_at'])} by {one['created_by']}",
            "Why": one["comment"] or NOTHING,
        }
    )


PAGE = Page("/predictors/{version}", "Predictor", build, allowed=administrators, listed=False)
