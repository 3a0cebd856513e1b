"""One tenant: what it may use and spend, what it has spent, and the keys that it holds.

What is shown is changed here too, by owners, where nobody else manages the tenant. A change is made of what was
shown: if somebody else has changed the tenant since, the router refuses it.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

from nicegui import ui

from pointsman.console.admin_client import AdminError
from pointsman.console.page import Page, administrators
from pointsman.console.pages.tenant_keys import keys_of
from pointsman.console.pages.tenants import PATH
from pointsman.console.parts.dialogs import button, confirmed, hint
from pointsman.console.parts.figures import count, dollars, percent
from pointsman.console.parts.markup import Markup, facts, joined, link, show, stat, stats, tag
from pointsman.console.parts.states import Section
from pointsman.console.visit import Visit, part
from pointsman.contracts.keys import Role

NANO = Decimal(1_000_000_000)


class Field(NamedTuple):
    """A field of the form: its place in the tenant's document, its name, its unit, and how it is read."""

    path: tuple[str, ...]
    name: str
    unit: str
    read: Callable[[str], Any]


def _whole(text: str) -> int:
    return int(text.replace(",", "").replace(" ", ""))


def _dollars(text: str) -> str:
    """As text: the router reads it exactly."""
    return f"{Decimal(text.replace(',', '').replace('$', '').strip()):f}"


FIELDS = (
    Field(("limits", "requests_per_minute"), "Requests a minute", "", _whole),
    Field(("limits", "concurrency"), "Requests at the same time", "", _whole),
    Field(("limits", "tokens_per_minute"), "Tokens a minute", "", _whole),
    Field(("limits", "input_tokens_per_minute"), "Input tokens a minute", "", _whole),
    Field(("limits", "output_tokens_per_minute"), "Output tokens a minute", "", _whole),
    Field(("budgets", "daily", "hard_usd"), "Budget a day", "$", _dollars),
    Field(("budgets", "daily", "soft_usd"), "Soft mark a day", "$", _dollars),
    Field(("budgets", "monthly", "hard_usd"), "Budget a month", "$", _dollars),
    Field(("budgets", "monthly", "soft_usd"), "Soft mark a month", "$", _dollars),
)


async def build(visit: Visit) -> None:
    """The tenant that the path names."""
    name = visit.path["tenant"]
    show(tag("p", link("← Tenants", "/tenants"), class_="pm-crumbs"))
    show(tag("h2", name, class_="pm-name"))

    async def load() -> None:
        # Asked for anew: what is changed is made of just this version.
        answer = await visit.call("GET", f"{PATH}/{part(name)}")
        tenant, tag_ = answer.body, answer.etag
        editable = visit.who.may(Role.OWNER) and tenant["managed_by"] == "api"
        await _spent(visit, name, tenant["document"])
        with ui.element("div").classes("pm-two"):
            with ui.element("section").classes("pm-card"):
                show(tag("h3", "Limits and budgets"))
                if editable:
                    _form(visit, section, name, tenant["document"], tag_)
                else:
                    show(_limits(tenant["document"]))
                    _why_not(visit, tenant)
            show(tag("section", tag("h3", "About"), _about(tenant), class_="pm-card"))

    section = Section(load)
    await section.refresh()
    await keys_of(visit, name)
    answer = await visit.get(f"{PATH}/{part(name)}")
    if visit.who.may(Role.OWNER) and answer["managed_by"] == "api":
        _goodbye(visit, name)


async def _spent(visit: Visit, name: str, document: Mapping[str, Any]) -> None:
    now = datetime.now(UTC)
    day = now.replace(hour=0, minute=0, second=0, microsecond=0)
    asked = [
        visit.get("/admin/v1/costs", {"by": "mode", "tenant": name, "since": since.isoformat()}, max_age=5.0)
        for since in (day, day.replace(day=1))
    ]
    today, month = await asyncio.gather(*asked)
    requests = sum(row["requests"] for row in month["data"])
    thinking = sum(row["requests"] for row in month["data"] if row["mode"] == "think")
    budgets = document.get("budgets", {})
    show(
        stats(
            _against("Today (UTC)", today, budgets.get("daily", {})),
            _against("This month", month, budgets.get("monthly", {})),
            stat("Requests this month", count(requests), "that were billed"),
            stat("Think share", percent(thinking / requests if requests else None), "of these", kind="pm-think"),
        )
    )


def _against(title: str, report: Mapping[str, Any], budgeted: Mapping[str, Any]) -> Markup:
    """What was spent, and how much of the budget that is."""
    spent = sum(row["cost"] for row in report["data"])
    hard = budgeted.get("hard_usd")
    if hard is None:
        return stat(title, dollars(spent), "no budget")
    most = Decimal(hard) * NANO
    share = float(spent / most) if most else 1.0
    kind = "pm-bad" if share >= 1 else "pm-warn" if share >= 0.8 else ""
    bar = tag("span", tag("i", style=f"width:{min(share, 1) * 100:.1f}%"), class_="pm-bar", aria_hidden="true")
    return stat(title, dollars(spent), joined([f"{percent(share)} of ${hard}", bar]), kind=kind)


def _form(visit: Visit, section: Section, name: str, document: Mapping[str, Any], etag: str | None) -> None:
    inputs: dict[Field, ui.input] = {}
    for group in ("limits", "budgets"):
        with ui.element("div").classes("pm-form"):
            for field in FIELDS:
                if field.path[0] == group:
                    inputs[field] = _input(field, _at(document, field.path))

    async def save() -> None:
        changed = copy.deepcopy(dict(document))
        wrong = False
        for field, box in inputs.items():
            box.error = None
            text = (box.value or "").strip()
            try:
                _put(changed, field.path, field.read(text) if text else None)
            except (ValueError, InvalidOperation):
                box.error = "This is no number."
                wrong = True
        if wrong:
            return
        try:
            await visit.call("PUT", f"{PATH}/{part(name)}", json=changed, headers={"if-match": etag or ""})
        except AdminError as error:
            at_fault = {".".join(field.path): box for field, box in inputs.items()}.get(error.param or "")
            if at_fault is None:
                raise
            at_fault.error = error.message
            return
        visit.say("Saved. Routers go by it from now on.")
        await section.refresh()

    with ui.element("div").classes("pm-row"):
        button("Save", visit.doing(save), kind="pm-primary")
        hint("Empty: no limit.")


def _input(field: Field, value: Any) -> ui.input:
    box = ui.input(field.name, value="" if value is None else str(value), placeholder="no limit")
    box.props("outlined dense stack-label inputmode=decimal maxlength=24").classes("pm-field")
    if field.unit:
        box.props["prefix"] = field.unit
    return box


def _limits(document: Mapping[str, Any]) -> Markup:
    told: dict[str, Any] = {}
    for field in FIELDS:
        value = _at(document, field.path)
        if value is None:
            told[field.name] = tag("span", "no limit", class_="pm-faint")
        else:
            told[field.name] = field.unit + (count(value) if isinstance(value, int) else value)
    return facts(told)


def _why_not(visit: Visit, tenant: Mapping[str, Any]) -> None:
    if tenant["managed_by"] == "file":
        hint("This tenant stands in the configuration file: change it there.")
    elif tenant["managed_by"] != "api":
        hint(f"This tenant is managed by {tenant['managed_by']}: change it there.")
    else:
        hint(f"Your key is a {visit.who.role}'s: owners change this.")


def _about(tenant: Mapping[str, Any]) -> Markup:
    document = tenant["document"]
    cache = document.get("cache", {})
    changed = tenant["updated_at"]
    told: dict[str, Any] = {
        "Models": ", ".join(document["models"]) if document.get("models") else "all",
        "Priority": document.get("priority", 5),
        "Weight": document.get("weight", 1),
        "Response cache": "on" if cache.get("enabled") else "off",
        "Policy": link("look at it", f"/policies/{part(tenant['name'])}"),
        "Decisions": link("look at them", f"/decisions?tenant={part(tenant['name'])}"),
        "Managed by": joined([tenant["managed_by"], f" ({tenant['origin']})" if tenant["origin"] else None]),
        "Where routers read it": "yes" if tenant["live"] else "not yet: Redis is away",
    }
    if changed:
        told["Last change"] = f"{changed[:16].replace('T', ' ')} UTC by {tenant['updated_by']}"
    return facts(told)


def _goodbye(visit: Visit, name: str) -> None:
    async def delete() -> None:
        sure = await confirmed(
            f"Delete {name}?",
            "Its keys stop working within seconds, its policy goes. What it has spent stays in the ledger.",
            "Delete it",
            typed=name,
        )
        if sure:
            await visit.call("DELETE", f"{PATH}/{part(name)}")
            ui.navigate.to("/tenants")

    with ui.element("div").classes("pm-row"):
        button("Delete this tenant", visit.doing(delete), kind="pm-danger")


def _at(document: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    value: Any = document
    for name in path:
        value = (value or {}).get(name)
    return value


def _put(document: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    """Set what is at `path`; None: have nothing there."""
    inner = document
    for name in path[:-1]:
        if value is None and name not in inner:
            return
        inner = inner.setdefault(name, {})
    if value is None:
        inner.pop(path[-1], None)
    else:
        inner[path[-1]] = value


PAGE = Page("/tenants/{tenant}", "Tenant", build, allowed=administrators, listed=False)
