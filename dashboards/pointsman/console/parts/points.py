"""Why a query took its track: the probability against its threshold, what spoke for it, and who decided.

Shared by the pages that tell of one decision. Pure markup of what the router's API says of it: the bars need no
chart library, and a reader of screens gets the same numbers as words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pointsman.console.parts.markup import MODE_NAMES, Markup, joined, mode_pill, tag

MOST_EVIDENCE = 12
"""Pieces of evidence that are drawn where nobody asks for fewer."""

RANKS = {
    "policy": ("Policy", "a rule of the tenant's policy"),
    "budget": ("Budget", "what is left of thinking tokens and money"),
    "client": ("Client", "a wish in the request"),
    "predictor": ("Predictor", "P(think) against the threshold"),
    "default": ("Default", "the policy's default mode"),
}
"""Who is asked, in this order, and what each goes by."""


def scale(probability: float | None, threshold: float) -> Markup:
    """P(think) on a line from 0 to 1, with the threshold that parts the tracks."""
    if probability is None:
        return tag("p", "There was no text to judge by, so there is no probability.", class_="pm-dim")
    side = "at or above" if probability >= threshold else "below"
    said = f"P(think) {probability:.3f} is {side} the threshold {threshold:.3g}"
    return tag(
        "figure",
        tag(
            "div",
            tag("i", class_="pm-scale-fast", style=f"width:{threshold * 100:.2f}%"),
            tag("i", class_="pm-scale-threshold", style=f"left:{threshold * 100:.2f}%"),
            tag("i", class_="pm-scale-mark", style=f"left:{probability * 100:.2f}%"),
            class_="pm-scale-line",
            aria_hidden="true",
        ),
        tag("div", tag("span", "0"), tag("span", "no think | think"), tag("span", "1"), class_="pm-scale-ends"),
        tag("figcaption", said),
        class_="pm-scale",
    )


def evidence(pieces: Sequence[Mapping[str, Any]], *, most: int = MOST_EVIDENCE) -> Markup:
    """
    What the predictor saw, strongest first: to the right what speaks for thinking, to the left against it.

    Of more than `most` pieces the rest is added up in one.
    """
    if not pieces:
        return tag("p", "Nothing is known of what the predictor saw.", class_="pm-dim")
    drawn = [(str(each["feature"]), float(each["contribution"])) for each in pieces[:most]]
    if len(pieces) > most:
        rest = pieces[most:]
        drawn.append((f"{len(rest)} more", sum(float(each["contribution"]) for each in rest)))
    strongest = max(abs(pushes) for _, pushes in drawn) or 1.0
    total = sum(float(each["contribution"]) for each in pieces)
    rows = [_piece(feature, pushes, strongest) for feature, pushes in drawn]
    rows.append(
        tag(
            "tr",
            tag("th", "together", scope="row"),
            tag("td"),
            tag("td", f"{total:+.3f}", class_="pm-num"),
            class_="pm-evidence-sum",
        )
    )
    head = tag(
        "tr",
        tag("th", "Evidence", scope="col"),
        tag("th", "← no think · think →", scope="col", class_="pm-evidence-axis"),
        tag("th", "Log-odds", scope="col", class_="pm-num"),
    )
    return tag("table", tag("thead", head), tag("tbody", *rows), class_="pm-evidence")


def ladder(decision: Mapping[str, Any]) -> Markup:
    """Who was asked for the mode, in the order of their ranks, and who decided."""
    decided = "predictor" if decision["source"] == "saturation" else decision["source"]
    before, steps = True, []
    for rank, (name, goes_by) in RANKS.items():
        is_it = rank == decided
        before = before and not is_it
        said = _decided(decision) if is_it else _passed(rank, decision) if before else _after(rank, decision)
        steps.append(
            tag(
                "li",
                tag("strong", name),
                tag("span", goes_by, class_="pm-faint pm-small"),
                tag("span", said, mode_pill(decided_mode(decision)) if is_it else None, class_="pm-ladder-said"),
                class_="pm-ladder-it" if is_it else "pm-ladder-before" if before else "pm-ladder-after",
                aria_current="true" if is_it else None,
            )
        )
    return tag("ol", *steps, class_="pm-ladder")


def decided_mode(decision: Mapping[str, Any]) -> str:
    """The mode that was decided, before an escalation made it think."""
    return "no_think" if decision["escalated"] else str(decision["mode"])


def sentence(decision: Mapping[str, Any]) -> str:
    """Why, in one sentence."""
    mode, source, detail = MODE_NAMES[decided_mode(decision)], decision["source"], decision["detail"]
    probability, threshold = decision["probability"], decision["threshold"]
    side = "reaches" if probability is not None and probability >= threshold else "stays below"
    match source:
        case "policy":
            return f"A rule of the tenant's policy says {mode}: {detail}."
        case "budget":
            return f"A budget is spent ({detail}), so it was answered with {mode}."
        case "client":
            return f"The client asked for {mode}, by {detail}."
        case "predictor":
            return f"P(think) {probability:.3f} {side} the threshold {threshold:.3g}: {mode}."
        case "saturation":
            raised = f"Load had raised the threshold to {threshold:.3g}"
            return f"{raised}, and P(think) {probability:.3f} {side} it: {mode}."
    return f"Nobody else decided, so the policy's default holds: {mode} ({detail})."


def _piece(feature: str, pushes: float, most: float) -> Markup:
    kind = "think" if pushes > 0 else "no-think"
    bar = tag("i", class_=f"pm-push pm-push-{kind}", style=f"width:{abs(pushes) / most * 50:.2f}%")
    return tag(
        "tr",
        tag("th", feature, scope="row"),
        tag("td", bar, class_="pm-evidence-bar", aria_hidden="true"),
        tag("td", f"{pushes:+.3f}", class_="pm-num"),
    )


def _decided(decision: Mapping[str, Any]) -> str:
    """What the rank that decided went by."""
    probability, threshold = decision["probability"], decision["threshold"]
    if probability is None or decision["source"] not in ("predictor", "saturation"):
        return str(decision["detail"] or "decided")
    way = {"cost_of_wrong_fast": "from what mistakes cost"}.get(decision["detail"], "")
    if decision["source"] == "saturation":
        way = "raised by load"
    return (
        f"{probability:.3f} {'≥' if probability >= threshold else '<'} {threshold:.3g}{f', {way}' if way else ''}"
    )


def _after(rank: str, decision: Mapping[str, Any]) -> str:
    """What a rank says that comes after the one that decided."""
    if rank == "client" and decision["wishes"]:
        return "asked for the other mode, overruled" if decision["overruled"] else "asked for the same mode"
    return "was not asked"


def _passed(rank: str, decision: Mapping[str, Any]) -> Markup | str:
    """What a rank said that left the choice to the next."""
    if rank == "policy" and decision["rule"]:
        return f"rule {decision['rule']} leaves the mode open"
    if rank == "client" and decision["wishes"]:
        return joined(["asked, ", tag("em", "without effect")])
    if rank == "predictor":
        return "abstained" if decision["probability"] is not None else "had no text to judge"
    return {"policy": "no rule matched", "budget": "enough left", "client": "no wish"}.get(rank, "")
