"""From a request to the scripts that answer it: who thinks, how long, and whether the prompt fits.

Stands between the checked request and the engine that spends time on it. Pure: no socket, no clock.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from pointsman.contracts.modes import Mode
from pointsman.serving.simulated.calling import calls_for, written
from pointsman.serving.simulated.requests import ChatRequest, CompletionRequest, RefusedRequest
from pointsman.serving.simulated.script import Call, Script, Wish, pick, write
from pointsman.serving.simulated.settings import Identity, Settings


@dataclass(frozen=True, slots=True)
class Plan:
    """
    Everything about one request's answer but the time it takes.

    `prompts`: the tokens of each; `salt`: what keeps its prefixes apart from others'; `scripts`: one for each
    choice, by index; `echo`: the text that stands before each choice; `top`: alternatives shown with each
    log-probability, or None for none at all; `tools`: whether tools are offered, which changes the form of chunks.
    """

    id: str
    model: str
    prompts: tuple[list[str], ...]
    salt: str
    scripts: tuple[Script, ...]
    thinks: bool
    echo: tuple[str, ...]
    tools: bool
    top: int | None
    stream: bool
    include_usage: bool
    continuous_usage: bool

    @property
    def prompt_tokens(self) -> int:
        """Tokens of all prompts together."""
        return sum(len(prompt) for prompt in self.prompts)

    @property
    def length(self) -> int:
        """Tokens of the longest choice: the steps that the engine takes."""
        return max(script.completion_tokens for script in self.scripts)


def plan_chat(request: ChatRequest, identity: Identity, settings: Settings) -> Plan:
    """The answer to a chat. Raises RefusedRequest where SGLang would refuse."""
    request.check(identity.context)
    thinks = Mode.THINK in identity.modes and (Mode.NO_THINK not in identity.modes or request.wants_thinking)
    calls = calls_for(request)
    return _plan(request, [request.prompt()], identity, settings, thinks=thinks, echo=False, calls=calls)


def plan_completion(request: CompletionRequest, identity: Identity, settings: Settings) -> Plan:
    """The continuation of one or several prompts; there is no template, hence no thinking."""
    request.check(identity.context)
    return _plan(request, request.prompts(), identity, settings, thinks=False, echo=request.echo)


def _plan(
    request: ChatRequest | CompletionRequest,
    prompts: list[list[str]],
    identity: Identity,
    settings: Settings,
    *,
    thinks: bool,
    echo: bool,
    calls: tuple[Call, ...] = (),
) -> Plan:
    scripts = []
    schema = request.schema_of_answer
    value = None if schema is None or calls else written(schema, "response_format")
    for prompt in prompts:
        limit = _limit(request.limit, len(prompt), identity.context)
        source = "".join(prompt) if request.seed is None else f"{request.seed}\0{''.join(prompt)}"
        for index in range(request.n):
            wish = Wish(
                source=source,
                prompt_tokens=len(prompt),
                index=index,
                limit=limit,
                answer=pick(source, settings.answer_tokens),
                thinking=pick(source, settings.thinking_tokens) if thinks else None,
                thinking_budget=request.thinking_budget,
                stop=request.stops,
                endless=request.ignore_eos,
                json_object=request.json_object,
                value=value,
                calls=calls,
            )
            scripts.append(write(wish))
    options = request.stream_options
    return Plan(
        id=request.rid if isinstance(request.rid, str) else uuid.uuid4().hex,
        model=request.model,
        prompts=tuple(prompts),
        salt=request.salt,
        scripts=tuple(scripts),
        thinks=thinks,
        echo=tuple("".join(prompt) if echo else "" for prompt in prompts for _ in range(request.n)),
        tools=isinstance(request, ChatRequest) and bool(request.tools) and request.tool_choice != "none",
        top=request.top,
        stream=request.stream,
        include_usage=bool(options and options.include_usage),
        continuous_usage=bool(options and options.continuous_usage_stats),
    )


def _limit(asked: int | None, prompt: int, context: int) -> int:
    """Tokens that may be said. Raises RefusedRequest where the prompt, or prompt and wish together, do not fit."""
    if prompt >= context:
        raise RefusedRequest(
            f"The input ({prompt} tokens) is longer than the model's context length ({context} tokens)."
        )
    if asked is None:
        return context - prompt - 1
    if prompt + asked > context:
        raise RefusedRequest(
            f"Requested token count exceeds the model's maximum context length of {context} tokens. "
            f"You requested a total of {prompt + asked} tokens: {prompt} tokens from the input messages and "
            f"{asked} tokens for the completion. Please reduce the number of tokens in the input messages or "
            f"the completion to fit within the limit."
        )
    return asked
