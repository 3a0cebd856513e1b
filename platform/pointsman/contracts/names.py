"""Every name that crosses a process boundary: headers, metrics, Redis keys, environment variables, files.

Spelled here and nowhere else, so that a rename is one edit and a dashboard can be checked against the code.
"""

from __future__ import annotations


class Header:
    """HTTP header names, lower case, as the data plane compares them."""

    REQUEST_ID = "x-request-id"
    MODE = "x-pointsman-mode"
    MODE_SOURCE = "x-pointsman-mode-source"
    THINK_PROBABILITY = "x-pointsman-think-probability"
    THRESHOLD = "x-pointsman-threshold"
    POOL = "x-pointsman-pool"
    DECISION_ID = "x-pointsman-decision-id"
    OVERRULED = "x-pointsman-overruled"
    """`client` where a higher rank overruled the client's wish."""
    ESCALATED = "x-pointsman-escalated"
    """Why the answer was asked for once more with thinking: one of `Trigger`."""
    CLAMPED = "x-pointsman-clamped"
    """What the client asked for beyond a ceiling, with what it got: `max_tokens=4096, thinking_budget=200`."""
    ANSWER_FLOOR = "x-pointsman-answer-floor"
    """`true` where thinking was closed so that an answer still fitted."""
    STOPPED = "x-pointsman-stopped"
    """`repetition` where the output was stopped because it repeated itself."""
    JUDGEMENT = "x-pointsman-judgement"
    """The mode that the model itself judged right, where it said so."""
    THINKING_BUDGET = "x-pointsman-thinking-budget"
    """Request header: thinking tokens at most. In answers in mode think: those that held."""
    ESCALATION = "x-pointsman-escalation"
    """Request header: `off`, `on` or `buffered`."""
    COST_USD = "x-pointsman-cost-usd"
    INCLUDE_COST = "x-pointsman-include-cost"
    """Request header: `true` adds `pointsman: {cost_usd}` to the final usage chunk of a stream."""
    REPLICA_SECRET = "x-pointsman-replica-secret"
    """Set by the router on every call to a replica; a replica refuses a call without it."""
    PEER = "x-pointsman-peer"
    """Set by the data plane on what it relays to the admin process: the address the client called from."""


class Metric:
    """Prometheus metric names, as scraped."""

    REQUESTS = "pointsman_requests_total"
    TOKENS = "pointsman_tokens_total"
    COST = "pointsman_cost_usd_total"
    DECISIONS = "pointsman_decisions_total"
    ESCALATIONS = "pointsman_escalations_total"
    ANSWER_FLOORS = "pointsman_answer_floors_total"
    STOPPED = "pointsman_stopped_outputs_total"
    JUDGEMENTS = "pointsman_model_judgements_total"
    STAGE_RETURNS = "pointsman_policy_stage_returns_total"
    UNKEPT_DECISIONS = "pointsman_unkept_decisions_total"
    ESTIMATED = "pointsman_estimated_usage_total"
    RETRIES = "pointsman_upstream_retries_total"
    TTFT = "pointsman_time_to_first_token_seconds"
    DURATION = "pointsman_request_duration_seconds"
    STEP = "pointsman_step_seconds_total"
    IN_FLIGHT = "pointsman_requests_in_flight"
    REPLICAS = "pointsman_pool_replicas"
    RESTING_REPLICAS = "pointsman_resting_replicas"


class RedisKey:
    """Keys in Redis. All of them start with `pointsman:`."""

    REPLICAS = "pointsman:replicas"
    """Set of the addresses that ever registered; members whose own key has expired are dropped by readers."""
    REPLICA = "pointsman:replica:{address}"
    """JSON of one replica's registration, with a time-to-live."""
    POLICIES = "pointsman:policies"
    """Hash of the policies that the admin API has set: tenant -> JSON of its version and document."""
    POLICIES_REVISION = "pointsman:revision"
    """A word that changes with each change of `POLICIES`; missing where Redis was emptied."""
    DECISIONS = "pointsman:decisions"
    """Stream of batches of decisions on their way from the routers to the database."""
    THINKING = "pointsman:thinking:{day}"
    """Hash of the thinking tokens of one UTC day (YYYY-MM-DD): tenant -> tokens."""
    EPOCH = "pointsman:epoch"
    """A random word, written by whichever replica finds none: another one tells that Redis was emptied."""


class Env:
    """Environment variables, between the processes of one instance and from the user to a command."""

    REPLICA_SECRET = "POINTSMAN_REPLICA_SECRET"
    URL = "POINTSMAN_URL"
    """Where commands find the router, unless `--url` says so."""
    API_KEY = "POINTSMAN_API_KEY"
    """The key that `pointsman chat` sends, unless `--key` says so."""
    ADMIN_KEY = "POINTSMAN_ADMIN_KEY"
    """The key that commands send which change the platform, unless `--key` says so."""


class StateFile:
    """Names inside an instance's state folder."""

    ADMIN_KEY = "admin.key"
    DEMO_KEY = "demo.key"
    CONFIG = "config.yaml"
    """The configuration this instance runs, after `up` added the demo tenant's key digest."""
    ADMIN_SOCKET = "admin.sock"
    METRICS = "metrics"
    DATABASE = "pointsman.db"
    """SQLite: policies and decisions, where no other database is named."""
    LAST_KNOWN = "replicas.json"
    """The replicas that the router knew last, for one that starts while Redis is away."""
    KNOWN_POLICIES = "policies.json"
    """The policies that the router knew last, for one that starts while Redis is away or empty."""
    LOGS = "logs"
