"""docs/errors.md against the code: every error a client may see is on the page, and nothing else is."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from pointsman.contracts import errors
from pointsman.contracts.errors import ApiError, ConflictingModeSignals, InvalidRequest, ModeNotOffered
from pointsman.router.wire import openai

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/errors.md").read_text()


def rows(heading: str) -> list[list[str]]:
    """The cells of the first table under `heading`, its head left out."""
    section = PAGE.split(f"{heading}\n", 1)[1]
    table = re.search(r"\| ---.*\n((?:\|.*\n)+)", section)
    assert table
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in table[1].splitlines()]


def family(root: type[ApiError]) -> Iterator[type[ApiError]]:
    for child in root.__subclasses__():
        yield child
        yield from family(child)


def codes_raised_by_the_router() -> set[str]:
    """Every `code=` that the data plane gives to an error with status 400."""
    found = set()
    rooms = (ROOT / "router/pointsman/router" / room for room in ("http", "pipeline", "wire"))
    for file in (file for room in rooms for file in room.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "InvalidRequest":
                (code,) = [word.value for word in node.keywords if word.arg == "code"]
                assert isinstance(code, ast.Constant), f"{file}:{node.lineno}: a code that no page can list"
                found.add(code.value)
    return found


def test_every_error_has_its_row_with_status_type_and_code() -> None:
    wanted = {
        (error.status, error.type, error.code)
        for error in family(ApiError)
        if not issubclass(error, InvalidRequest)
    }
    said = {
        (int(status), kind.strip("`"), code.strip("`"))
        for status, kind, code, *_ in rows("## Before the first byte")
        if status != "400"
    }
    assert said == wanted
    assert None not in {code for _, _, code in wanted}


def test_every_code_of_status_400_has_its_row() -> None:
    said = {code.strip("`") for code, *_ in rows("### Codes of status 400")}
    own = {ConflictingModeSignals("a", "think", "b", "no_think").code, ModeNotOffered("a", "think").code}
    assert said == codes_raised_by_the_router() | own
    assert len(said) > 8


def test_the_events_after_the_first_byte_are_codes_that_exist() -> None:
    said = {code for row in rows("## After the first byte") for code in re.findall(r"`(\w+)`", row[0])}
    assert said <= {error.code for error in family(ApiError)} | codes_raised_by_the_router()


def test_the_event_of_the_page_is_the_event_of_the_code() -> None:
    error = errors.UpstreamFailed("The engine failed while it was answering; the answer is incomplete.")
    assert openai.error_event(error).decode().strip() in PAGE
