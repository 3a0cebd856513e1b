"""What the engine counts, under SGLang's metric names, so that dashboards and autoscaling read either engine.

The registry is the engine's own, not the process's, so that several engines can live in one process.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_LATENCIES = (0.1, 0.2, 0.4, 0.6, 0.8, 1, 2, 4, 6, 8, 10, 20, 40, 60, 80, 100, 200, 400)
_INTERVALS = (0.002, 0.004, 0.006, 0.008, 0.010, 0.015, 0.020, 0.030, 0.040, 0.060, 0.080, 0.1, 0.2, 0.5, 1, 2)


class EngineMetrics:
    """Counters and gauges of one engine. Tokens are tokens, times are seconds."""

    def __init__(self, model: str) -> None:
        self._registry = CollectorRegistry()
        named = {"model_name": model, "engine_type": "simulated"}
        labels = tuple(named)
        registry = self._registry

        def streamed(metric: Counter) -> dict[bool, Counter]:
            return {flag: metric.labels(**named, is_streaming=str(flag).lower()) for flag in (True, False)}

        self.running = Gauge(
            "sglang:num_running_reqs", "The number of running requests.", labels, registry=registry
        ).labels(**named)
        self.queued = Gauge(
            "sglang:num_queue_reqs", "The number of requests in the waiting queue.", labels, registry=registry
        ).labels(**named)
        self.used_tokens = Gauge(
            "sglang:num_used_tokens", "The number of tokens of running requests.", labels, registry=registry
        ).labels(**named)
        self.prompt_tokens = streamed(
            Counter(
                "sglang:prompt_tokens_total",
                "Number of prefill tokens processed.",
                (*labels, "is_streaming"),
                registry=registry,
            )
        )
        self.cached_tokens = Counter(
            "sglang:cached_tokens_total",
            "Number of cached prompt tokens by source (device/host/storage).",
            (*labels, "cache_source"),
            registry=registry,
        ).labels(**named, cache_source="device")
        self.generation_tokens = streamed(
            Counter(
                "sglang:generation_tokens_total",
                "Number of generation tokens processed.",
                (*labels, "is_streaming"),
                registry=registry,
            )
        )
        self.requests = streamed(
            Counter(
                "sglang:num_requests_total",
                "Number of requests processed.",
                (*labels, "is_streaming"),
                registry=registry,
            )
        )
        self.aborted = Counter(
            "sglang:num_aborted_requests_total", "Number of requests aborted.", labels, registry=registry
        ).labels(**named)
        self.first_token = Histogram(
            "sglang:time_to_first_token_seconds",
            "Histogram of time to first token in seconds.",
            labels,
            registry=registry,
            buckets=_LATENCIES,
        ).labels(**named)
        self.between_tokens = Histogram(
            "sglang:inter_token_latency_seconds",
            "Histogram of inter-token latency in seconds.",
            labels,
            registry=registry,
            buckets=_INTERVALS,
        ).labels(**named)
        self.whole_answer = Histogram(
            "sglang:e2e_request_latency_seconds",
            "Histogram of End-to-end request latency in seconds",
            labels,
            registry=registry,
            buckets=_LATENCIES,
        ).labels(**named)

    def exposition(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self._registry)
