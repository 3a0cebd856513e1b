"""Policies: whose there are, page by page, each with the threshold that holds and what is on trial.

Tenants come by name from the router, however many there are; what was set for those on the page is asked for once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from pointsman.console.page import Page, administrators
from pointsman.console.parts.markup import Markup, joined, link, pill, show, table, tag
from pointsman.console.parts.states import empty
from pointsman.console.visit import Visit, part

ON_A_PAGE = 50
"""Tenants on one page."""

USUAL = 0.5
"""The threshold of a policy that says nothing of it."""


async def build(visit: Visit) -> None:
    """The tenants whose names begin as asked."""
    prefix, after = visit.query.get("prefix", "").strip(), visit.query.get("after")
    field = tag(
        "input", type="text", name_="prefix", value=prefix, maxlength=63, autocomplete="off", spellcheck="false"
    )
    show(
        tag(
            "form",
            tag("label", "Tenant's name begins with", field),
            tag("button", "Find", type="submit", class_="pm-primary"),
            method="get",
            action="/policies",
            class_="pm-filter",
            role="search",
        )
    )
    page = await visit.get(
        "/admin/v1/tenants", {"limit": ON_A_PAGE, "prefix": prefix or None, "after": after}, max_age=3
    )
    tenants = page["data"]
    if not tenants:
        empty("No tenant is called so", link("See all", "/policies"))
        return
    # Those that were set are listed by name, too: from just before the first of this page on.
    found = await visit.get(
        "/admin/v1/policies", {"limit": 1000, "after": tenants[0]["name"][:-1] or None}, max_age=3
    )
    set_here = {each["tenant"]: each for each in found["data"]}
    rows = [_row(tenant, set_here.get(tenant["name"])) for tenant in tenants]
    shown = table(("Tenant", "Threshold", "Rules", "On trial", "Set by"), rows, numeric=(1, 2), caption="Policies")
    more = f"/policies?{urlencode({'prefix': prefix, 'after': page['after']})}" if page["after"] else None
    foot = tag("div", link("Next →", more) if more else tag("span", "No more"), class_="pm-more")
    show(tag("section", shown, foot, class_="pm-card"))


def _row(tenant: Mapping[str, Any], present: Mapping[str, Any] | None) -> list[Any]:
    holds = present if present is not None and present["version"] else None
    document = holds["document"] if holds else tenant["document"]
    policy = document.get("policy") or {}
    candidate = document.get("candidate")
    by = (
        holds["updated_by"]
        if holds
        else "the configuration"
        if tenant["managed_by"] == "file"
        else tenant["managed_by"]
    )
    return [
        link(tenant["name"], f"/policies/{part(tenant['name'])}"),
        f"{policy.get('threshold', USUAL):g}",
        len(policy.get("rules") or ()),
        _trial(candidate),
        joined([by, tag("span", f", version {holds['version']}", class_="pm-faint") if holds else None]),
    ]


def _trial(candidate: Mapping[str, Any] | None) -> Markup:
    if candidate is None:
        return tag("span", "–", class_="pm-faint")
    return pill(candidate.get("stage", "observe"), "warn")


PAGE = Page("/policies", "Policies", build, icon="M4 7h9m5 0h2M4 17h2m5 0h9M13 4v6M6 14v6", allowed=administrators)
