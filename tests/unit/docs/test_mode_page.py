"""docs/mode-contract.md against the code: order, signals, stages, headers, rules, and the thinking allowance."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from pointsman.contracts.config import Policy
from pointsman.contracts.modes import PRECEDENCE, Mode, Source, thinking_allowance
from pointsman.contracts.names import Header
from pointsman.contracts.policies import Candidate, Match, PolicyDocument, Stage, WhenSpent
from pointsman.router.pipeline.thinking_price import ENOUGH
from pointsman.router.policies import compile_policy, language
from pointsman.router.wire.wishes import (
    EFFORT_FIELDS,
    EFFORTS,
    MODE_WORDS,
    PROMPT_WORDS,
    TEMPLATE_SWITCHES,
    THINKING_TYPES,
)

PAGE = (Path(__file__).parents[3] / "docs/mode-contract.md").read_text()


def table(head: str) -> list[list[str]]:
    """The cells of the table whose first column is called `head`, the head left out."""
    found = re.search(rf"^\| {re.escape(head)} \|.*\n\| ---.*\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    assert found, head
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in found[1].splitlines()]


def words(cell: str) -> set[str]:
    return set(re.findall(r"`([^`]+)`", cell))


def test_the_order() -> None:
    said = [(int(rank), source.strip("`")) for rank, source, _ in table("rank")]
    assert said == [(rank, source.value) for rank, (source, _) in enumerate(PRECEDENCE, start=1)]


def test_the_signals() -> None:
    meaning = {
        signal: (words(think), words(no_think), words(none)) for signal, think, no_think, none in table("signal")
    }

    def split(signals: dict[str, Mode | None]) -> tuple[set[str], set[str], set[str]]:
        def of(mode: Mode | None) -> set[str]:
            return {word for word, wish in signals.items() if wish is mode}

        return of(Mode.THINK), of(Mode.NO_THINK), of(None)

    assert [signal.strip("`") for signal in meaning if signal.endswith("effort`")] == list(EFFORT_FIELDS)
    assert meaning.pop(f"header `{Header.MODE}`") == split(dict(MODE_WORDS))
    for field in EFFORT_FIELDS:
        assert meaning.pop(f"`{field}`") == split(dict(EFFORTS))
    assert meaning.pop("`thinking.type`") == split(dict(THINKING_TYPES))
    assert meaning.pop("last word of the last user message") == split(dict(PROMPT_WORDS))
    assert meaning.pop("`model`") == ({"NAME:think"}, {"NAME:no_think"}, {"NAME"})
    for switch in ("reasoning.enabled", *(f"chat_template_kwargs.{name}" for name in TEMPLATE_SWITCHES)):
        assert meaning.pop(f"`{switch}`") == ({"true"}, {"false"}, set())
    assert meaning == {}


def test_the_stages() -> None:
    assert [stage.strip("`") for stage, _ in table("stage")] == [stage.value for stage in Stage]
    for stage, (_, holds) in zip(Stage, table("stage"), strict=True):
        compiled = compile_policy(PolicyDocument(candidate=Candidate(policy=Policy(), stage=stage, share=0.5)))
        holding = {compiled.arm_of(conversation).name.value for conversation in (0, 2**32 - 1)}
        assert {name for name in ("present", "candidate") if name in holds} == holding


def test_the_headers_are_those_of_answers() -> None:
    known = {value for name, value in vars(Header).items() if name.isupper()}
    asking_or_inside = {Header.ESCALATION, Header.INCLUDE_COST, Header.REPLICA_SECRET, Header.PEER}
    asking_or_inside |= {Header.CACHE_CONTROL, Header.IDEMPOTENCY_KEY, Header.API_KEY, Header.ANTHROPIC_VERSION}
    asking_or_inside.add(Header.ANTHROPIC_REQUEST_ID)  # x-request-id by the name that Anthropic's clients know
    rows = dict(table("header"))
    assert {name.strip("`") for name in rows} == known - asking_or_inside
    assert words(rows[f"`{Header.MODE_SOURCE}`"]) == {source.value for source in Source}
    assert words(rows[f"`{Header.MODE}`"]) == {mode.value for mode in Mode}
    assert f"{Header.INCLUDE_COST}: true" in PAGE
    assert f"`{Header.THINKING_BUDGET}`" in PAGE


def test_the_policy() -> None:
    policy = Policy()
    assert f"`threshold` ({policy.threshold})" in PAGE
    assert policy.abstain is None
    assert f"`default_mode` (`{policy.default_mode}`)" in PAGE
    (example,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    rules = Policy.model_validate(yaml.safe_load(example)["policy"]).rules
    assert len(rules) == 3
    paragraph = PAGE.split("**Rules.**")[1].split("```")[0]
    assert set(Match.model_fields) <= words(paragraph)
    for word in (f"on_thinking_budget_spent: {WhenSpent.DEGRADE}", WhenSpent.REFUSE.value):
        assert f"`{word}`" in PAGE
    assert f"first {language.HEAD} characters" in PAGE
    (vote,) = re.findall(r"a vote of small words \(([^;]*);", PAGE.replace("\n", " "))
    assert words(vote) == set(language.SMALL_WORDS)
    assert ENOUGH == 8
    assert "seen eight times" in PAGE


def test_the_thinking_allowance() -> None:
    for max_tokens, budget, thinking, answer in ([int(cell) for cell in row] for row in table("`max_tokens`")):
        assert thinking_allowance(max_tokens, budget) == thinking
        assert max_tokens - thinking == answer
