"""The errors a client may see: one tree, each with its HTTP status, its type and the field it is about.

Stands in the contracts because every wire format renders the same tree in its own words. A message may name
fields, limits and model names; it never holds a prompt, an answer or a key.
"""

from __future__ import annotations


class ApiError(Exception):
    """
    A refusal that reaches the client.

    `status`: HTTP status; `type` and `code`: OpenAI's vocabulary; `param`: the field at fault, if there is one;
    `retry_after`: seconds, where trying again may help.
    """

    status = 500
    type = "server_error"
    code: str | None = None

    def __init__(self, message: str, *, param: str | None = None, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after = retry_after


class InvalidRequest(ApiError):
    """The request is not one the wire format allows; nothing was forwarded."""

    status = 400
    type = "invalid_request_error"

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message, param=param)
        self.code = code


class ConflictingModeSignals(InvalidRequest):
    """Two of the client's own wishes for a mode contradict each other."""

    def __init__(self, first: str, first_mode: str, second: str, second_mode: str) -> None:
        super().__init__(
            f"'{first}' asks for {first_mode}, but '{second}' asks for {second_mode}; send one of them.",
            param=second,
            code="conflicting_mode_signals",
        )


class ModeNotOffered(InvalidRequest):
    """The client, or a rule of the tenant's policy, asks for a mode that no pool of the model answers."""

    def __init__(self, asks: str, mode: str, *, by_rule: bool = False) -> None:
        who = f"The rule '{asks}' of your policy" if by_rule else f"'{asks}'"
        super().__init__(
            f"{who} asks for {mode}, a mode in which this model is not served.",
            param="model" if by_rule else asks,
            code="mode_not_offered",
        )


class Unauthenticated(ApiError):
    """No key, or one that this platform does not know."""

    status = 401
    type = "invalid_request_error"
    code = "invalid_api_key"


class InsufficientRole(ApiError):
    """The admin key may not do this."""

    status = 403
    type = "invalid_request_error"
    code = "insufficient_role"


class KeyOutOfScope(ApiError):
    """The key is good, but not for this: it is limited to other paths, modes or networks."""

    status = 403
    type = "invalid_request_error"
    code = "key_out_of_scope"


class ModelNotFound(ApiError):
    """The model is unknown, or not open to this tenant: the two look alike on purpose."""

    status = 404
    type = "invalid_request_error"
    code = "model_not_found"


class TenantNotFound(ApiError):
    """There is no tenant of this name; told to administrators only."""

    status = 404
    type = "invalid_request_error"
    code = "tenant_not_found"


class PoolNotFound(ApiError):
    """There is no pool of this name."""

    status = 404
    type = "invalid_request_error"
    code = "pool_not_found"


class KeyNotFound(ApiError):
    """There is no key with this id; told to administrators only."""

    status = 404
    type = "invalid_request_error"
    code = "key_not_found"


class DecisionNotFound(ApiError):
    """The decision is unknown, another tenant's, or deleted since: they look alike on purpose."""

    status = 404
    type = "invalid_request_error"
    code = "decision_not_found"


class PredictorNotFound(ApiError):
    """There is no predictor of this version."""

    status = 404
    type = "invalid_request_error"
    code = "predictor_not_found"


class PathNotFound(ApiError):
    """No such path."""

    status = 404
    type = "invalid_request_error"
    code = "not_found"


class EntryNotFound(ApiError):
    """The ledger has no such entry, or one that can't be corrected; told to administrators only."""

    status = 404
    type = "invalid_request_error"
    code = "entry_not_found"


class PriceNotFound(ApiError):
    """No pool has this name, or none of its prices this version."""

    status = 404
    type = "invalid_request_error"
    code = "price_not_found"


class MethodNotAllowed(ApiError):
    """The path is known, the method is not."""

    status = 405
    type = "invalid_request_error"
    code = "method_not_allowed"


class RequestTimeout(ApiError):
    """The client took too long to send its request."""

    status = 408
    type = "invalid_request_error"
    code = "request_timeout"


class NoCandidate(ApiError):
    """The tenant's policy has no candidate that could be moved or promoted."""

    status = 409
    type = "invalid_request_error"
    code = "no_candidate"


class IdempotencyKeyInUse(ApiError):
    """The first request with the same idempotency key is still being answered."""

    status = 409
    type = "invalid_request_error"
    code = "idempotency_key_in_use"


class AlreadyExists(ApiError):
    """The name is taken, by one that was deleted too."""

    status = 409
    type = "invalid_request_error"
    code = "already_exists"


class ManagedElsewhere(ApiError):
    """Somebody else looks after this: the configuration file, or another writer that says so."""

    status = 409
    type = "invalid_request_error"
    code = "managed_elsewhere"


class KeyEnded(ApiError):
    """The key was revoked, has expired or was replaced already."""

    status = 409
    type = "invalid_request_error"
    code = "key_ended"


class PredictorInUse(ApiError):
    """A policy names the predictor that is to be deleted."""

    status = 409
    type = "invalid_request_error"
    code = "predictor_in_use"


class GateNotPassed(ApiError):
    """The predictor was not shown to be good enough to hold for anybody."""

    status = 409
    type = "invalid_request_error"
    code = "gate_not_passed"


class PreconditionFailed(ApiError):
    """What is to be changed is not what the caller has seen: somebody else was faster."""

    status = 412
    type = "invalid_request_error"
    code = "precondition_failed"


class BodyTooLarge(ApiError):
    """The body is over the configured limit."""

    status = 413
    type = "invalid_request_error"
    code = "request_too_large"


class IdempotencyKeyReused(ApiError):
    """The idempotency key was used for another request before."""

    status = 422
    type = "invalid_request_error"
    code = "idempotency_key_reused"


class PreconditionRequired(ApiError):
    """A change of what exists already must name what the caller has seen."""

    status = 428
    type = "invalid_request_error"
    code = "precondition_required"


class ExpectationUnknown(ApiError):
    """The client expects something else than `100-continue`."""

    status = 417
    type = "invalid_request_error"
    code = "expectation_unknown"


class ThinkingBudgetSpent(ApiError):
    """The tenant's thinking tokens of the day are spent, and its policy answers nothing that would think."""

    status = 429
    type = "insufficient_quota"
    code = "thinking_budget_spent"


class RateLimitExceeded(ApiError):
    """One of the tenant's limits is reached: `param` says which, by its name in the configuration."""

    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"


class BudgetSpent(ApiError):
    """What is left of the tenant's budget (`param`: `daily` or `monthly`) is less than the request may cost."""

    status = 402
    type = "insufficient_quota"
    code = "budget_spent"


class BudgetSpentForNow(BudgetSpent):
    """The same, where the tenant's policy is to ask for patience instead of money."""

    status = 429


class BudgetReserved(ApiError):
    """What is left of the tenant's budget is set aside for requests that are running."""

    status = 429
    type = "insufficient_quota"
    code = "budget_reserved"


class HeadersTooLarge(ApiError):
    """The request line or the headers are over the configured limit."""

    status = 431
    type = "invalid_request_error"
    code = "headers_too_large"


class InternalError(ApiError):
    """Pointsman itself failed. The message never says with what data."""

    status = 500
    type = "server_error"
    code = "internal_error"


class UpstreamFailed(ApiError):
    """The engine failed, and no other one could answer in its stead."""

    status = 502
    type = "server_error"
    code = "engine_failed"


class EmptyAnswer(ApiError):
    """The model said nothing, or only thought, and no second try was left."""

    status = 502
    type = "server_error"
    code = "empty_answer"


class ToolCallCut(ApiError):
    """A tool call was cut when the output tokens were used up; what there is of it must not be taken for a call."""

    status = 502
    type = "server_error"
    code = "tool_call_cut"


class ToolCallInvalid(ApiError):
    """The model called a tool wrongly, or not at all where it had to, and no second try was left."""

    status = 502
    type = "server_error"
    code = "tool_call_invalid"


class PoolUnavailable(ApiError):
    """No replica of the mode's pool could take the request in time; trying again later may help."""

    status = 503
    type = "server_error"
    code = "pool_unavailable"


class TooManyConnections(ApiError):
    """The data plane holds as many connections as it is allowed to."""

    status = 503
    type = "server_error"
    code = "too_many_connections"


class CacheUnavailable(ApiError):
    """Redis is away; queries go on without recorded answers, which can't be counted or invalidated now."""

    status = 503
    type = "server_error"
    code = "cache_unavailable"


class AdminUnavailable(ApiError):
    """The process that answers everything but queries does not run; queries go on."""

    status = 503
    type = "server_error"
    code = "admin_unavailable"


class SnapshotTooOld(ApiError):
    """Nothing was heard of tenants and keys for so long that those that are known may have been revoked."""

    status = 503
    type = "server_error"
    code = "snapshot_too_old"


class DatabaseUnavailable(ApiError):
    """The database is away or too busy; queries go on, what is kept in it can't be read or changed."""

    status = 503
    type = "server_error"
    code = "database_unavailable"


class LimitsUnavailable(ApiError):
    """Redis is away, and what is left of the tenant's budget can't be known: nothing is spent beyond it."""

    status = 503
    type = "server_error"
    code = "limits_unavailable"


class LedgerFull(ApiError):
    """What a request uses could not be written down, so that none is taken: the database has been away for long."""

    status = 503
    type = "server_error"
    code = "ledger_full"


class UpstreamTimeout(ApiError):
    """The engine did not answer in time."""

    status = 504
    type = "server_error"
    code = "engine_timeout"
