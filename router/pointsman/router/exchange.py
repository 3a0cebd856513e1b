"""One request on its way through the pipeline: what each step read, decided and measured.

Stands between the protocol, which makes it, and the steps, each of which fills its own part. Holds data only;
what happens next is the pipeline's business, how bytes reach the client the protocol's.
"""

from __future__ import annotations

from enum import StrEnum
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from pointsman.contracts.config import Pool
from pointsman.contracts.errors import ApiError
from pointsman.contracts.ledger import Part
from pointsman.contracts.modes import ClientSignal, Mode, ModeDecision
from pointsman.contracts.policies import Policy, Trigger
from pointsman.contracts.pricing import Cost, Usage

if TYPE_CHECKING:
    from pointsman.router.fleet import Replica
    from pointsman.router.fleet.output_length import OutputLength
    from pointsman.router.key_scope import Scope
    from pointsman.router.pipeline.course import Course
    from pointsman.router.policies import Arm, TenantPolicy
    from pointsman.router.predictor import Predictor
    from pointsman.router.snapshot import ModelView, TenantView
    from pointsman.router.wire.tools import Toolbox

Headers = dict[bytes, bytes]
"""Header names in lower case, with their values; repeated headers are joined by a comma."""


class Endpoint(StrEnum):
    """
    The hot paths, by their path at the client's side. `engine`: which of the first two the engine is asked as;
    `engine_path`: where.
    """

    engine: Endpoint
    engine_path: str

    CHAT = "/v1/chat/completions"
    COMPLETIONS = "/v1/completions"
    MESSAGES = "/v1/messages"
    """Anthropic's format."""
    COUNT_TOKENS = "/v1/messages/count_tokens"
    """How long a prompt in Anthropic's format is; nothing is answered."""
    RESPONSES = "/v1/responses"
    """OpenAI's newer format, of which nothing is kept between requests."""


for _endpoint in Endpoint:
    # Asked for every request: an attribute is found faster than an entry under the member of an Enum.
    _endpoint.engine = Endpoint.COMPLETIONS if _endpoint is Endpoint.COMPLETIONS else Endpoint.CHAT
    _endpoint.engine_path = "/tokenize" if _endpoint is Endpoint.COUNT_TOKENS else _endpoint.engine.value


class Client(Protocol):
    """How an answer reaches the client; the HTTP/1.1 protocol implements it. `peer`: the address it calls from."""

    peer: str

    def respond(self, status: int, headers: bytes, body: bytes) -> None:
        """Send a whole answer and be done with the request."""

    def start_stream(self, headers: bytes, status: int = 200, first: bytes = b"") -> None:
        """Send the head of an answer of unknown length, and its `first` piece in the same write."""

    def send(self, data: bytes) -> None:
        """Send a piece of a started stream."""

    def send_chunks(self, chunks: bytes) -> None:
        """Send pieces of a started stream that are framed already: whole HTTP/1.1 chunks, one after another."""

    def end_stream(self, data: bytes) -> None:
        """Send the last piece of a started stream, possibly empty, and be done with the request."""


class Face(Protocol):
    """
    How the client of an exchange is read and answered that speaks neither of the engines' two formats.

    The steps see a chat: what the face has read is one, and what they send to the exchange's client, which the face
    stands in front of, is the answer to one (`wire/face.py`).
    """

    def read(self, exchange: Exchange) -> str:
        """Fill the request part as if a chat had been asked for; returns the model's name as the client gave it."""

    def understood(self, exchange: Exchange) -> None:
        """The request is read, and its model known: call fields as the client does, wherever they are kept."""

    def finish(self, exchange: Exchange) -> None:
        """Write the end of the answer, or the error that came instead, and be done with the request."""


class Work(Protocol):
    """What currently runs on behalf of an exchange and must be stopped when its client goes away."""

    def abort(self) -> None:
        """Stop; nothing is reported back."""

    def pause(self) -> None:
        """The client reads more slowly than the engine writes: stop reading from the engine."""

    def resume(self) -> None:
        """The client has caught up."""


class Admission(Protocol):
    """What was set aside for a request when it was admitted. `reserved`: nano-dollars that it costs at most."""

    reserved: int

    def settle(self, usage: Usage | None, nano: int) -> None:
        """The request has ended, with `usage` (None: nothing was used) at `nano` nano-dollars. Called once."""


class CacheStatus(StrEnum):
    """What the response cache had to do with an answer."""

    HIT = "hit"
    """It was given from the cache."""
    MISS = "miss"
    """It might have been in the cache, and was not."""
    BYPASS = "bypass"
    """The cache was left out of it: the client asked so, or Redis is away."""


class Recalled(NamedTuple):
    """
    What is told and billed of an answer that was made for another request: a hit of the response cache, or what a
    request with the same idempotency key got before (`replayed`).
    """

    parts: tuple[Part, ...]
    """The work on it, at the prices that held then; each cost is the share of it that this request is billed."""
    saved: int
    """Nano-dollars that the work cost beyond what is billed for it now."""
    replayed: bool


class Flight(Protocol):
    """Work on an answer that others may wait for."""

    def outlives(self, exchange: Exchange) -> bool:
        """The client of `exchange`, which leads the flight, has gone: whether the work goes on without it."""

    def leave(self, exchange: Exchange) -> None:
        """`exchange`, which leads the flight, will get another answer than the one that others wait for."""

    def pace(self) -> None:
        """Hold the work back, or let it go on, as the clients can take it that wait for it."""

    def ended(self, exchange: Exchange) -> None:
        """`exchange`, which leads the flight, has ended, however it did. Called once."""


class Answer:
    """A whole answer, ready but for the headers that later steps add. `headers` are lines as they are sent."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, headers: bytes, body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body


class Leg(NamedTuple):
    """An earlier part of the work on a request, billed beside the last: thrown away, or closed and gone on from."""

    pool: Pool
    mode: Mode
    usage: Usage


NO_POLICY = Policy()
"""What holds until a request's own policy is known."""


class Exchange:
    """One request and its answer. Times are `perf_counter` seconds."""

    __slots__ = (
        "abandoned",
        "admission",
        "allowance",
        "answer",
        "arm",
        "at",
        "attempts",
        "body",
        "cache",
        "clamped",
        "client",
        "conversation",
        "cost",
        "course",
        "decision",
        "effort",
        "endpoint",
        "engine_endpoint",
        "error",
        "escalated",
        "face",
        "first_byte_at",
        "flight",
        "floored",
        "headers",
        "include_cost",
        "include_usage",
        "intended",
        "judgement",
        "key",
        "legs",
        "max_tokens",
        "model",
        "needs",
        "output_length",
        "parts",
        "paused",
        "payload",
        "place_deadline",
        "policy",
        "pool",
        "position",
        "predicted_tokens",
        "predictor",
        "question",
        "recalled",
        "replica",
        "request_id",
        "rid",
        "ruling",
        "scope",
        "signals",
        "started_at",
        "stopped",
        "stream",
        "stream_started",
        "tenant",
        "thinking_budget",
        "toolbox",
        "usage",
        "usage_chunk",
        "work",
    )

    def __init__(self, client: Client, endpoint: Endpoint, headers: Headers, body: bytes) -> None:
        # the protocol's part
        self.client = client
        self.endpoint = endpoint
        self.engine_endpoint = endpoint.engine
        self.face: Face | None = None
        self.headers = headers
        self.body = body
        self.started_at = perf_counter()
        self.position = 0
        self.abandoned = False
        self.paused = False
        # authenticate
        self.request_id = ""
        self.rid = ""
        self.tenant: TenantView | None = None
        self.key = b""
        self.scope: Scope | None = None
        # parse
        self.payload: dict[str, Any] = {}
        self.model: ModelView | None = None
        self.stream = False
        self.include_usage = False
        self.include_cost = False
        self.max_tokens: int | None = None
        self.effort: str | None = None
        self.thinking_budget: int | None = None
        self.needs: dict[str, str] = {}
        self.toolbox: Toolbox | None = None
        self.signals: tuple[ClientSignal, ...] = ()
        self.question: str | None = None
        self.ruling: TenantPolicy | None = None
        self.arm: Arm | None = None
        self.policy: Policy = NO_POLICY
        # decide
        self.predictor: Predictor | None = None
        self.decision: ModeDecision | None = None
        self.conversation = 0  # its key, where the policy wants to know which track it is on
        # admit
        self.admission: Admission | None = None
        self.at = 0  # milliseconds since 1970, once the ledger was asked
        self.intended = False
        # recall
        self.cache: CacheStatus | None = None
        self.recalled: Recalled | None = None
        self.flight: Flight | None = None
        # place
        self.pool: Pool | None = None
        self.replica: Replica | None = None
        self.predicted_tokens = 0
        self.output_length: OutputLength | None = None
        self.place_deadline = 0.0
        # relay
        self.attempts = 0
        self.work: Work | None = None
        self.stream_started = False
        self.first_byte_at = 0.0
        self.usage: Usage | None = None
        self.answer: Answer | None = None
        self.usage_chunk: dict[str, Any] | None = None
        self.legs: tuple[Leg, ...] = ()
        self.escalated: Trigger | None = None
        self.floored = False
        self.stopped = ""
        self.judgement: Mode | None = None
        self.clamped: dict[str, int] | None = None
        self.allowance: int | None = None
        self.course: Course | None = None
        # settle
        self.cost: Cost | None = None
        self.parts: tuple[Part, ...] = ()
        self.error: ApiError | None = None

    def pause(self) -> None:
        """The client reads more slowly than it is written to."""
        self.paused = True
        self.pace()

    def resume(self) -> None:
        """The client has caught up."""
        self.paused = False
        self.pace()

    def pace(self) -> None:
        """Let the work go as fast as the client reads it, or as those read that wait for it."""
        if self.flight is not None:
            self.flight.pace()
        elif self.work is not None:
            (self.work.pause if self.paused else self.work.resume)()

    @property
    def told_usage(self) -> Usage | None:
        """The tokens of all parts of the work together: what the client is told, and what the bill adds up to."""
        usage = self.usage
        if not self.legs:
            return usage
        used = [leg.usage for leg in self.legs]
        if usage is not None:
            used.append(usage)
        return Usage(
            sum(part.input for part in used),
            sum(part.cached_input for part in used),
            sum(part.reasoning for part in used),
            sum(part.answer for part in used),
            any(part.estimated for part in used),
        )

    @property
    def mode(self) -> Mode:
        """The decided mode; only after `decide`."""
        assert self.decision is not None
        return self.decision.mode
