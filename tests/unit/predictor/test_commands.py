"""The predictor's commands as a script sees them: what is on stdout, what on stderr, and the exit code."""

from __future__ import annotations

import json
import lzma
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from pointsman.cli.main import app
from pointsman.router.predictor import Predictor, artefact, corpus

_CARD = Path(__file__).parents[3] / "docs/model-card.md"


def _run(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, arguments, input=stdin)


def _json(*arguments: str) -> Any:
    result = _run(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_explain_says_mode_probability_threshold_source_and_evidence() -> None:
    said = _json("explain", "Prove that the square root of 2 is irrational.")
    assert said["mode"] == "think"
    assert said["source"] == "predictor"
    assert said["threshold"] == 0.5
    assert said["think_probability"] > 0.5
    assert said["predictor"] == Predictor.load().version
    assert {"feature", "contribution"} == set(said["evidence"][0])
    assert _json("explain", "What is the capital of France?")["mode"] == "no_think"


def test_explain_leaves_a_blank_question_to_the_default() -> None:
    said = _json("explain", "  ")
    assert (said["mode"], said["source"], said["think_probability"]) == ("think", "default", None)


def test_explain_for_people_names_the_mode_and_survives_markup() -> None:
    result = _run("explain", "[bold]Prove[/nonsense] that \x1b[31m pi is irrational")
    assert result.exit_code == 0
    assert "think" in result.stdout
    assert "\x1b[31m" not in result.stdout


def test_explain_takes_a_tenants_policy(tmp_path: Path) -> None:
    config = tmp_path / "fleet.yaml"
    config.write_text(
        "pools:\n"
        "  - {name: a, model: m, modes: [no_think], engine: simulated, prices: {input: 0, output: 0}}\n"
        "  - {name: b, model: m, modes: [think], engine: simulated, prices: {input: 0, output: 0}}\n"
        "tenants:\n  - {name: eager, policy: {threshold: 0.0}}\n"
    )
    said = _json("explain", "hi", "--config", str(config), "--tenant", "eager")
    assert (said["mode"], said["threshold"]) == ("think", 0.0)
    named = "acme-2026-11-22-0123456789"
    config.write_text(config.read_text().replace("threshold: 0.0", f"threshold: 0.0, predictor: {named}"))
    said_both = _run("explain", "hi", "--config", str(config), "--tenant", "eager", "--json")
    assert json.loads(said_both.stdout)["predictor"] == Predictor.load().version
    assert f"the policy names the predictor {named}" in said_both.stderr
    wrong = _run("explain", "hi", "--config", str(config), "--tenant", "nobody")
    assert wrong.exit_code == 2
    assert "eager" in wrong.stderr


FLEET = """
pools:
  - {name: a, model: m, modes: [no_think], engine: simulated, prices: {input: 0, output: 0}}
  - {name: b, model: m, modes: [think], engine: simulated, prices: {input: 0, output: 0}}
  - {name: c, model: quick, modes: [no_think], engine: simulated, prices: {input: 0, output: 0}}
tenants:
  - name: ruled
    policy:
      rules:
        - {name: finance, match: {metadata: {team: finance}}, mode: think}
        - {name: agents, match: {tools: true}, threshold: 0.0}
        - {name: german, match: {languages: [de]}, mode: think}
  - name: plain
    models: [m]
    candidate: {policy: {threshold: 0.0, wish_in_prompt: false}, stage: enforce}
"""


@pytest.mark.parametrize(
    ("question", "options", "said"),
    [
        ("hi", [], ("no_think", "predictor", "threshold", "")),
        ("hi /think", [], ("think", "client", "messages[0].content", "")),
        ("hi", ["--model", "m:think"], ("think", "client", "model", "")),
        ("hi", ["--metadata", "team=finance"], ("think", "policy", "finance", "finance")),
        ("Was ist das für ein Hund?", [], ("think", "policy", "german", "german")),
        ("hi", ["--tools"], ("think", "predictor", "threshold", "agents")),
        (
            "Prove that the square root of 2 is irrational.",
            ["--model", "quick"],
            ("no_think", "default", "the model has one mode", ""),
        ),
    ],
)
def test_explain_and_predict_decide_by_the_rules(
    tmp_path: Path, question: str, options: list[str], said: tuple[str, str, str, str]
) -> None:
    config = tmp_path / "fleet.yaml"
    config.write_text(FLEET)
    options = [
        "--config",
        str(config),
        "--tenant",
        "ruled",
        *(["--model", "m"] if "--model" not in options else []),
        *options,
    ]
    explained = _json("explain", question, *options)
    assert tuple(explained[name] for name in ("mode", "source", "detail", "rule")) == said
    assert (explained["arm"], explained["stage"], explained["shadow"]) == ("present", None, None)
    for line in ({"text": question}, {"messages": [{"role": "user", "content": question}]}):
        result = _run("predict", "--input", "-", *options, stdin=json.dumps({"id": 1, **line}))
        row = json.loads(result.stdout)
        assert {**explained, **row} == {**explained, "id": 1}


def test_explain_tells_which_of_two_policies_holds(tmp_path: Path) -> None:
    config = tmp_path / "fleet.yaml"
    config.write_text(FLEET)
    said = _json("explain", "hi /think", "--config", str(config), "--tenant", "plain")
    assert (said["mode"], said["source"], said["threshold"]) == ("think", "predictor", 0.0)
    assert (said["arm"], said["stage"], said["shadow"]) == ("candidate", "enforce", "no_think")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--tenant", "ruled"], "need --config"),
        (["--config", "FLEET", "--tenant", "ruled"], "--model must name one of the tenant's models: m, quick"),
        (["--config", "FLEET", "--tenant", "ruled", "--model", "n"], "does not exist"),
        (["--config", "FLEET", "--tenant", "ruled", "--model", "quick:think"], "not served"),
        (["--config", "FLEET", "--tenant", "ruled", "--model", "m", "--metadata", "team"], "NAME=VALUE"),
    ],
)
def test_explain_says_what_it_cannot_decide(tmp_path: Path, options: list[str], complaint: str) -> None:
    config = tmp_path / "fleet.yaml"
    config.write_text(FLEET)
    wrong = _run("explain", "hi", *(option.replace("FLEET", str(config)) for option in options))
    assert wrong.exit_code == 2
    assert complaint in " ".join(wrong.stderr.split())
    assert "Traceback" not in wrong.stderr


def test_predict_answers_each_line(tmp_path: Path) -> None:
    lines = [
        {"id": "a", "text": "hi"},
        {"id": 2, "messages": [{"role": "user", "content": "Prove that the square root of 2 is irrational."}]},
        {"id": None, "messages": [{"role": "system", "content": "Be brief."}]},
        {"id": "blank", "text": " "},
    ]
    file = tmp_path / "in.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    result = _run("predict", "--input", str(file))
    assert result.exit_code == 0
    said = [json.loads(line) for line in result.stdout.splitlines()]
    assert [each["id"] for each in said] == ["a", 2, None, "blank"]
    assert [each["think_probability"] for each in said[2:]] == [None, None]
    assert said[0]["think_probability"] == pytest.approx(Predictor.load().probability("hi"), abs=1e-6)
    assert said[1]["think_probability"] > 0.5 > said[0]["think_probability"]


def test_predict_reads_stdin_in_batches_that_keep_the_order() -> None:
    lines = "\n".join(json.dumps({"id": number, "text": f"what is {number} + 1?"}) for number in range(150))
    result = _run("predict", "--input", "-", stdin=lines)
    assert [json.loads(line)["id"] for line in result.stdout.splitlines()] == list(range(150))


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{", "not JSON"),
        ("[]", "`id`"),
        ('{"text": "hi"}', "`id`"),
        ('{"id": 1}', "`text` or `messages`"),
        ('{"id": 1, "text": 3}', "`text`"),
        ('{"id": 1, "messages": "hi"}', "`messages`"),
    ],
)
def test_predict_names_the_line_that_is_wrong(line: str, complaint: str) -> None:
    result = _run("predict", "--input", "-", stdin='{"id": 0, "text": "hi"}\n' + line + "\n")
    assert result.exit_code == 2
    assert "line 2" in result.stderr
    assert complaint in result.stderr


def test_predict_without_a_file_says_so(tmp_path: Path) -> None:
    result = _run("predict", "--input", str(tmp_path / "none.jsonl"))
    assert result.exit_code == 2
    assert "none.jsonl" in result.stderr


def test_a_broken_weights_file_is_one_sentence(tmp_path: Path) -> None:
    broken = tmp_path / "broken.weights"
    broken.write_bytes(artefact.BUNDLED.read_bytes()[:1000])
    result = _run("explain", "hi", "--weights", str(broken))
    assert result.exit_code == 2
    assert "is damaged" in result.stderr
    assert result.stdout == ""


def test_the_stored_report_is_no_worse_than_it_was() -> None:
    report = _json("evaluate")
    assert report["stored"] is True
    # What helps with requests costs a little on exams: docs/decisions/linear-predictor.md.
    assert report["auroc"] >= 0.895
    assert report["ece"] <= 0.031
    assert report["own_rows_by_author"]["auroc"] >= 0.945
    assert report["own_rows_by_author"]["accuracy"] >= 0.87
    assert report["own_rows_by_author"]["ece"] <= 0.03
    assert 0 <= report["no_think_share"] <= 1
    assert report["own_no_think_share"] >= 0.69
    assert report["ece_bins"] == 15
    assert len(report["families"]) >= 20
    assert len(report["data_sha256"]) == 64
    assert report["date"]


def test_evaluate_times_single_calls_beside_the_kernel() -> None:
    report = _json("evaluate", "--latency")
    assert 0 < report["latency_us"]["p50"] <= report["latency_us"]["p99"]
    assert 0 < report["kernel_us"]["p50"] <= report["kernel_us"]["p99"]


def test_evaluate_for_people_lists_the_families() -> None:
    result = _run("evaluate")
    assert result.exit_code == 0
    assert "olymp" in result.stdout


def test_the_model_card_states_the_stored_figures() -> None:
    report, card = _json("evaluate"), _CARD.read_text()
    whole = ("rows", "auroc", "accuracy", "ece")
    for part in (
        report,
        report["core"],
        report["every_row_alike"],
        report["own_rows"],
        report["own_rows_by_author"],
    ):
        row = " | ".join(str(part[name]) for name in whole)
        assert f"| {row} |" in card
    for name in ("predictor", "date", "data_sha256"):
        assert report[name] in card


def _corpus(folder: Path) -> None:
    hard = ["Prove that {} is odd.", "Find all integers n with n^2 = {} mod 7.", "Derive the bound for {}."]
    easy = ["Where is {}?", "Thanks, {}!", "Translate {} to French."]
    rows = [
        {"text": form.format(number), "label": label, "weight": 1.0, "source": f"s{number % 4}"}
        for number in range(40)
        for label, forms in ((1, hard), (0, easy))
        for form in forms
    ]
    with lzma.open(folder / "train.jsonl.xz", "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def test_training_writes_weights_that_evaluate_alike_and_twice_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _corpus(tmp_path)
    own = tmp_path / "rows"
    own.mkdir()
    for file in sorted(corpus.OWN_ROWS.glob("*.jsonl"))[:2]:
        (own / file.name).write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:100]))
    monkeypatch.setattr(corpus, "OWN_ROWS", own)  # all of them would take the test half a minute
    files = [tmp_path / "one.weights", tmp_path / "two.weights"]
    reports = [_json("train", "--data", str(tmp_path), "--output", str(file)) for file in files]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert set(reports[0]["families"]) == {"s0", "s1", "s2", "s3"}
    assert reports[0]["auroc"] > 0.9
    stored = _json("evaluate", "--weights", str(files[0]))
    anew = _json("evaluate", "--weights", str(files[0]), "--data", str(tmp_path))
    assert stored["families"] == anew["families"]
    assert stored["data_sha256"] == anew["data_sha256"]
    assert (stored["stored"], anew["stored"]) == (True, False)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "train.jsonl.xz"),
        (b"not xz", "train.jsonl.xz"),
        (lzma.compress(b"{}"), "line 1"),
        (lzma.compress(b'{"text": "a", "label": 2, "source": "s"}'), "`label`"),
        (lzma.compress(b'{"text": "a", "label": 1, "source": "s"}'), "both labels"),
    ],
)
def test_training_rows_that_cannot_be_used_are_named(tmp_path: Path, content: bytes | None, complaint: str) -> None:
    if content is not None:
        (tmp_path / "train.jsonl.xz").write_bytes(content)
    result = _run("train", "--data", str(tmp_path), "--output", str(tmp_path / "w"))
    assert result.exit_code == 2
    assert complaint in result.stderr
    assert not (tmp_path / "w").exists()
