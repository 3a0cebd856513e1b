"""The requests the engine takes, with SGLang's field names, types and defaults, and what it refuses.

Stands at the edge: nothing behind it sees unchecked input. Fields that SGLang knows and a simulation has no use
for are accepted and ignored, as SGLang ignores what it does not know. Messages of refusals name fields, never
what the client wrote in them.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, Field, ValidationError, field_validator

from pointsman.serving.simulated import tokens

Request = TypeVar("Request", bound=BaseModel)


class RefusedRequest(Exception):
    """The request is refused: `status`, and `type` as SGLang calls it. The message may be shown to anybody."""

    def __init__(self, message: str, *, status: int = 400, type: str = "BadRequestError") -> None:
        super().__init__(message)
        self.status = status
        self.type = type

    def body(self) -> dict[str, object]:
        """SGLang's error body."""
        return {
            "object": "error",
            "message": str(self),
            "type": self.type,
            "param": None,
            "code": self.status,
        }


class StreamOptions(BaseModel):
    include_usage: bool | None = False
    continuous_usage_stats: bool | None = False


class JsonSchema(BaseModel):
    name: str
    schema_: dict[str, Any] | None = Field(alias="schema", default=None)


class ResponseFormat(BaseModel):
    type: Literal["text", "json_object", "json_schema", "structural_tag"]
    json_schema: JsonSchema | None = None


class Function(BaseModel):
    name: str
    parameters: dict[str, Any] | None = None


class Tool(BaseModel):
    type: Literal["function"]
    function: Function


class ToolChoiceName(BaseModel):
    name: str


class ToolChoice(BaseModel):
    type: Literal["function"] = "function"
    function: ToolChoiceName


class TextPart(BaseModel):
    type: Literal["text"]
    text: str


class ThinkingPart(BaseModel):
    type: Literal["thinking", "reasoning"]
    thinking: str | None = None
    text: str | None = None


class MediaPart(BaseModel):
    type: Literal["image_url", "video_url", "audio_url", "input_audio"]


Part = TextPart | ThinkingPart | MediaPart


class UserMessage(BaseModel):
    role: Literal["user"]
    content: str | list[Part]


class OtherMessage(BaseModel):
    role: Literal["system", "assistant", "tool", "function", "developer", "latest_reminder", "root"]
    content: str | list[Part] | None = None

    @field_validator("role", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value


class Sampling(BaseModel):
    """What both kinds of request share."""

    model: str = "default"
    n: Annotated[int, Field(ge=1, le=128)] = 1
    stop: str | list[str] | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    seed: int | None = None
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    response_format: ResponseFormat | None = None
    ignore_eos: bool = False
    custom_params: dict[str, Any] | None = None
    cache_salt: str | list[str] | None = None
    rid: str | list[str] | None = None
    temperature: float | None = None
    top_p: float | None = None

    @property
    def salt(self) -> str:
        """What keeps this request's prefixes apart from others'."""
        return "\0".join([self.cache_salt] if isinstance(self.cache_salt, str) else self.cache_salt or [])

    @property
    def stops(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def thinking_budget(self) -> int | None:
        budget = (self.custom_params or {}).get("thinking_budget")
        return budget if isinstance(budget, int) and not isinstance(budget, bool) else None

    @property
    def json_object(self) -> bool:
        return self.response_format is not None and self.response_format.type == "json_object"

    @property
    def schema_of_answer(self) -> dict[str, Any] | None:
        """The JSON schema that the answer is held to, if any."""
        form = self.response_format
        if form is None or form.type != "json_schema" or form.json_schema is None:
            return None
        return form.json_schema.schema_

    def check_sampling(self, max_new_tokens: int | None) -> None:
        """Raise RefusedRequest where SGLang's own check of the sampling parameters would."""
        temperature, top_p = self.temperature, self.top_p
        if temperature is not None and (not math.isfinite(temperature) or temperature < 0):
            raise RefusedRequest(f"temperature must be a non-negative finite number, got {temperature}.")
        if top_p is not None and not 0.0 < top_p <= 1.0:
            raise RefusedRequest(f"top_p must be in (0, 1], got {top_p}.")
        for name in ("frequency_penalty", "presence_penalty"):
            value = getattr(self, name)
            if not -2.0 <= value <= 2.0:
                raise RefusedRequest(f"{name} must be in [-2, 2], got {value}.")
        if max_new_tokens is not None and max_new_tokens < 0:
            raise RefusedRequest(f"max_new_tokens must be at least 0, got {max_new_tokens}.")
        form = self.response_format
        if form is None:
            return
        if form.type == "structural_tag":
            raise RefusedRequest(
                "response_format of type structural_tag is more than a simulated engine can follow."
            )
        if form.type == "json_schema" and self.schema_of_answer is None:
            raise RefusedRequest("schema_ is required for json_schema response format request.")


class ChatRequest(Sampling):
    """`POST /v1/chat/completions`."""

    messages: list[UserMessage | OtherMessage]
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    logprobs: bool = False
    top_logprobs: Annotated[int, Field(ge=0)] | None = None
    tools: list[Tool] | None = None
    tool_choice: ToolChoice | Literal["auto", "required", "none"] | None = "auto"
    parallel_tool_calls: bool | None = True
    chat_template_kwargs: dict[str, Any] | None = None
    reasoning_effort: str | float | None = None

    @property
    def limit(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens

    @property
    def top(self) -> int | None:
        """Alternatives to show for each token, or None where no log-probabilities are wanted."""
        return (self.top_logprobs or 0) if self.logprobs else None

    @property
    def wants_thinking(self) -> bool:
        """What a template that can do both would be told; thinking unasked, as Qwen3's."""
        told = self.chat_template_kwargs or {}
        for name in ("enable_thinking", "thinking"):
            if name in told:
                return bool(told[name])
        return self.reasoning_effort != "none"

    def check(self, context: int) -> None:
        """Raise RefusedRequest where SGLang would, the length of the prompt apart."""
        if not self.messages:
            raise RefusedRequest("Messages cannot be empty.")
        for message in self.messages:
            for part in message.content if isinstance(message.content, list) else ():
                if isinstance(part, MediaPart):
                    raise RefusedRequest(
                        f"Model only supports text input; received unsupported content type '{part.type}'."
                    )
        self._check_tools()
        if self.limit is not None and self.limit > context:
            raise RefusedRequest(
                f"max_completion_tokens is too large: {self.limit}."
                f"This model supports at most {context} completion tokens."
            )
        self.check_sampling(self.limit)

    def prompt(self) -> list[str]:
        """The tokens of the prompt, the template's marks included."""
        turns = [(message.role, _text_of(message.content)) for message in self.messages]
        if self.tools:
            turns.insert(0, ("system", "".join(tool.model_dump_json() for tool in self.tools)))
        return tokens.chat_prompt(turns)

    def text_of(self, message: UserMessage | OtherMessage) -> str:
        """The text of one of the messages."""
        return _text_of(message.content)

    def _check_tools(self) -> None:
        """Raise RefusedRequest where a call is demanded of a tool that is not there."""
        names = {tool.function.name for tool in self.tools or ()}
        if self.tool_choice == "required" and not names:
            raise RefusedRequest("Tools cannot be empty if tool choice is set to required.")
        if isinstance(self.tool_choice, ToolChoice):
            if not names:
                raise RefusedRequest("Tools cannot be empty if tool choice is set to a specific tool.")
            if self.tool_choice.function.name not in names:
                raise RefusedRequest("The tool of tool_choice was not found in the tools list.")


class CompletionRequest(Sampling):
    """`POST /v1/completions`."""

    prompt: list[int] | list[list[int]] | str | list[str]
    max_tokens: int = 16
    echo: bool = False
    logprobs: Annotated[int, Field(ge=0)] | None = None

    @field_validator("max_tokens")
    @classmethod
    def _positive(cls, value: int) -> int:
        if value <= 0:
            raise ValueError("max_tokens must be positive")
        return value

    @property
    def limit(self) -> int:
        return self.max_tokens

    @property
    def top(self) -> int | None:
        """Alternatives to show for each token, or None where no log-probabilities are wanted."""
        return self.logprobs

    def check(self, context: int) -> None:
        """Raise RefusedRequest where SGLang would, the length of the prompt apart."""
        if not self.prompt or (isinstance(self.prompt, list) and not any(self.prompt)):
            raise RefusedRequest("Prompt cannot be empty")
        self.check_sampling(self.limit)

    def prompts(self) -> list[list[str]]:
        """The tokens of each prompt. A token id has no text but its own digits."""
        if isinstance(self.prompt, str):
            return [tokens.split(self.prompt)]
        if isinstance(self.prompt[0], int):
            return [[str(token) for token in self.prompt]]
        return [
            tokens.split(prompt) if isinstance(prompt, str) else [str(token) for token in prompt]
            for prompt in self.prompt
        ]


def _text_of(content: str | list[Part] | None) -> str:
    if not isinstance(content, list):
        return content or ""
    return "".join(
        part.text if isinstance(part, TextPart) else part.thinking or part.text or ""
        for part in content
        if not isinstance(part, MediaPart)
    )


def parse(kind: type[Request], content_type: str, body: bytes) -> Request:
    """`body` as a request of `kind`. Raises RefusedRequest, naming the fields at fault but not their values."""
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise _invalid(["header.content-type: Unsupported Media Type: Only 'application/json' is allowed"])
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        raise invalid(error) from None


def invalid(error: ValidationError) -> RefusedRequest:
    """The refusal of a body that is not as it should be: each field at fault by its path, and no value."""
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    if faults[0]["type"] == "json_invalid":
        return _invalid(["body: JSON decode error"])
    return _invalid([_fault(fault["loc"], fault["msg"]) for fault in faults])


def _fault(place: tuple[int | str, ...], message: str) -> str:
    return f"{'.'.join(['body', *(str(part) for part in place)])}: {message}"


def _invalid(faults: list[str]) -> RefusedRequest:
    count = "1 validation error" if len(faults) == 1 else f"{len(faults)} validation errors"
    return RefusedRequest(f"{count}: {'; '.join(faults)}", type="Bad Request")
