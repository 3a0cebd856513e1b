"""Whether the tool calls of an answer may be taken for calls: each known, whole, and with the arguments it needs.

Stands beside `judging.py`, which asks when an answer may be worth a second try, and below `relay.py`, which never
delivers an answer whose calls are at fault: a client would carry them out. Pure: looks at an answer in OpenAI's
form, and at the tools that the request offered.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import orjson

from pointsman.contracts.config import Pool
from pointsman.contracts.errors import ApiError, ToolCallCut, ToolCallInvalid
from pointsman.contracts.modes import Mode
from pointsman.contracts.names import Metric
from pointsman.router.exchange import Exchange
from pointsman.router.metrics import Cell, Metrics
from pointsman.router.pipeline import schemas
from pointsman.router.wire.tools import Toolbox

COMPLETE = "complete"
"""What is counted where an answer has calls and none of them is at fault."""


class Fault(StrEnum):
    """Why the calls of an answer are none that a client may carry out."""

    CUT = "cut"
    """The output tokens were used up within the calls."""
    MISSING = "missing"
    """The request demands a call, and there is none, or one of another tool."""
    UNKNOWN = "unknown_tool"
    """A tool is called that was not offered."""
    MALFORMED = "malformed"
    """The arguments of a call are no JSON object, or a call can't be read at all."""
    INCOMPLETE = "incomplete"
    """A call has not all of the arguments that its tool requires."""
    SCHEMA = "off_schema"
    """The arguments of a call break the schema of a strict tool."""


_BEGINNINGS = (
    "<tool_call>",
    "<function=",
    "[TOOL_CALLS]",
    "<|python_tag|>",
    "<|tool_calls_section_begin|>",
    "<｜tool▁calls▁begin｜>",
)
"""How models begin to call a tool, as they were trained to."""

_SAID = {
    Fault.MISSING: "The model did not call the tool that the request demands.",
    Fault.UNKNOWN: "The model called a tool that the request does not offer.",
    Fault.MALFORMED: "The model gave a tool call arguments that are not a JSON object.",
    Fault.INCOMPLETE: "The model left out arguments that the tool requires.",
    Fault.SCHEMA: "The model gave a tool call arguments that break its strict schema.",
}


def error_of(fault: Fault) -> ApiError:
    """What the client is told of `fault`."""
    if fault is Fault.CUT:
        return ToolCallCut("The output tokens were used up within a tool call.", param="max_tokens")
    return ToolCallInvalid(_SAID[fault], param="tools")


def calls_in(answer: dict[str, Any]) -> bool:
    """Whether any choice of `answer` calls a tool."""
    return any((choice.get("message") or {}).get("tool_calls") for choice in answer["choices"])


def fault_of(exchange: Exchange, answer: dict[str, Any]) -> Fault | None:
    """
    The first fault in the calls of `answer`; None where they may be carried out.

    The form of `answer` is that of an answer: `assembly.is_sound`.
    """
    offered = exchange.toolbox
    wanted = None if offered is None else exchange.payload.get("tool_choice")
    for choice in answer["choices"]:
        message = choice.get("message") or {}
        cut = choice.get("finish_reason") == "length"
        calls = message.get("tool_calls")
        if not calls:
            if wanted == "required" or type(wanted) is dict:
                return Fault.CUT if cut else Fault.MISSING
            if offered is not None and wanted != "none" and _begins_call(message.get("content")):
                return Fault.CUT if cut else Fault.MALFORMED
            continue
        if cut:
            return Fault.CUT
        for call in calls:
            function = call.get("function") or {}
            if type(wanted) is dict and function.get("name") != wanted["function"]["name"]:
                return Fault.MISSING
            if (fault := _fault_of_call(function, offered)) is not None:
                return fault
    return None


def _begins_call(content: Any) -> bool:
    """Whether a line of `content` begins a call: the engine could not read it, and gives it as text."""
    return isinstance(content, str) and any(
        content.startswith(mark) or f"\n{mark}" in content for mark in _BEGINNINGS
    )


def keep_first(choice: dict[str, Any], field: str) -> None:
    """
    Take every call but the first out of `choice`, of a whole answer or a chunk; `field` holds its calls.

    In a chunk the first call is the one of index 0, however many chunks it takes.
    """
    said = choice.get(field)
    calls = said.get("tool_calls") if said else None
    if said and calls:
        kept = [call for at, call in enumerate(calls) if (at if call.get("index") is None else call["index"]) == 0]
        if kept:
            said["tool_calls"] = kept
        else:
            del said["tool_calls"]


def _fault_of_call(function: dict[str, Any], offered: Toolbox | None) -> Fault | None:
    tool = None
    if offered is not None:
        tool = offered.get(function.get("name") or "")
        if tool is None:
            return Fault.UNKNOWN
    text = function.get("arguments")
    if not isinstance(text, str):
        return Fault.MALFORMED
    try:
        arguments = orjson.loads(text)
    except orjson.JSONDecodeError:
        return Fault.MALFORMED
    if not isinstance(arguments, dict):
        return Fault.MALFORMED
    if tool is None:
        return None
    if any(name not in arguments for name in tool.required):
        return Fault.INCOMPLETE
    if tool.strict and not schemas.fits(arguments, tool.schema, size=len(text)):
        return Fault.SCHEMA
    return None


class ToolAnswers:
    """Counts what became of the calls in answers, and the requests whose pool is one to be warned of."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._answers: dict[tuple[str, str, Mode, str], Cell] = {}
        self._warnings: dict[tuple[str, str, Mode], Cell] = {}

    def judged(self, pool: Pool, mode: Mode, fault: Fault | None) -> None:
        """The calls that `pool` answered with in `mode` have been looked at."""
        outcome = COMPLETE if fault is None else fault.value
        key = (pool.name, pool.model, mode, outcome)
        cell = self._answers.get(key)
        if cell is None:
            labels = {"model": pool.model, "mode": mode.value, "pool": pool.name, "outcome": outcome}
            cell = self._answers[key] = self._metrics.counter(Metric.TOOL_ANSWERS, labels)
        cell.add(1)

    def asked(self, pool: Pool, mode: Mode) -> None:
        """A request with tools is sent to `pool`."""
        if pool.capabilities.tools_warning is None:
            return
        key = (pool.name, pool.model, mode)
        cell = self._warnings.get(key)
        if cell is None:
            labels = {"model": pool.model, "mode": mode.value, "pool": pool.name}
            cell = self._warnings[key] = self._metrics.counter(Metric.TOOL_WARNINGS, labels)
        cell.add(1)
