"""From samples to figures: medians with their spread, what a gateway adds to the direct connection, the verdicts.

Pure arithmetic, apart from measuring and from printing, so that it can be tested. A sample is what the load
generator printed, with the CPU seconds and the memory beside it; a figure is the median of one quantity over the
repeats, with the lowest and the highest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from benchmarks.gateway.tools import Cell
from benchmarks.wire_formats import Cost

MERGED = 0.05
"""A gateway that delivers fewer HTTP chunks a token than the direct connection, by more than this share, merges."""

BUSY = 0.85
"""Below this share of its core a gateway was not what set the throughput."""

UNARY_1 = Cell("unary", 1, 512)
UNARY_32 = Cell("unary", 32, 512)
STREAM_32 = Cell("stream", 32, 512)


@dataclass(frozen=True)
class Figure:
    """The median of the repeats, and between what it lies."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Row:
    """One subject at one cell. Times are microseconds, memory is bytes."""

    throughput: Figure | None
    """Answers a second; for streams tokens a second over the tokens of one stream."""
    latency_p50: Figure | None
    latency_p99: Figure | None
    added_p50: Figure | None
    """Over the direct connection in the same repeat."""
    added_p99: Figure | None
    first_token_p50: Figure | None
    added_gap_p99: Figure | None
    """The 99th percentile between two tokens of one stream, over that of the direct connection."""
    added_delay_p99: Figure | None
    """The 99th percentile of the time from the upstream's write of a token to its arrival, over direct."""
    cpu: Figure | None
    """CPU of the gateway's processes for one answer."""
    helper_cpu: Figure | None
    busy: Figure | None
    """The share of its core that the gateway used; near 1, it was the gateway that set the throughput."""
    waited: Figure | None
    """The share of the time that the gateway was ready to run, and something else had its core."""
    rss: float
    chunks: Figure | None
    """HTTP chunks delivered for each token sent."""
    reads: Figure | None
    """Reads of the client that brought tokens, for each token."""
    merged: bool
    errors: int

    @property
    def idle(self) -> bool:
        """Whether something else than the gateway set the throughput."""
        return self.rss > 0 and self.busy is not None and self.busy.median < BUSY

    def per_core(self, *, helpers: bool = False) -> float | None:
        """Answers for each second of CPU that the gateway used, or it and its `helpers` together."""
        if self.cpu is None or not self.cpu.median:
            return None
        spent = self.cpu.median + (self.helper_cpu.median if helpers and self.helper_cpu else 0.0)
        return 1e6 / spent


@dataclass(frozen=True)
class Verdict:
    """One line that Pointsman must reach, and whether it did; None where it was not measured."""

    line: str
    wanted: str
    got: str
    holds: bool | None


def figure(values: Iterable[float | None]) -> Figure | None:
    """The median and spread of the values that are there, or None where there are none."""
    there = [value for value in values if value is not None]
    return Figure(median(there), min(there), max(there)) if there else None


def row(samples: Sequence[Mapping[str, Any]], direct: Mapping[int, Mapping[str, Any]], tokens: int) -> Row:
    """
    The figures of `samples`, the repeats of one subject at one cell.

    `direct` holds the samples of the direct connection at the same cell by repeat, `tokens` is the number of
    tokens of one stream.
    """

    def added(name: str, share: str) -> Figure | None:
        pairs = ((sample, direct.get(sample["repeat"])) for sample in samples)
        return figure(
            _difference(_timing(sample, name, share), _timing(base, name, share)) for sample, base in pairs
        )

    chunks = figure(_per_token(sample, "chunks") for sample in samples)
    base_chunks = figure(_per_token(sample, "chunks") for sample in direct.values())
    return Row(
        throughput=figure(answers(sample, tokens) / sample["seconds"] for sample in samples),
        latency_p50=figure(_timing(sample, "latency", "p50") for sample in samples),
        latency_p99=figure(_timing(sample, "latency", "p99") for sample in samples),
        added_p50=added("latency", "p50"),
        added_p99=added("latency", "p99"),
        first_token_p50=figure(_timing(sample, "first_token", "p50") for sample in samples),
        added_gap_p99=added("gap", "p99"),
        added_delay_p99=added("delay", "p99"),
        cpu=figure(cpu_per_answer(sample, tokens, "cpu") for sample in samples),
        helper_cpu=figure(cpu_per_answer(sample, tokens, "helper_cpu") for sample in samples),
        busy=figure(sample["cpu"] / sample["seconds"] for sample in samples),
        waited=figure(sample["waited"] / sample["seconds"] for sample in samples),
        rss=max(float(sample["rss"]) for sample in samples),
        chunks=chunks,
        reads=figure(_per_token(sample, "token_reads") for sample in samples),
        merged=is_merged(chunks, base_chunks),
        errors=sum(error_count(sample) for sample in samples),
    )


def is_merged(chunks: Figure | None, direct: Figure | None) -> bool:
    """Whether a gateway delivers fewer chunks a token than the direct connection, by more than `MERGED`."""
    return chunks is not None and direct is not None and chunks.median < direct.median * (1 - MERGED)


def answers(sample: Mapping[str, Any], tokens: int) -> float:
    """Answers in the window. Streams by their tokens, because a short window cuts many streams in two."""
    return sample["tokens"] / tokens if sample["kind"] == "stream" else float(sample["answers"])


def cpu_per_answer(sample: Mapping[str, Any], tokens: int, name: str) -> float | None:
    """Microseconds of CPU, or None where nothing was answered."""
    count = answers(sample, tokens)
    return sample[name] * 1e6 / count if count else None


def error_count(sample: Mapping[str, Any]) -> int:
    return sum(sample["errors"].values())


def ratio(samples: Sequence[Mapping[str, Any]], base: Sequence[Mapping[str, Any]], tokens: int) -> Figure | None:
    """CPU for one answer, against `base` in the same repeat."""
    by_repeat = {sample["repeat"]: cpu_per_answer(sample, tokens, "cpu") for sample in base}
    pairs = ((cpu_per_answer(item, tokens, "cpu"), by_repeat.get(item["repeat"])) for item in samples)
    return figure(one / other if one and other else None for one, other in pairs)


def verdicts(
    rows: Mapping[Cell, Mapping[str, Row]],
    scaling: Mapping[str, Figure | None],
    crowd: Mapping[str, Any] | None,
    page: Mapping[str, Any] | None,
    rust: Sequence[str],
    messages: Cost | None = None,
) -> list[Verdict]:
    """
    Pointsman against its lines.

    `scaling` holds CPU ratios by name, `crowd` the figures of many slow streams,
    `page` those of the slowest page; `rust` names the peers that streams are judged against; `messages` is what
    Anthropic's format costs beyond a chat.
    """
    lines = [
        _at_least("unary at 32 connections, against smg", rows, UNARY_32, "smg", 1),
        _at_least("unary at 32 connections, against vllm-router (stretch)", rows, UNARY_32, "vllm-router", 1),
        _at_least("unary at 32 connections, against LiteLLM", rows, UNARY_32, "litellm", 50),
    ]
    streams = {name: median_of(rows.get(STREAM_32, {}).get(name), "throughput") for name in rust}
    best = max((name for name, value in streams.items() if value), key=lambda name: streams[name] or 0, default="")
    lines.append(_at_least("streams at 32 connections, against the best Rust peer", rows, STREAM_32, best, 2))
    lines.append(_streams_per_core(rows.get(STREAM_32, {}), rust, 2))
    own = rows.get(STREAM_32, {}).get("pointsman")
    chunks = own.chunks if own else None
    got = f"{chunks.median:.3f} chunks a token" if chunks else "not measured"
    kept = not own.merged if own and chunks else None
    lines.append(Verdict("chunks of streams are not merged", f"within {MERGED:.0%}", got, kept))
    single = rows.get(UNARY_1, {}).get("pointsman")
    for name, limit in (("added_p50", 350), ("added_p99", 1500)):
        value = median_of(single, name)
        what = f"added latency at 1 connection, {name.removeprefix('added_')}"
        lines.append(_at_most(what, value, limit, lambda number: f"{number / 1000:.3f} ms"))
    for name, change in scaling.items():
        held = abs(change.median - 1) <= 0.10 if change else None
        got = (
            f"{change.median - 1:+.1%} ({change.low - 1:+.1%} .. {change.high - 1:+.1%})"
            if change
            else "not measured"
        )
        lines.append(Verdict(f"CPU per request, {name}", "within ±10 %", got, held))
    if crowd is not None:
        count = f"{crowd['streams']} streams"
        lines.append(_at_most(f"{count}: errors", crowd["errors"], 0, lambda number: f"{number:.0f}"))
        lines.append(_at_most(f"{count}: memory", crowd["rss"], 2**30, lambda number: f"{number / 2**20:.0f} MiB"))
        gap = crowd["added_gap_p99"]
        lines.append(_at_most(f"{count}: added p99 between tokens", gap, 50_000, lambda us: f"{us / 1000:.1f} ms"))
    if page is not None:
        what = f"{page['page']} asked for during streams: added p99 between tokens"
        lines.append(_at_most(what, page["added_gap_p99"], 5000, lambda us: f"{us / 1000:.1f} ms"))
    if messages is not None:
        request = max(messages.whole, messages.stream)
        lines.append(_at_most("Anthropic's format, a request", request, 60, _microseconds))
        chunk = max(messages.chunk, messages.chunk_of_several)
        lines.append(_at_most("Anthropic's format, a chunk", chunk, 6, _microseconds))
    errors = [item["pointsman"].errors for item in rows.values() if "pointsman" in item]
    total = sum(errors) if errors else None
    lines.append(_at_most("errors of pointsman in the whole matrix", total, 0, lambda number: f"{number:.0f}"))
    return lines


def disturbance(samples: Iterable[Mapping[str, Any]]) -> float:
    """The share of all measured time that gateways waited for a core that something else had."""
    there = list(samples)
    seconds = sum(sample["seconds"] for sample in there)
    return sum(sample["waited"] for sample in there) / seconds if seconds else 0.0


def median_of(item: Row | None, name: str) -> float | None:
    """The median of one quantity of a row, where both are there."""
    value = getattr(item, name) if item is not None else None
    return value.median if isinstance(value, Figure) else None


def as_json(item: Row) -> dict[str, Any]:
    return asdict(item)


def _at_least(what: str, rows: Mapping[Cell, Mapping[str, Row]], cell: Cell, other: str, times: float) -> Verdict:
    """Throughput against that of `other`; not judged where the load generator may have hidden the difference."""
    there = rows.get(cell, {})
    own, base = median_of(there.get("pointsman"), "throughput"), median_of(there.get(other), "throughput")
    if not own or not base:
        return Verdict(what, f"at least {times:g} times", "not measured", None)
    got = f"{own / base:.2f} times ({own:,.0f}/s against {base:,.0f}/s of {other})"
    reached = own >= times * base
    # Whoever left its core idle could have done more: the one that falls short, or the one that was passed.
    if there[other if reached else "pointsman"].idle:
        return Verdict(what, f"at least {times:g} times", f"{got}; the load set the pace", None)
    return Verdict(what, f"at least {times:g} times", got, reached)


def _streams_per_core(there: Mapping[str, Row], rust: Sequence[str], times: float) -> Verdict:
    """Streams for each second of CPU, which tells what a core can do also where the load generator set the pace."""
    what, wanted = "streams per core, against the best Rust peer", f"at least {times:g} times"
    rates = {name: rate for name in rust if name in there and (rate := there[name].per_core())}
    own = there["pointsman"].per_core() if "pointsman" in there else None
    if own is None or not rates:
        return Verdict(what, wanted, "not measured", None)
    best = max(rates, key=lambda name: rates[name])
    helped = there["pointsman"].per_core(helpers=True)
    assert helped is not None
    got = f"{own / rates[best]:.2f} times ({own:,.0f}/s against {rates[best]:,.0f}/s of {best}"
    return Verdict(what, wanted, f"{got}; {helped:,.0f}/s with helpers)", own >= times * rates[best])


def _at_most(what: str, value: float | None, limit: float, told: Any) -> Verdict:
    if value is None:
        return Verdict(what, f"at most {told(limit)}", "not measured", None)
    return Verdict(what, f"at most {told(limit)}", told(value), value <= limit)


def _microseconds(value: float) -> str:
    return f"{value:.1f} µs"


def _timing(sample: Mapping[str, Any] | None, name: str, share: str) -> float | None:
    times = sample[name] if sample else None
    return float(times[share]) if times else None


def _difference(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other


def _per_token(sample: Mapping[str, Any], name: str) -> float | None:
    return sample[name] / sample["tokens"] if sample["tokens"] else None
