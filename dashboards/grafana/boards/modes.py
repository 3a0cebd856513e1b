"""*Modes*: why queries took their track, how sure the predictor was, and who says that it was wrong."""

from __future__ import annotations

from typing import Any

from boards.look import FLEET, Board, Query
from pointsman.contracts.names import Metric

TENANT = 'tenant=~"$tenant"'
MODEL = 'model=~"$model"'
PICKED = (TENANT, MODEL)
THINKS = 'mode="think"'
AGREE = 'verdict="agree"'


def modes() -> Any:
    """The dashboard."""
    board = Board(
        FLEET,
        "Pointsman / Modes",
        "Decisions between the two tracks: by whom, how surely, and what became of them.",
        uid="pointsman-modes",
        variables={"tenant": Metric.DECISIONS, "model": f"{Metric.PROBABILITY}_count"},
    )
    _now(board)
    _decisions(board)
    _predictor(board)
    _second_tries(board)
    _judged(board)
    return board.json()


def _now(board: Board) -> None:
    of = board.scope
    board.number(
        "Think",
        "Share of decisions for thinking.",
        "percentunit",
        Query(of.share("", Metric.DECISIONS, THINKS, TENANT)),
    )
    board.number(
        "By the predictor",
        "Share of decisions that nobody of a higher rank had taken: neither policy, budget nor client.",
        "percentunit",
        Query(of.share("", Metric.DECISIONS, 'source=~"predictor|saturation"', TENANT)),
    )
    board.number(
        "By default",
        "Share of decisions in which the predictor abstained or had nothing to judge.",
        "percentunit",
        Query(of.share("", Metric.DECISIONS, 'source="default"', TENANT)),
    )
    escalated, answered = (
        of.summed("", Metric.ESCALATIONS, *PICKED, window="1h"),
        of.summed("", Metric.REQUESTS, 'status="200"', *PICKED, window="1h"),
    )
    board.number(
        "Asked again",
        "Share of the last hour's answers without thinking that were not good enough and asked for with thinking.",
        "percentunit",
        Query(f"({escalated} or vector(0)) / ({answered} > 0)"),
    )
    board.number(
        "Agreed with",
        "Share of the words of tenants and reviewers on decisions that agree with the mode, since the routers' "
        "counters began.",
        "percentunit",
        Query(
            f"(sum ({of.of(Metric.FEEDBACK, TENANT, AGREE)}) or vector(0))"
            f" / (sum ({of.of(Metric.FEEDBACK, TENANT)}) > 0)"
        ),
    )
    board.number(
        "Mean probability",
        "Mean P(think) over the last hour. A change that lasts is drift: see the alert PointsmanPredictorDrift.",
        "percentunit",
        Query(f"avg ({of.of('model:pointsman_think_probability:mean_rate1h', MODEL)})"),
    )


def _decisions(board: Board) -> None:
    of = board.scope
    board.row("Decisions")
    board.lines(
        "By mode",
        "Decisions by the second.",
        "short",
        Query(of.summed("mode", Metric.DECISIONS, TENANT), "{{mode}}"),
        stacked=True,
    )
    board.lines(
        "By source",
        "Who determined the mode: policy over budget over client over predictor over default; `saturation` where "
        "only load moved the threshold across the probability.",
        "short",
        Query(of.summed("source", Metric.DECISIONS, TENANT), "{{source}}"),
        stacked=True,
    )
    board.lines(
        "Share that thinks, by tenant",
        "The ten tenants that think the most, over five minutes.",
        "percentunit",
        Query(f"topk(10, {of.of('tenant:pointsman_think:ratio_rate5m', TENANT)})", "{{tenant}}"),
        top=1,
    )


def _predictor(board: Board) -> None:
    of = board.scope
    board.row("The predictor")
    board.heat(
        "Probabilities over time",
        "P(think) as the predictor gave it, for every query with a text, whoever decided in the end.",
        "percentunit",
        Query(of.summed("le", f"{Metric.PROBABILITY}_bucket", MODEL), "{{le}}"),
    )
    board.lines(
        "Mean probability by model",
        "Mean P(think) over an hour.",
        "percentunit",
        Query(of.of("model:pointsman_think_probability:mean_rate1h", MODEL), "{{model}}"),
        width=6,
        top=1,
    )
    board.lines(
        "Thresholds",
        "What each tenant's last probability was held against; moves with policies and load. The ten highest.",
        "percentunit",
        Query(f"topk(10, max by (tenant) ({of.of(Metric.THRESHOLD, TENANT)}))", "{{tenant}}"),
        width=6,
        top=1,
    )


def _second_tries(board: Board) -> None:
    of = board.scope
    board.row("Answers that did not stand")
    board.lines(
        "Asked again with thinking",
        "Answers without thinking by why they were not good enough, in each step of the picture.",
        "short",
        Query(f"sum by (reason) (increase({of.of(Metric.ESCALATIONS, *PICKED)}[$__rate_interval]))", "{{reason}}"),
        width=6,
        stacked=True,
    )
    board.lines(
        "Asked again, by model",
        "Share of a model's answers, over an hour. See the alert PointsmanEscalationsRise.",
        "percentunit",
        Query(of.of("model:pointsman_escalations:ratio_rate1h", MODEL), "{{model}}"),
        width=6,
    )
    board.lines(
        "Thinking closed for an answer",
        "Requests whose thinking was closed so that an answer still fitted, in each step of the picture.",
        "short",
        Query(f"sum by (model) (increase({of.of(Metric.ANSWER_FLOORS, *PICKED)}[$__rate_interval]))", "{{model}}"),
        width=6,
    )
    board.lines(
        "Stopped",
        "Outputs that were stopped because they repeated themselves, in each step of the picture.",
        "short",
        Query(f"sum by (reason) (increase({of.of(Metric.STOPPED, *PICKED)}[$__rate_interval]))", "{{reason}}"),
        width=6,
    )


def _judged(board: Board) -> None:
    of = board.scope
    board.row("What others say of decisions")
    board.bars(
        "Words of people",
        "Tenants and reviewers who said which mode would have been right, since the routers' counters began.",
        "short",
        Query(f"sum by (judge, verdict) ({of.of(Metric.FEEDBACK, TENANT)})", "{{verdict}}: {{judge}}"),
    )
    board.lines(
        "Words of people over time",
        "The same, added up over an hour.",
        "short",
        Query(f"sum by (verdict) (increase({of.of(Metric.FEEDBACK, TENANT)}[1h]))", "{{verdict}}"),
        width=6,
    )
    board.lines(
        "Judgements of models",
        "Modes that models of the family `kat` judged right themselves, in each step of the picture.",
        "short",
        Query(f"sum by (verdict) (increase({of.of(Metric.JUDGEMENTS, *PICKED)}[$__rate_interval]))", "{{verdict}}"),
        width=6,
    )
    board.lines(
        "Policies that went back",
        "How often new policies have left their stage by themselves: for errors, escalations or disagreement.",
        "short",
        Query(f"sum by (tenant, reason) ({of.of(Metric.STAGE_RETURNS, TENANT)})", "{{tenant}} {{reason}}"),
        width=6,
    )
