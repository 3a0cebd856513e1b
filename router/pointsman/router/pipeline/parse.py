"""What is asked: check the body field by field, find the model, and take out what later steps look at.

Stands after `authenticate`, since what a tenant may ask for depends on who it is. Pure: touches no socket.
"""

from __future__ import annotations

from zlib import crc32

from pointsman.contracts.errors import ModelNotFound
from pointsman.contracts.modes import Mode
from pointsman.router.exchange import Endpoint, Exchange
from pointsman.router.pipeline.conversation import conversation_key
from pointsman.router.pipeline.outcome import Outcome
from pointsman.router.predictor import question_of
from pointsman.router.wire import openai_request, wishes

_ALIASES = {mode.value: mode for mode in Mode}


class Parse:
    """Fills `payload` to `question`."""

    name = "parse"

    def __call__(self, exchange: Exchange) -> Outcome:
        assert exchange.tenant is not None
        face = exchange.face
        name = openai_request.read(exchange) if face is None else face.read(exchange)
        alias = ""
        if ":" in name:
            name, _, alias = name.partition(":")
        model = exchange.tenant.models.get(name)
        scope = exchange.scope
        if (
            model is None
            or (alias and alias not in _ALIASES)
            or (scope is not None and not scope.allows_model(name))
        ):
            raise ModelNotFound("The model does not exist, or this key may not use it.", param="model")
        exchange.model = model
        ruling = exchange.ruling = exchange.tenant.policy
        arm = ruling.present
        if ruling.limit:
            arm = ruling.arm_of(conversation_key(exchange, crc32(exchange.tenant.cache_salt.encode())))
        exchange.arm = arm
        exchange.policy = arm.policy
        wishes.read(exchange, _ALIASES.get(alias))
        exchange.question = _question(exchange)
        if face is not None:
            face.understood(exchange)
        return Outcome.NEXT


def _question(exchange: Exchange) -> str | None:
    if exchange.engine_endpoint is Endpoint.CHAT:
        return question_of(exchange.payload["messages"])
    prompt: str | list[str] = exchange.payload["prompt"]
    return prompt if isinstance(prompt, str) else str(prompt[0])
