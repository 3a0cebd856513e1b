"""One decision, explained: who decided and why, what it cost and what the other track would have, what people say.

A tenant says which mode would have been right as feedback, a reviewer as a verdict: the same two buttons. What its
question was is shown only where the tenant keeps prompts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from nicegui import ui

from pointsman.console.page import Page
from pointsman.console.pages.decisions import DOUBTS
from pointsman.console.parts.figures import clock, count, dollars, seconds, times
from pointsman.console.parts.markup import (
    MODE_NAMES,
    Markup,
    facts,
    joined,
    link,
    mode_pill,
    pill,
    show,
    table,
    tag,
)
from pointsman.console.parts.points import decided_mode, evidence, ladder, scale, sentence
from pointsman.console.parts.states import Section
from pointsman.console.visit import Visit, part
from pointsman.contracts.decisions import LONGEST_COMMENT, Doubt
from pointsman.contracts.keys import Role

_TOKENS = {"input": "prompt", "cached_input": "of it cached", "reasoning": "thinking", "answer": "answer"}


async def build(visit: Visit) -> None:
    """The decision that the path names."""
    identity = part(str(visit.path["id"]))
    root = "/admin/v1/decisions" if visit.who.is_admin else "/v1/decisions"

    async def load() -> None:
        answer = await visit.call("GET", f"{root}/{identity}")
        _show(visit, answer.body, section)

    section = Section(load)
    await section.refresh()


def _show(visit: Visit, decision: Mapping[str, Any], section: Section) -> None:
    show(_head(decision))
    with ui.element("div").classes("pm-two"):
        with ui.element("div").classes("pm-section"):
            show(_card("Why", scale(decision["probability"], decision["threshold"]), ladder(decision)))
            show(_card("What the predictor saw", evidence(decision["evidence"]), _predictor(decision)))
        with ui.element("div").classes("pm-section"):
            with ui.element("section").classes("pm-card"):
                show(tag("h2", "Was it right?") + _said(decision))
                _buttons(visit, decision, section)
            show(_card("The road taken, and the other one", _roads(decision)))
            show(_card("What was asked", _question(decision)))
            show(_card("How it went", facts(dict(_went(decision)))))


def _head(decision: Mapping[str, Any]) -> Markup:
    who = f"{decision['model']} for {decision['tenant']}, {clock(decision['at'])} UTC"
    return tag(
        "div",
        tag(
            "div",
            link("← Decisions", "/decisions"),
            tag("span", decision["id"], class_="pm-mono pm-faint"),
            class_="pm-row",
        ),
        tag("p", mode_pill(decision["mode"]), " ", sentence(decision), class_="pm-lead"),
        tag("p", who, class_="pm-dim"),
        class_="pm-section",
    )


def _card(title: str, *inner: Markup) -> Markup:
    return tag("section", tag("h2", title), *inner, class_="pm-card")


def _predictor(decision: Mapping[str, Any]) -> Markup:
    return tag(
        "p", f"Predictor {decision['predictor']}; the sum is the log-odds of P(think).", class_="pm-faint pm-small"
    )


def _roads(decision: Mapping[str, Any]) -> Markup:
    """What it cost, beside what the other mode would have."""
    cost, other = decision["cost"], decision["other_mode_cost_estimated"]
    if cost is None:
        why = "the policy hides it" if not decision["cost_shown"] else "no engine has counted anything"
        return tag("p", f"What it cost is not known: {why}.", class_="pm-dim")
    taken = decided_mode(decision)
    not_taken = "think" if taken == "no_think" else "no_think"
    most = max(cost, other or 0) or 1
    roads = [_road(taken, cost, most, taken=True)]
    if other is None:
        words = "Nothing is known yet of what answers cost in the other mode."
    else:
        roads.append(_road(not_taken, other, most, taken=False))
        words = _compared(cost, other, MODE_NAMES[not_taken])
        if decision["escalated"]:
            words = "It was answered in both modes, and both are in what it cost. " + words
    note = "An estimate: this prompt, with an answer of the usual length there, at the prices of the other pool."
    return tag("div", *roads, tag("p", words), tag("p", note, class_="pm-faint pm-small"), class_="pm-roads")


def _road(mode: str, nano: int, most: int, *, taken: bool) -> Markup:
    return tag(
        "div",
        mode_pill(mode),
        tag(
            "span",
            tag("i", class_=f"pm-{mode.replace('_', '-')}", style=f"width:{nano / most * 100:.2f}%"),
            class_="pm-bar",
        ),
        tag("span", ("" if taken else "about ") + dollars(nano)),
        class_="pm-road" if taken else "pm-road pm-road-not-taken",
    )


def _compared(cost: int, other: int, name: str) -> str:
    if cost == other:
        return f"With {name} it would have cost the same."
    more, apart = other > cost, dollars(abs(other - cost))
    ratio = f", {times(other / cost)} as much" if more and cost else ""
    return f"With {name} it would have cost about {apart} {'more' if more else 'less'}{ratio}."


def _went(decision: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """What is known of how it went, in words."""
    bad = decision["status"] >= 400
    status = f"{decision['status']}" + (f" {decision['error']}" if decision["error"] else "")
    yield "Status", pill(status, "bad" if bad else "good")
    yield "Pool", decision["pool"] or "none"
    if decision["first_byte"] is not None:
        yield "First byte", seconds(decision["first_byte"])
    yield "Whole answer", seconds(decision["duration"])
    if usage := decision["usage"]:
        words = ", ".join(f"{count(usage[name])} {word}" for name, word in _TOKENS.items() if usage[name])
        yield "Tokens", words + (" (estimated)" if usage["estimated"] else "")
    stage = f", {decision['arm']} in stage {decision['stage']}" if decision["stage"] else ""
    yield "Policy", f"version {decision['policy_version']}{stage}"
    if decision["rule"]:
        yield "Rule", decision["rule"]
    if decision["shadow"]:
        yield "The other policy", joined(["would have decided ", mode_pill(decision["shadow"])])
    for wish in decision["wishes"]:
        effect = " (overruled)" if decision["overruled"] else ""
        yield f"Client, {wish['field']}", joined([mode_pill(wish["mode"]), effect])
    if decision["escalated"]:
        yield "Second try", f"with thinking, because of {decision['escalated']}"
    if decision["floored"]:
        yield "Answer floor", "thinking was closed so that an answer still fitted"
    if decision["stopped"]:
        yield "Stopped", decision["stopped"]
    if decision["judgement"]:
        yield "The model judged", mode_pill(decision["judgement"])
    if decision["clamped"]:
        yield "Cut to ceilings", ", ".join(f"{name}={value}" for name, value in decision["clamped"].items())
    yield "Endpoint", tag("code", decision["endpoint"])
    yield "Key", tag("code", decision["key"])
    yield "Request", tag("code", decision["request_id"])


def _question(decision: Mapping[str, Any]) -> Markup:
    question = decision["question"]
    if question is None:
        return tag("p", "There was no text to judge.", class_="pm-dim")
    size = f"{count(question['characters'])} characters" + (
        f", {question['language']}" if question["language"] else ""
    )
    if question["text"] is None:
        why = "Its words are not kept: the tenant has not asked for that."
        return tag("p", size) + tag("p", why, class_="pm-dim")
    return tag("p", size, class_="pm-dim") + tag("blockquote", question["text"], class_="pm-quote", tabindex="0")


def _said(decision: Mapping[str, Any]) -> Markup:
    """What people have said of it, and why it is worth asking them."""
    rows = [
        (
            f"key {said['key']}",
            _verdict(said["should_think"]),
            said["comment"] or "",
            tag("span", clock(said["at"]), class_="pm-time"),
        )
        for said in decision["feedback"]
    ]
    if judged := decision["reviewed"]:
        comment = judged["comment"] or ""
        if judged["pinned"]:
            comment += f" (rule {judged['pinned']} pinned)"
        rows.append(
            (
                "reviewer",
                _verdict(judged["should_think"]),
                comment,
                tag("span", clock(judged["at"]), class_="pm-time"),
            )
        )
    doubts = ", ".join(DOUBTS[Doubt(doubt)] for doubt in decision["doubtful"])
    worth = tag("p", f"Worth a look: {doubts}.", class_="pm-dim") if doubts else None
    said = (
        table(("Who", "Right would have been", "Why", "When (UTC)"), rows, caption="What people said")
        if rows
        else None
    )
    return joined([worth, said])


def _verdict(should_think: bool) -> Markup:
    return mode_pill("think" if should_think else "no_think")


def _buttons(visit: Visit, decision: Mapping[str, Any], section: Section) -> None:
    """Agree or disagree, for whoever may say so."""
    if refusal := _may_not(visit, decision):
        show(tag("p", refusal, class_="pm-dim"))
        return
    thought = decided_mode(decision) == "think"
    other = MODE_NAMES["no_think" if thought else "think"]
    root = "/admin/v1/reviews" if visit.who.is_admin else "/v1/decisions"
    path = f"{root}/{part(decision['id'])}" + ("" if visit.who.is_admin else "/feedback")
    comment = (
        ui.input("Why (may stay empty)")
        .props(f"outlined dense maxlength={LONGEST_COMMENT}")
        .classes("pm-field pm-wide")
    )

    async def say(should_think: bool) -> None:
        said = {"should_think": should_think, "comment": str(comment.value or "").strip() or None}
        await visit.call("POST", path, json=said)
        visit.say("Noted. Thank you.")
        await section.refresh()

    async def agree() -> None:
        await say(thought)

    async def disagree() -> None:
        await say(not thought)

    with ui.element("div").classes("pm-row"):
        ui.button("Agree", color=None, on_click=visit.doing(agree)).props("unelevated no-caps").classes(
            "pm-button pm-primary"
        )
        words = f"Disagree: {other} would have been right"
        ui.button(words, color=None, on_click=visit.doing(disagree)).props("unelevated no-caps").classes(
            "pm-button"
        )


def _may_not(visit: Visit, decision: Mapping[str, Any]) -> str | None:
    """Why whoever looks may not say whether it was right; None: they may."""
    if not visit.who.is_admin:
        return None
    if not visit.who.may(Role.OPERATOR):
        return "Your role may look, not judge."
    if not decision["review"]:
        return "Its tenant does not let reviewers judge its decisions (decisions.review)."
    return None


PAGE = Page("/decisions/{id}", "Decision", build, listed=False)
