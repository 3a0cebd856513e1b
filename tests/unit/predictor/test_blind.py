"""Labelled queries of one's own: how right the predictor is on them, by language, category and pair."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pointsman.cli.main import app
from pointsman.router.predictor import blind, corpus, question_of
from pointsman.router.predictor.question import parted

BLIND = tuple(
    Path(__file__).with_name(f"{name}.jsonl")
    for name in ("blind_queries", "blind_queries_2", "blind_system_prompts")
)
CARD = Path(__file__).parents[3] / "docs/model-card.md"

EASY = {"text": "What is the capital of France?", "label": 0, "lang": "en", "category": "fact", "pair": "a"}
HARD = {
    "text": "Prove that there are infinitely many primes.",
    "label": 1,
    "lang": "en",
    "category": "proof",
    "pair": "a",
}
WRONG = {"messages": [{"role": "user", "content": "Good morning!"}], "label": 1, "lang": "en", "pair": "b"}
TALK = {"messages": [{"role": "user", "content": "谢谢"}], "label": 0, "lang": "zh", "pair": "b"}


def evaluate(folder: Path, *rows: dict[str, Any]) -> Any:
    file = folder / "queries.jsonl"
    file.write_text("\n".join(json.dumps(row) for row in rows))
    return CliRunner().invoke(app, ["evaluate", "--queries", str(file), "--json"])


def test_what_is_right_is_counted_by_language_category_and_pair(tmp_path: Path) -> None:
    told = json.loads(evaluate(tmp_path, EASY, HARD, WRONG, TALK).stdout)
    assert (told["rows"], told["accuracy"]) == (4, 0.75)
    assert told["pairs"] == {"sets": 2, "all_right": 0.5}
    assert told["languages"]["zh"] == {"rows": 1, "accuracy": 1.0, "auroc": None}
    assert told["languages"]["en"]["accuracy"] == 0.6667
    assert told["categories"] == {name: {"rows": 1, "accuracy": 1.0, "auroc": None} for name in ("fact", "proof")}
    assert 0 <= told["ece"] <= 1


def test_nothing_to_judge_thinks_as_the_default_does(tmp_path: Path) -> None:
    told = json.loads(evaluate(tmp_path, EASY, {"text": " ", "label": 1}).stdout)
    assert told["accuracy"] == 1.0


@pytest.mark.parametrize(
    "rows",
    [[EASY], [EASY, {"text": "x"}], [EASY, {"label": 1}], [HARD, {**EASY, "lang": 7}]],
    ids=["one label", "no label", "no text", "no word"],
)
def test_what_is_no_labelled_query_is_refused_in_a_sentence(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    said = evaluate(tmp_path, *rows)
    assert said.exit_code == 2
    assert said.stderr.startswith("error: ")
    assert "queries.jsonl" in said.stderr.replace("\n", "")


@pytest.mark.parametrize("file", BLIND, ids=lambda file: file.stem)
def test_a_blind_check_reads_as_the_card_says_and_was_never_trained_on(file: Path) -> None:
    said = CliRunner().invoke(app, ["evaluate", "--queries", str(file), "--json"])
    told, card = json.loads(said.stdout), CARD.read_text()
    assert f"| all | {told['rows']} | {told['accuracy']} | {told['auroc']} |" in card
    for figures in (*told["languages"].values(), *told["categories"].values()):
        assert f"| {figures['rows']} | {figures['accuracy']} | {figures['auroc']} |" in card
    trained = {(row.text, row.beside) for row in corpus.own_rows()}
    assert not any(parted(question_of(query.messages) or "")[:2] in trained for query in blind.load(file))
