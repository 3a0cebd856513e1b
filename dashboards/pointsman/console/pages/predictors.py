"""Tenants' predictors: which there are, whether each has passed the gate, and whose policies name it.

At most a few dozen of them exist at a time: all on one page, newest first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pointsman.console.page import Page, administrators
from pointsman.console.parts.figures import count
from pointsman.console.parts.markup import Markup, joined, link, pill, show, table, tag
from pointsman.console.parts.states import empty
from pointsman.console.visit import Visit, part

PATH = "/admin/v1/predictors"

NAMED = 3
"""Tenants that a line names of those that use a predictor."""


async def build(visit: Visit) -> None:
    """All of them, and the one for everybody else."""
    answer = (await visit.call("GET", PATH)).body
    everybody = tag("span", answer["base"], class_="pm-mono pm-name")
    show(
        tag("p", "Where no policy names another one, ", everybody, " judges: the platform's own.", class_="pm-dim")
    )
    if not answer["data"]:
        made, brought_in = tag("code", "pointsman train --base"), tag("code", "pointsman predictors put")
        hint = joined(["One is made with ", made, " and brought in with ", brought_in, "."])
        empty("No tenant has a predictor of its own", hint)
        return
    columns = ("Version", "Gate", "Used by", "Brought in (UTC)", "By")
    shown = table(columns, map(_row, answer["data"]), caption="Tenants' predictors, newest first")
    show(tag("section", shown, class_="pm-card"))


def gate(one: Mapping[str, Any]) -> Markup:
    """Whether it has passed, in a word or two."""
    return pill("passed", "good") if one["passed"] else pill("forced in", "warn")


def users(one: Mapping[str, Any], most: int = NAMED) -> Markup:
    """Tenants whose policies name it, each a link to its policy; beyond `most` of them, how many more."""
    names = one["used_by"][:most]
    if not names:
        return tag("span", "nobody", class_="pm-faint")
    more = one["users"] - len(names)
    links = (
        joined([", " if place else None, link(name, f"/policies/{part(name)}")]) for place, name in enumerate(names)
    )
    return joined([*links, f" and {count(more)} more" if more else None])


def _row(one: Mapping[str, Any]) -> list[Any]:
    late = None if one["live"] else pill("not live yet", "warn")
    return [
        joined(
            [link(one["version"], f"/predictors/{part(one['version'])}", class_="pm-strong pm-time"), " ", late]
        ),
        gate(one),
        users(one),
        tag("span", one["created_at"][:16].replace("T", " "), class_="pm-time"),
        one["created_by"],
    ]


PAGE = Page(
    "/predictors",
    "Predictors",
    build,
    icon="M4 19c3 0 4-3 6-8s3-7 6-7 4 3 4 6M4 19h16M10 11h.01M16 4h.01",
    allowed=administrators,
)
