"""docs/mode-contract.md against the code: the order, the signals, the headers and the thinking allowance."""

from __future__ import annotations

import re
from pathlib import Path

from pointsman.contracts.config import Policy
from pointsman.contracts.modes import PRECEDENCE, Mode, thinking_allowance
from pointsman.contracts.names import Header
from pointsman.router.wire.openai_request import EFFORTS, MODE_WORDS, TEMPLATE_SWITCHES

PAGE = (Path(__file__).parents[3] / "docs/mode-contract.md").read_text()


def tables() -> list[list[list[str]]]:
    """The cells of every table of the page, heads left out."""
    return [
        [[cell.strip() for cell in row.strip("|").split("|")] for row in table.splitlines()]
        for table in re.findall(r"\| ---.*\n((?:\|.*\n)+)", PAGE)
    ]


PRECEDENCE_TABLE, SIGNALS, HEADERS, ALLOWANCES = tables()


def words(cell: str) -> set[str]:
    return set(re.findall(r"`([^`]+)`", cell))


def test_the_order() -> None:
    said = [(int(rank), source.strip("`")) for rank, source, _ in PRECEDENCE_TABLE]
    assert said == [(rank, source.value) for rank, (source, _) in enumerate(PRECEDENCE, start=1)]


def test_the_signals() -> None:
    meaning = {signal: (words(think), words(no_think), words(none)) for signal, think, no_think, none in SIGNALS}

    def split(signals: dict[str, Mode | None]) -> tuple[set[str], set[str], set[str]]:
        def of(mode: Mode | None) -> set[str]:
            return {word for word, wish in signals.items() if wish is mode}

        return of(Mode.THINK), of(Mode.NO_THINK), of(None)

    assert meaning.pop(f"header `{Header.MODE}`") == split(dict(MODE_WORDS))
    assert meaning.pop("`reasoning_effort`") == split(dict(EFFORTS))
    assert meaning.pop("`model`") == ({"NAME:think"}, {"NAME:no_think"}, {"NAME"})
    for switch in TEMPLATE_SWITCHES:
        assert meaning.pop(f"`chat_template_kwargs.{switch}`") == ({"true"}, {"false"}, set())
    assert meaning == {}


def test_the_headers_exist() -> None:
    known = {value for name, value in vars(Header).items() if name.isupper()}
    said = {row[0].strip("`") for row in HEADERS}
    assert said <= known
    assert said == {
        Header.REQUEST_ID,
        Header.MODE,
        Header.MODE_SOURCE,
        Header.THINK_PROBABILITY,
        Header.THRESHOLD,
        Header.POOL,
        Header.COST_USD,
    }
    assert f"{Header.INCLUDE_COST}: true" in PAGE


def test_the_policy_defaults() -> None:
    policy = Policy()
    assert f"`threshold` ({policy.threshold})" in PAGE
    assert policy.abstain is None
    assert f"`default_mode` (`{policy.default_mode}`)" in PAGE


def test_the_thinking_allowance() -> None:
    for max_tokens, budget, thinking, answer in ([int(cell) for cell in row] for row in ALLOWANCES):
        assert thinking_allowance(max_tokens, budget) == thinking
        assert max_tokens - thinking == answer
