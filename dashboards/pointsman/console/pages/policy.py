"""One tenant's policy: move the threshold and see what it would have done to the last decisions, before saving it.

The router works out every threshold at once, so the slider answers without asking again. A new threshold holds at
once, or goes on trial first: watched only, or for a share of the conversations. Who else changed the policy in the
meantime is heeded: the router refuses what was made of an older version.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from typing import Any

from nicegui import ui
from nicegui.events import GenericEventArguments

from pointsman.console.admin_client import Answer
from pointsman.console.page import Page, administrators
from pointsman.console.parts.figures import count, percent, seconds
from pointsman.console.parts.markup import Markup, facts, joined, link, mode_pill, pill, replace, show, table, tag
from pointsman.console.parts.states import Section, empty
from pointsman.console.parts.sweep import legend, outcome, picture, reservations
from pointsman.console.visit import Visit, part
from pointsman.contracts.keys import Role
from pointsman.contracts.policies import Stage

LOOKED_AT = (500, 1000, 5000, 10_000)
"""How many of the newest decisions one may try a threshold on."""

USUALLY = 1000

VERSIONS = 12
"""Versions of the history that are shown."""

AT_ONCE, CANARY_SHARE = "at once", 0.05

WAYS = {
    AT_ONCE: "holds for everybody at once",
    Stage.OBSERVE.value: "is watched first: it decides, and changes nothing",
    Stage.CANARY.value: f"holds for {CANARY_SHARE:.0%} of the conversations first",
}
"""How a new threshold goes live."""


async def build(visit: Visit) -> None:
    """The policy of the tenant that the path names."""
    tenant = str(visit.path["tenant"])
    asked = visit.query.get("decisions", "")
    number = int(asked) if asked.isdecimal() and int(asked) in LOOKED_AT else USUALLY

    async def load() -> None:
        present = await visit.call("GET", f"/admin/v1/policies/{part(tenant)}")
        answer = await visit.call("POST", "/admin/v1/policies/sweep", json={"tenant": tenant, "decisions": number})
        history = await visit.call("GET", f"/admin/v1/policies/{part(tenant)}/history", params={"limit": VERSIONS})
        _Policy(visit, tenant, present, section).show(answer.body, history.body["data"], number)

    section = Section(load)
    await section.refresh()


class _Policy:
    """The page of one policy, as it was when it was loaded."""

    def __init__(self, visit: Visit, tenant: str, present: Answer, section: Section) -> None:
        self._visit = visit
        self._tenant = tenant
        self._path = f"/admin/v1/policies/{part(tenant)}"
        self._present = present.body
        self._etag = present.etag or ""
        self._section = section

    @property
    def _candidate(self) -> Mapping[str, Any] | None:
        candidate: Mapping[str, Any] | None = self._present["document"].get("candidate")
        return candidate

    def show(self, swept: Mapping[str, Any], history: list[Mapping[str, Any]], number: int) -> None:
        """All of it."""
        show(self._head())
        with ui.element("section").classes("pm-card"):
            show(self._title(number))
            self._threshold(swept)
        with ui.element("div").classes("pm-two"):
            with ui.element("div").classes("pm-section"):
                if self._candidate is not None:
                    self._trial(self._candidate)
                show(_what_it_says(self._present["document"].get("policy") or {}))
            show(_history(history))

    def _head(self) -> Markup:
        present = self._present
        said = "the configuration's" if not present["version"] else f"version {present['version']}"
        by = f", set by {present['updated_by']}" if present["version"] and present["updated_by"] else ""
        late = None if present["live"] else pill("not yet where routers read it", "warn")
        return tag(
            "div",
            tag("div", link("← Policies", "/policies"), class_="pm-row"),
            tag("p", self._tenant, class_="pm-lead"),
            tag("p", f"Its policy is {said}{by}. ", late, class_="pm-dim"),
            class_="pm-section",
        )

    def _title(self, number: int) -> Markup:
        links = (
            tag("a", count(each), href=f"?decisions={each}", aria_current="page" if each == number else None)
            for each in LOOKED_AT
        )
        tried = tag("div", *links, class_="pm-tabs", role="group", aria_label="Decisions to try it on")
        return tag("div", tag("h2", "Threshold"), tried, class_="pm-card-head")

    def _threshold(self, swept: Mapping[str, Any]) -> None:
        """The slider, what it would have done, and saving it."""
        present = float(swept["present_threshold"])
        value = round(present * 100) / 100
        words = show(_position(value, present))
        drawn = None
        if swept["decisions"]:
            drawn = show(picture(swept, value))
        # Markup, not the framework's: a native one is used by keyboard and by readers of screens as it is.
        slider = show(
            tag("input", type="range", min="0", max="1", step="0.01", value=value, aria_label="Threshold"),
            class_="pm-slider",
        )
        show(
            tag("div", tag("span", "0: everything thinks"), tag("span", "1: nothing does"), class_="pm-scale-ends")
        )
        told = None
        if swept["decisions"]:
            show(legend())
            told = show(outcome(swept, value))
            show(reservations(swept))
        else:
            empty("No decisions yet to try it on", "It can be saved all the same.")

        def moved(event: GenericEventArguments) -> None:
            threshold = self._threshold_now = min(max(round(float(event.args) * 100), 0), 100) / 100
            replace(words, _position(threshold, present))
            if drawn is not None and told is not None:
                replace(drawn, picture(swept, threshold))
                replace(told, outcome(swept, threshold))

        slider.on("input", moved, js_handler="(event) => emit(event.target.value)", throttle=0.05)
        self._threshold_now = value
        self._saving()

    def _saving(self) -> None:
        if refusal := self._may_not():
            show(tag("p", refusal, class_="pm-dim"))
            return
        with ui.element("div").classes("pm-row"):
            way = (
                ui.select(WAYS, value=AT_ONCE, label="The new threshold")
                .props("outlined dense")
                .classes("pm-field")
            )
            comment = (
                ui.input("Why (kept in the history)").props("outlined dense maxlength=500").classes("pm-field")
            )

            async def save() -> None:
                document = with_threshold(self._present["document"], self._threshold_now, str(way.value))
                await self._change("PUT", "", document, comment=str(comment.value or ""))

            ui.button("Save", color=None, on_click=self._visit.doing(save)).props("unelevated no-caps").classes(
                "pm-button pm-primary"
            )

    def _may_not(self) -> str | None:
        """Why whoever looks may not change it; None: they may."""
        if not self._visit.who.may(Role.OPERATOR):
            return "Your role may look, not change anything."
        manager = self._present["managed_by"]
        if self._present["version"] and manager not in (None, "api"):
            return f"It is looked after by {manager}, which alone may change it."
        return None

    def _trial(self, candidate: Mapping[str, Any]) -> None:
        """The policy that is to replace this one, how it does, and where it goes from here."""
        stage = Stage(candidate.get("stage", Stage.OBSERVE))
        share = float(candidate.get("share", CANARY_SHARE))
        told: dict[str, Any] = {
            "Stage": joined(
                [pill(stage.value, "warn"), f", for {percent(share, digits=0)}" if stage is Stage.CANARY else ""]
            ),
            "Threshold": f"{candidate['policy'].get('threshold', 0.5):g}",
        }
        if did := self._present.get("candidate_did"):
            told[f"In the last {seconds(did['seconds'])}"] = (
                f"{count(did['requests'])} requests, {count(did['disagreement'])} decided otherwise, "
                f"{count(did['escalations'])} escalated, {count(did['errors'])} failed"
            )
        with ui.element("section").classes("pm-card"):
            show(tag("h2", "On trial") + facts(told))
            if self._may_not():
                return

            async def drop() -> None:
                document = copy.deepcopy(self._present["document"])
                document["candidate"] = None
                await self._change("PUT", "", document, comment="taken off trial")

            async def promote() -> None:
                await self._change("POST", "/promote", None)

            with ui.element("div").classes("pm-row"):
                for other in Stage:
                    if other is not stage:
                        self._button(f"To {other.value}", self._to(other))
                self._button("Let it replace the present one", promote)
                self._button("Drop it", drop, "pm-danger")

    def _to(self, stage: Stage) -> Any:
        async def move() -> None:
            await self._change("POST", "/stage", {"stage": stage.value})

        return move

    def _button(self, words: str, action: Any, kind: str = "") -> None:
        ui.button(words, color=None, on_click=self._visit.doing(action)).props("unelevated no-caps").classes(
            f"pm-button {kind}"
        )

    async def _change(self, method: str, below: str, body: Any, *, comment: str = "") -> None:
        """Change it, unless it is another version by now, and show what holds then."""
        await self._visit.call(
            method,
            self._path + below,
            json=body,
            params={"comment": comment or None},
            headers={"if-match": self._etag},
        )
        self._visit.say("Saved. It holds for the next request.")
        await self._section.refresh()


def with_threshold(document: Mapping[str, Any], threshold: float, way: str) -> dict[str, Any]:
    """`document` with a new threshold that holds at once, or is a candidate's in the stage `way`."""
    changed: dict[str, Any] = copy.deepcopy(dict(document))
    policy = changed.get("policy") or {}
    if way == AT_ONCE:
        changed["policy"] = {**policy, "threshold": threshold}
    else:
        changed["candidate"] = {
            "policy": {**policy, "threshold": threshold},
            "stage": way,
            "share": CANARY_SHARE,
        }
    return changed


def _position(threshold: float, present: float) -> Markup:
    same = abs(threshold - present) < 0.005
    note = "as it is now" if same else f"now {present:g}"
    return tag("p", tag("strong", f"{threshold:.2f}", class_="pm-big"), " ", tag("span", note, class_="pm-dim"))


def _what_it_says(policy: Mapping[str, Any]) -> Markup:
    """The policy in words, and as it was written."""
    inner: list[Any] = [tag("h2", "What it says"), facts(dict(_sayings(policy)))]
    if rules := policy.get("rules"):
        rows = [(rule["name"], _matches(rule.get("match") or {}), _does(rule)) for rule in rules]
        inner.append(table(("Rule", "Where", "What"), rows, caption="Rules"))
    written = tag("pre", json.dumps(policy, indent=2, ensure_ascii=False), class_="pm-quote pm-mono", tabindex="0")
    inner.append(tag("details", tag("summary", "As it was written"), written, class_="pm-details"))
    return tag("section", *inner, class_="pm-card")


def _sayings(policy: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield "Threshold", f"{policy.get('threshold', 0.5):g}"
    if version := policy.get("predictor"):
        yield "Predictor", link(version, f"/predictors/{part(version)}", class_="pm-name")
    if (cost := policy.get("cost_of_wrong_fast")) is not None:
        yield "A wrong fast answer costs", f"${cost}, and the threshold follows from it where prices are known"
    if band := policy.get("abstain"):
        yield "Abstains", f"from {band[0]:g} to {band[1]:g}"
    yield "Default mode", mode_pill(policy.get("default_mode", "think"))
    if saturation := policy.get("saturation"):
        yield "Under load", f"the threshold rises up to {saturation['highest_threshold']:g}"
    for field, name in (("thinking_budget", "Thinking a request"), ("daily_thinking_tokens", "Thinking a day")):
        if policy.get(field) is not None:
            yield name, f"{count(policy[field])} tokens at most"
    yield "Rules", count(len(policy.get("rules") or ()))


def _matches(match: Mapping[str, Any]) -> str:
    parts = [
        f"{name}: {', '.join(map(str, value)) if isinstance(value, list) else json.dumps(value)}"
        for name, value in match.items()
        if value not in ([], {}, None)
    ]
    return "; ".join(parts) or "every request"


def _does(rule: Mapping[str, Any]) -> Markup:
    if rule.get("mode"):
        return mode_pill(rule["mode"])
    parts = [f"threshold {rule['threshold']:g}"] if rule.get("threshold") is not None else []
    if rule.get("default_mode"):
        parts.append(f"default {rule['default_mode']}")
    return joined([", ".join(parts)])


def _history(versions: list[Mapping[str, Any]]) -> Markup:
    if not versions:
        words = tag("p", "It was never changed since the configuration was written.", class_="pm-dim")
        return tag("section", tag("h2", "History"), words, class_="pm-card")
    rows = [
        (
            each["version"],
            _threshold_of(each["document"]),
            each["updated_by"],
            each["comment"],
            tag("span", each["updated_at"][:19].replace("T", " "), class_="pm-time"),
        )
        for each in versions
    ]
    columns = ("Version", "Threshold", "By", "Why", "When (UTC)")
    shown = table(columns, rows, numeric=(1,), caption="Versions, newest first")
    return tag("section", tag("h2", "History"), shown, class_="pm-card")


def _threshold_of(document: Mapping[str, Any] | None) -> str:
    return (
        "the configuration's" if document is None else f"{(document.get('policy') or {}).get('threshold', 0.5):g}"
    )


PAGE = Page("/policies/{tenant}", "Policy", build, allowed=administrators, listed=False)
