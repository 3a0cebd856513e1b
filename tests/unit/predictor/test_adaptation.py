"""A predictor adapted to a tenant: better where it should be, unchanged elsewhere, refused where it is neither."""

from __future__ import annotations

import json
import lzma
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import pytest
from typer.testing import CliRunner, Result

from pointsman.cli.main import app
from pointsman.router.predictor import Predictor, WeightsError, adaptation, artefact, corpus, gate, tenant_rows
from pointsman.router.predictor.artefact import Weights
from pointsman.router.predictor.corpus import CorpusError
from pointsman.router.predictor.gate import Comparison
from pointsman.router.predictor.question import question_of
from pointsman.router.predictor.tempering import tempered
from pointsman.router.predictor.tenant_rows import LEAST, TenantRow, TenantRows
from support.tenant_rows import ticket_rows, written

OWN = corpus.own_rows()[:: len(corpus.own_rows()) // 300]
"""Some 300 rows of the base set: enough to show what happens, in a part of the time."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tenant")


@pytest.fixture(scope="module")
def rows(folder: Path) -> TenantRows:
    return tenant_rows.load(written(folder / "tickets.jsonl", ticket_rows()))


@pytest.fixture(scope="module")
def adapted(folder: Path, rows: TenantRows) -> Weights:
    return _adapted(rows)


def _adapted(rows: TenantRows) -> Weights:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus, "own_rows", lambda: OWN)
        return adaptation.adapt(
            artefact.read(), rows, name="acme", created="2026-11-22", progress=lambda sentence: None
        )


def test_it_learns_what_the_tenant_means_and_leaves_everybody_else_alone(
    adapted: Weights, rows: TenantRows
) -> None:
    base, new = Predictor.load(), Predictor(adapted)
    verdict = adapted.report["gate"]
    assert verdict["passed"], verdict
    assert verdict["tenant"]["accuracy"] > verdict["tenant"]["accuracy_base"] + 0.05
    assert verdict["tenant"]["rows"] == len(rows.held_out)
    assert verdict["base_set"]["rows"] == len(OWN)
    others = [row.text for row in OWN]
    moved = [
        abs(one - other) for one, other in zip(new.probabilities(others), base.probabilities(others), strict=True)
    ]
    assert sum(moved) / len(moved) < 0.05
    assert new.probability("Rota ticket: the scanner is slow today.") > 0.5
    assert new.probability("Status ticket: the scanner is slow today.") < 0.5


CONVERSATIONS = [
    question_of([{"role": "user", "content": before}, {"role": "user", "content": last}])
    for before, last in (
        ("Prove that the square root of 2 is irrational.", "and of 3?"),
        ("Prove that the square root of 2 is irrational.", "thanks, in French please"),
        ("What's the capital of Peru?", "and how many live there?"),
    )
]
"""A last turn in the light of one before it, which is added to what is said of it alone."""


@pytest.fixture(scope="module")
def steady() -> Weights:
    """A base by whose lights all earlier turns are alike, so that none shifts when weights move."""
    return replace(artefact.read(), earlier=(0.0, 0.7))


@pytest.fixture(scope="module")
def fitting(steady: Weights) -> adaptation._Fitting:
    texts = [*CONVERSATIONS, *(str(row["text"]) for row in ticket_rows()[:20])]
    rows = [TenantRow(text, number % 2 == 0, 1.0, str(number), held_out=False) for number, text in enumerate(texts)]
    return adaptation._Fitting(Predictor(steady), steady, rows, OWN[:40])


@pytest.mark.parametrize("rise", [0.0, 2.5])
def test_what_the_fit_says_is_what_its_predictor_will_say(
    fitting: adaptation._Fitting, steady: Weights, rise: float
) -> None:
    moved = replace(steady, bias=steady.bias + rise / steady.slope)
    odds = (tempered(fitting._sums + rise, steady.bend) + fitting._light)[: len(CONVERSATIONS)]
    assert 1 / (1 + np.exp(-odds)) == pytest.approx(Predictor(moved).probabilities(CONVERSATIONS), abs=1e-6)


def test_the_fit_goes_down_its_own_slope(fitting: adaptation._Fitting) -> None:
    sums, weights = fitting._sums + 0.3, fitting._weights(np.ones(fitting._count, bool))
    slope = fitting._cross_entropy(sums, weights)[1]
    for place in range(0, len(sums), 7):
        step = np.zeros(len(sums))
        step[place] = 1e-4
        rise = fitting._cross_entropy(sums + step, weights)[0] - fitting._cross_entropy(sums - step, weights)[0]
        assert slope[place] == pytest.approx(rise / 2e-4, abs=1e-6)


def test_the_file_says_whose_it_is_and_survives_the_way_to_disk(adapted: Weights, tmp_path: Path) -> None:
    assert adapted.version == f"acme-2026-11-22-{adapted.sha256[:10]}"
    assert adapted.base == artefact.read().version
    artefact.write(adapted, tmp_path / "acme.weights")
    back = artefact.read(tmp_path / "acme.weights")
    assert (back.version, back.base, back.report) == (adapted.version, adapted.base, adapted.report)
    with pytest.raises(WeightsError, match="names no version"):
        artefact.parse(artefact.packed(replace(adapted, name="../acme")))
    with pytest.raises(ValueError, match="tenant's predictor itself"):
        adaptation.adapt(adapted, TenantRows((), ""), name="acme", created="2026-11-22", progress=print)


def test_labels_without_meaning_do_not_pass(folder: Path) -> None:
    made = _adapted(tenant_rows.load(written(folder / "noise.jsonl", ticket_rows(noise=True))))
    assert made.report["gate"]["passed"] is False
    assert "not better for the tenant" in made.report["gate"]["reason"]


def test_no_row_that_is_held_out_is_seen_in_training(adapted: Weights, rows: TenantRows, folder: Path) -> None:
    """Held-out rows with the opposite labels change the verdict, and no weight: it is the same to the last bit."""
    lies: list[dict[str, object]] = [
        {"text": row.text, "label": int(row.think != row.held_out)} for row in rows.rows
    ]
    made = _adapted(tenant_rows.load(written(folder / "lies.jsonl", lies)))
    assert made.sha256 == adapted.sha256
    assert made.report["gate"]["passed"] is False


def test_rows_that_belong_together_are_on_one_side(tmp_path: Path) -> None:
    rows = ticket_rows()
    for number, row in enumerate(rows):
        row["pair"] = f"pair {number // 2}"
    rows.append({"text": rows[0]["text"], "label": rows[0]["label"], "pair": "pair 3"})
    whole = tenant_rows.load(written(tmp_path / "all.jsonl", rows)).rows
    side = {row.text: row.held_out for row in whole}
    for first, second in zip(rows[:-1:2], rows[1:-1:2], strict=True):
        assert side[str(first["text"])] == side[str(second["text"])]
    assert whole[0].group == whole[-1].group == whole[6].group
    assert 0.2 < sum(side.values()) / len(side) < 0.4
    again = tenant_rows.load(written(tmp_path / "half.jsonl", [row for row in rows if row["pair"] != "pair 3"]))
    alone = {row.text: row.held_out for row in again.rows}
    kept = {str(row["text"]) for row in rows[2:6]}
    assert {text: alone[text] for text in kept} == {text: side[text] for text in kept}


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        pytest.param(['{"text": "a", "label": 1}'] * 3, "0 rows with label 0: 50 of each", id="too few"),
        pytest.param(["nonsense"], "line 1: not JSON", id="no JSON"),
        pytest.param(["[1]"], "line 1: needs an object", id="no object"),
        pytest.param(['{"label": 1}'], "line 1: needs `text`", id="no question"),
        pytest.param(['{"messages": [{"role": "system", "content": "x"}], "label": 1}'], "needs", id="no user"),
        pytest.param(['{"text": "a", "label": 2}'], "line 1: `label` must be", id="label"),
        pytest.param(['{"text": "a", "label": 1, "weight": 0}'], "`weight` must be", id="weight"),
        pytest.param(['{"text": "a", "label": 1, "weight": true}'], "`weight` must be", id="weight is a flag"),
        pytest.param(['{"text": "a", "label": 1, "pair": 7}'], "`pair` must be", id="pair"),
        pytest.param(
            [json.dumps({"text": f"{n}", "label": n % 2, "pair": "one"}) for n in range(200)],
            "cannot be divided",
            id="all of one pair",
        ),
    ],
)
def test_rows_that_cannot_be_used_are_named(tmp_path: Path, lines: list[str], told: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(lines))
    with pytest.raises(CorpusError, match=told):
        tenant_rows.load(path)


def test_of_labels_that_contradict_each_other_the_weightier_holds(tmp_path: Path) -> None:
    rows = ticket_rows()
    said = [
        {"text": "A b", "label": 1, "weight": 2},
        {"text": "a  B", "label": 0},
        {"text": "even", "label": 1},
        {"text": "Even", "label": 0},
    ]
    path = tmp_path / "rows.jsonl.xz"
    path.write_bytes(lzma.compress(b"".join(orjson.dumps(row) + b"\n" for row in [*rows, *said])))
    found = tenant_rows.load(path).rows
    assert len(found) == len(rows) + 1
    assert (found[-1].text, found[-1].think) == ("A b", True)
    path.write_bytes(b"\xfd7zXZ")
    with pytest.raises(CorpusError, match="cannot read"):
        tenant_rows.load(path)


def _compared(*, rows: int, fixed: int, broken: int) -> Comparison:
    return Comparison(rows, 0.9, 0.9 + (fixed - broken) / rows, 0.95, 0.95, 0.3, 0.3, fixed, broken)


@pytest.mark.parametrize(
    ("tenant", "base_set", "passed"),
    [
        pytest.param((5, 0), (0, 0), True, id="five of five may be no chance"),
        pytest.param((4, 0), (0, 0), False, id="four of four may"),
        pytest.param((20, 9), (0, 0), True, id="most of many"),
        pytest.param((18, 12), (0, 0), False, id="hardly more than half"),
        pytest.param((0, 0), (0, 0), False, id="no difference"),
        pytest.param((0, 30), (0, 0), False, id="worse"),
        pytest.param((30, 0), (0, 8), True, id="a little lost"),
        pytest.param((30, 0), (40, 55), True, id="much changed and little lost"),
        pytest.param((30, 0), (0, 25), False, id="much lost"),
        pytest.param((30, 0), (100, 150), False, id="more lost than chance explains"),
    ],
)
def test_the_verdict(tenant: tuple[int, int], base_set: tuple[int, int], passed: bool) -> None:
    verdict = gate.verdict(
        _compared(rows=100, fixed=tenant[0], broken=tenant[1]),
        _compared(rows=2000, fixed=base_set[0], broken=base_set[1]),
    )
    assert verdict.passed is passed, verdict.reason
    assert verdict.reason.endswith(".")
    lost = base_set[1] - base_set[0]
    margin = 2000 * gate.SPARED + 1.645 * math.sqrt(sum(base_set))
    assert verdict.reason.startswith("It is worse on the base set") == (lost > margin)


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def test_the_commands_say_who_may_hold(adapted: Weights, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "own_rows", lambda: OWN)
    file, tickets = folder / "acme.weights", str(folder / "tickets.jsonl")
    artefact.write(adapted, file)
    judged = ("evaluate", "--against", "bundled", "--data", tickets)
    good = _run(*judged, "--weights", str(file), "--json")
    assert (good.exit_code, json.loads(good.stdout)["passed"]) == (0, True)
    assert json.loads(good.stdout)["tenant"] == adapted.report["gate"]["tenant"]
    same = _run(*judged, "--weights", "bundled")
    assert same.exit_code == 1
    assert "NOT passed. It is not better for the tenant" in same.stdout

    few = written(folder / "few.jsonl", ticket_rows()[: LEAST - 1])
    output = folder / "never.weights"
    asked = ("train", "--base", "bundled", "--output", str(output))
    for arguments, told in (
        (("--data", str(few)), "50 of each"),
        (("--data", tickets, "--name", "base"), "--name takes"),
        (("--data", tickets, "--name", "Acme/.."), "--name takes"),
        (("--data", str(folder / "nowhere")), "cannot read"),
    ):
        refused = _run(*asked, *arguments)
        assert refused.exit_code == 2, refused.output
        assert told in refused.stderr
    assert not output.exists()
    assert _run("evaluate", "--against", "bundled", "--data", tickets).exit_code == 2
