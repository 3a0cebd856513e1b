"""The hot paths in the OpenAPI page: described here, answered by the data plane.

Generated from the same field table that the data plane checks requests with, so that the page can't promise a
field that would be refused.
"""

from __future__ import annotations

from typing import Any

from pointsman.contracts.modes import Source
from pointsman.contracts.names import Header
from pointsman.router.exchange import Endpoint
from pointsman.router.wire import formats

_REQUEST_HEADERS = (
    (Header.MODE, "The mode: think, no_think or auto."),
    (Header.THINKING_BUDGET, "Thinking tokens at most; a lower ceiling of the policy or the pool holds before it."),
    (Header.ESCALATION, "off, on or buffered: whether a bad answer may be asked for once more with thinking."),
    (Header.REQUEST_ID, "An id of the client's own, echoed; letters, digits and ._:- only."),
    (Header.INCLUDE_COST, "true: the last usage chunk of a stream tells what it cost."),
)

_RESPONSE_HEADERS = (
    (Header.MODE, "The mode the request was answered in."),
    (Header.MODE_SOURCE, "Who determined it: " + ", ".join(Source) + "."),
    (Header.OVERRULED, "client: the client had asked for the other mode."),
    (Header.THINK_PROBABILITY, "The predictor's probability that the query needs thinking."),
    (Header.THRESHOLD, "What that probability was compared with: at and above it the query thinks."),
    (Header.POOL, "The pool that answered."),
    (Header.DECISION_ID, "The decision: ask for it at /v1/decisions/{id}."),
    (Header.THINKING_BUDGET, "In mode think: the thinking tokens at most."),
    (Header.CLAMPED, "What was asked for beyond a ceiling, with what it got."),
    (Header.ANSWER_FLOOR, "true: thinking was closed so that an answer still fitted."),
    (Header.ESCALATED, "Why the answer was asked for once more with thinking."),
    (Header.STOPPED, "repetition: the output repeated itself and was stopped."),
    (Header.JUDGEMENT, "The mode that the model itself judged right."),
    (Header.COST_USD, "What the answer cost, in US dollars; not on streams."),
    (Header.REQUEST_ID, "The request's id."),
)

_SUMMARY = {
    Endpoint.CHAT: "Answer a conversation (OpenAI chat completions)",
    Endpoint.COMPLETIONS: "Continue a text (OpenAI completions)",
    Endpoint.MESSAGES: "Answer a conversation (Anthropic Messages)",
    Endpoint.COUNT_TOKENS: "Count a conversation's tokens (Anthropic Messages)",
    Endpoint.RESPONSES: "Answer a conversation (OpenAI Responses, nothing is stored)",
}

_REQUIRED = {
    Endpoint.CHAT: ["model", "messages"],
    Endpoint.COMPLETIONS: ["model", "prompt"],
    Endpoint.MESSAGES: ["model", "messages", "max_tokens"],
    Endpoint.COUNT_TOKENS: ["model", "messages"],
    Endpoint.RESPONSES: ["model", "input"],
}


def data_plane_paths() -> dict[str, Any]:
    """The `paths` of an OpenAPI 3.1 document for the endpoints of the data plane."""
    return {endpoint.value: {"post": _operation(endpoint)} for endpoint in Endpoint}


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    fields: dict[str, Any] = {name: {} for name in formats.FIELDS[endpoint]}
    schema = {
        "type": "object",
        "required": _REQUIRED[endpoint],
        "properties": fields,
        "additionalProperties": False,
    }
    return {
        "tags": ["queries"],
        "summary": _SUMMARY[endpoint],
        "parameters": [
            {"name": name, "in": "header", "description": text, "schema": {"type": "string"}}
            for name, text in _REQUEST_HEADERS
        ],
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
        "responses": {
            "200": {
                "description": "The answer, or with `stream` its events.",
                "headers": {
                    name: {"description": text, "schema": {"type": "string"}} for name, text in _RESPONSE_HEADERS
                },
                "content": {"application/json": {}, "text/event-stream": {}},
            },
            "default": {
                "description": "An error in the form of the path's format.",
                "content": {"application/json": {}},
            },
        },
    }
