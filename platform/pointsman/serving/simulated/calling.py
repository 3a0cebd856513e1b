"""Which tools a simulated answer calls, and with what arguments.

Stands between the checked request and the script. No model chooses here: a tool is called where the last message of
the user says its name, and where the request demands a call. So a client decides by its words what it will get.
"""

from __future__ import annotations

import re

import orjson

from pointsman.serving.simulated.made_up import NotFollowed, made_up
from pointsman.serving.simulated.requests import ChatRequest, RefusedRequest, ToolChoice
from pointsman.serving.simulated.script import Call


def calls_for(request: ChatRequest) -> tuple[Call, ...]:
    """
    The calls that answer `request`; empty where it is answered by a text.

    Raises `RefusedRequest` where no arguments can be made up that fit a tool's schema.
    """
    tools = {tool.function.name: tool.function.parameters for tool in request.tools or ()}
    choice = request.tool_choice
    if not tools or choice == "none":
        return ()
    last = request.messages[-1]
    words = set(re.findall(r"[\w.-]+", request.text_of(last))) if last.role == "user" else set()
    words |= {word.rstrip(".") for word in words}
    names = [name for name in tools if name in words]
    if isinstance(choice, ToolChoice):
        names = [choice.function.name]
    elif choice == "required" and not names:
        names = [next(iter(tools))]
    if request.parallel_tool_calls is False:
        names = names[:1]
    return tuple(Call(name, written(tools[name] or {"type": "object"}, f"tool {name}")) for name in names)


def written(schema: object, what: str) -> str:
    """A value that fits `schema`, that of `what`, as JSON. Raises `RefusedRequest` where none can be made up."""
    try:
        return orjson.dumps(made_up(schema)).decode()
    except (NotFollowed, TypeError, ValueError, OverflowError):
        raise RefusedRequest(f"The schema of {what} is more than a simulated engine can follow.") from None
