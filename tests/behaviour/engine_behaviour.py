"""What SGLang does, as the rest of the platform relies on it: the simulated engine has to do the same.

A test module derives a class from `EngineBehaviour` and gives it a fixture `engine`; every test then runs
unchanged against either engine. Where the two differ on purpose, `PECULIAR` says so and nothing else does.
"""

from __future__ import annotations

import json
import uuid
from typing import Any

import httpx
import pytest

from behaviour.engine import CHAT, COMPLETIONS, EngineUnderTest, Stream, eventually
from pointsman.contracts.modes import Mode
from pointsman.contracts.names import Header

PECULIAR = {"system_fingerprint"}
"""Keys that the simulated engine adds to every answer and chunk, so that nobody takes it for a model."""

QUESTION = "What is the capital of France?"
MARKER = "quokka-4711"
"""Stands in prompts that are refused: no message of an error may repeat it."""

CHAT_KEYS = {"id", "object", "created", "model", "choices", "usage", "metadata"}
CHOICE_KEYS = {"index", "message", "logprobs", "finish_reason", "matched_stop"}
MESSAGE_KEYS = {"role", "content", "reasoning_content"}
CHUNK_KEYS = {"id", "object", "created", "model", "choices"}
CHUNK_CHOICE_KEYS = {"index", "delta", "logprobs", "finish_reason", "matched_stop"}
TEXT_CHOICE_KEYS = {"index", "text", "logprobs", "finish_reason", "matched_stop"}
USAGE_KEYS = {
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "reasoning_tokens",
    "prompt_tokens_details",
    "completion_tokens_details",
}
ERROR_KEYS = {"object", "message", "type", "param", "code"}
METRICS = {
    "sglang:num_running_reqs",
    "sglang:num_queue_reqs",
    "sglang:num_used_tokens",
    "sglang:prompt_tokens_total",
    "sglang:cached_tokens_total",
    "sglang:generation_tokens_total",
    "sglang:num_requests_total",
    "sglang:time_to_first_token_seconds_count",
    "sglang:inter_token_latency_seconds_count",
    "sglang:e2e_request_latency_seconds_count",
}


ARGUMENTS = {
    "type": "object",
    "properties": {"unit": {"type": "string", "enum": ["c"]}},
    "required": ["unit"],
    "additionalProperties": False,
}
WEATHER = {
    "type": "function",
    "function": {"name": "weather", "description": "The weather now.", "strict": True, "parameters": ARGUMENTS},
}
TOOL_QUESTION = "How is it outside?"
SHORT_THOUGHT = {"thinking_budget": 8}
DEMANDED: dict[str, Any] = {"tools": [WEATHER], "tool_choice": "required", "custom_params": SHORT_THOUGHT}
LONG = 120
"""Tokens that are enough for a short thought and a call."""


def chat(**fields: Any) -> tuple[str, dict[str, Any]]:
    return CHAT, {"model": "any", "messages": [{"role": "user", "content": MARKER}], "max_tokens": 4, **fields}


def completion(**fields: Any) -> tuple[str, dict[str, Any]]:
    return COMPLETIONS, {"model": "any", "prompt": MARKER, "max_tokens": 4, **fields}


def without(name: str, call: tuple[str, dict[str, Any]]) -> tuple[str, dict[str, Any]]:
    path, body = call
    return path, {key: value for key, value in body.items() if key != name}


REFUSED = {
    # what is wrong: (the call, the error's type, a word that the message must have)
    "messages missing": (without("messages", chat()), "Bad Request", "messages"),
    "messages of a wrong type": (chat(messages=MARKER), "Bad Request", "messages"),
    "messages empty": (chat(messages=[]), "BadRequestError", "Messages"),
    "role unknown": (chat(messages=[{"role": "wizard", "content": MARKER}]), "Bad Request", "role"),
    "content of a wrong type": (chat(messages=[{"role": "user", "content": 7}]), "Bad Request", "content"),
    "max_tokens of a wrong type": (chat(max_tokens="many"), "Bad Request", "max_tokens"),
    "max_tokens negative": (chat(max_tokens=-1), "BadRequestError", "max_new_tokens"),
    "max_tokens above the context": (chat(max_tokens=10_000_000), "BadRequestError", "max_completion_tokens"),
    "temperature negative": (chat(temperature=-1), "BadRequestError", "temperature"),
    "top_p above one": (chat(top_p=1.5), "BadRequestError", "top_p"),
    "penalty too high": (chat(frequency_penalty=3), "BadRequestError", "frequency_penalty"),
    "image for a text model": (
        chat(
            messages=[
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": MARKER},
                        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                    ],
                }
            ]
        ),
        "BadRequestError",
        "image_url",
    ),
    "a call is demanded of no tool": (chat(tool_choice="required"), "BadRequestError", "Tools cannot be empty"),
    "prompt missing": (without("prompt", completion()), "Bad Request", "prompt"),
    "prompt empty": (completion(prompt=""), "BadRequestError", "Prompt"),
    "completion of no tokens": (completion(max_tokens=0), "Bad Request", "max_tokens"),
}


class EngineBehaviour:
    """The tests; `engine` is the fixture that each test module brings."""

    # -- what is open to everybody ------------------------------------------------------------------------------

    def test_health_is_200(self, engine: EngineUnderTest) -> None:
        assert engine.get("/health").status_code == 200

    def test_models_lists_the_one_model(self, engine: EngineUnderTest) -> None:
        listing = engine.get("/v1/models").json()
        assert set(listing) == {"object", "data"}
        assert listing["object"] == "list"
        (card,) = listing["data"]
        assert set(card) == {"id", "object", "created", "owned_by", "root", "parent", "max_model_len"}
        assert (card["id"], card["object"], card["max_model_len"]) == (engine.model, "model", engine.context)

    def test_metrics_have_sglangs_names(self, engine: EngineUnderTest) -> None:
        engine.chat_stream(QUESTION, max_tokens=4)
        assert eventually(lambda: engine.metric_names() >= METRICS, within=5), METRICS - engine.metric_names()

    # -- the secret ---------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
    @pytest.mark.parametrize("headers", [{}, {Header.REPLICA_SECRET: "wrong"}], ids=["no secret", "wrong secret"])
    def test_a_post_without_the_secret_is_403(
        self, engine: EngineUnderTest, path: str, headers: dict[str, str]
    ) -> None:
        before = engine.metric("sglang:num_requests_total")
        body = (chat() if path == CHAT else completion())[1]
        response = engine.client.post(engine.base_url + path, json=body, headers=headers)
        assert_error(response, status=403)
        assert engine.metric("sglang:num_requests_total") == before

    # -- a chat, not streamed -----------------------------------------------------------------------------------

    def test_a_chat_answer_has_sglangs_shape(self, engine: EngineUnderTest) -> None:
        answer = engine.chat(QUESTION, max_tokens=5, rid="f00d" * 8)
        assert set(answer) - PECULIAR == CHAT_KEYS
        assert (answer["id"], answer["object"], answer["model"]) == ("f00d" * 8, "chat.completion", engine.model)
        (choice,) = answer["choices"]
        assert set(choice) == CHOICE_KEYS
        assert set(choice["message"]) == MESSAGE_KEYS
        assert choice["message"]["role"] == "assistant"
        assert choice["logprobs"] is None
        assert (choice["finish_reason"], choice["matched_stop"]) == ("length", None)
        assert_usage(answer["usage"], completion=5)

    def test_the_model_is_whatever_the_request_said(self, engine: EngineUnderTest) -> None:
        assert engine.chat(QUESTION, max_tokens=1, model="somebody-else")["model"] == "somebody-else"

    def test_no_tokens_asked_no_tokens_said(self, engine: EngineUnderTest) -> None:
        answer = engine.chat(QUESTION, max_tokens=0)
        (choice,) = answer["choices"]
        assert (choice["message"]["content"], choice["finish_reason"]) == ("", "length")
        assert answer["usage"]["completion_tokens"] == 0
        assert answer["usage"]["total_tokens"] == answer["usage"]["prompt_tokens"] > 0

    def test_an_empty_stop_string_ends_the_answer_at_once(self, engine: EngineUnderTest) -> None:
        answer = engine.chat(QUESTION, max_tokens=16, stop="")
        (choice,) = answer["choices"]
        assert (choice["message"]["content"], choice["finish_reason"], choice["matched_stop"]) == ("", "stop", "")
        assert_usage(answer["usage"], completion=1)

    def test_several_choices_count_the_prompt_once(self, engine: EngineUnderTest) -> None:
        one, two = engine.chat(QUESTION, max_tokens=4), engine.chat(QUESTION, max_tokens=4, n=2)
        assert [choice["index"] for choice in two["choices"]] == [0, 1]
        assert two["usage"]["prompt_tokens"] == one["usage"]["prompt_tokens"]
        assert_usage(two["usage"], completion=8)

    def test_the_prompt_of_a_chat_can_be_counted_without_an_answer(self, engine: EngineUnderTest) -> None:
        body = engine.chat_body(QUESTION, max_tokens=1)
        told = engine.post("/tokenize", body).raise_for_status().json()
        assert {"tokens", "count", "max_model_len"} <= told.keys()
        assert told["count"] == len(told["tokens"]) == engine.chat(QUESTION, max_tokens=1)["usage"]["prompt_tokens"]
        assert engine.post("/tokenize", {**body, "messages": []}).status_code == 400

    def test_logprobs_cover_every_token(self, engine: EngineUnderTest) -> None:
        (choice,) = engine.chat(QUESTION, max_tokens=4, logprobs=True, top_logprobs=2)["choices"]
        assert set(choice["logprobs"]) == {"content"}
        assert len(choice["logprobs"]["content"]) == 4
        for entry in choice["logprobs"]["content"]:
            assert set(entry) == {"token", "bytes", "logprob", "top_logprobs"}
            assert entry["logprob"] <= 0
            assert [set(other) for other in entry["top_logprobs"]] == [{"token", "bytes", "logprob"}] * 2
            assert entry["top_logprobs"][0]["logprob"] >= entry["top_logprobs"][1]["logprob"]

    def test_a_stop_string_ends_the_answer_and_is_taken_out(self, engine: EngineUnderTest) -> None:
        field = "reasoning_content" if engine.mode is Mode.THINK else "content"
        whole = engine.chat(QUESTION, max_tokens=16)["choices"][0]["message"][field]
        stop = whole.split()[3]
        answer = engine.chat(QUESTION, max_tokens=16, stop=[stop])
        (choice,) = answer["choices"]
        assert choice["message"][field] == whole[: whole.index(stop)]
        assert (choice["finish_reason"], choice["matched_stop"]) == ("stop", stop)
        assert 0 < answer["usage"]["completion_tokens"] <= 16
        assert_usage(answer["usage"])

    def test_equal_prompts_share_their_prefix_within_one_salt(self, engine: EngineUnderTest) -> None:
        text = "The points are set, the signal is clear, and the train may go on to the next station. " * 6
        one, two = uuid.uuid4().hex, uuid.uuid4().hex
        usages = [engine.chat(text, max_tokens=1, cache_salt=salt)["usage"] for salt in (one, one, two)]
        cached = [usage["prompt_tokens_details"]["cached_tokens"] for usage in usages]
        assert cached[0] < cached[1] < usages[1]["prompt_tokens"]
        assert cached[2] == cached[0]

    # -- a chat, streamed ---------------------------------------------------------------------------------------

    def test_a_chat_stream_has_sglangs_shape(self, engine: EngineUnderTest) -> None:
        stream = engine.chat_stream(QUESTION, max_tokens=5, rid="beef" * 8, stream_options={"include_usage": True})
        assert stream.done
        assert {event["id"] for event in stream.events} == {"beef" * 8}
        assert {event["object"] for event in stream.events} == {"chat.completion.chunk"}
        assert {event["model"] for event in stream.events} == {engine.model}
        assert len({event["created"] for event in stream.events}) <= 2
        first, *middle, last = stream.chunks
        for chunk in stream.chunks:
            assert set(chunk) - PECULIAR == CHUNK_KEYS
            (choice,) = chunk["choices"]
            assert set(choice) == CHUNK_CHOICE_KEYS
        assert first["choices"][0]["delta"] == {"role": "assistant", "content": "", "reasoning_content": None}
        for chunk in middle:
            assert chunk["choices"][0]["finish_reason"] is None
            assert_delta(chunk["choices"][0]["delta"])
        assert last["choices"][0]["delta"] == {"reasoning_content": None}
        assert (last["choices"][0]["finish_reason"], last["choices"][0]["matched_stop"]) == ("length", None)
        assert stream.events[-1] is not last
        assert set(stream.events[-1]) - PECULIAR == CHUNK_KEYS | {"usage"}
        assert_usage(stream.usage, completion=5)
        assert len(middle) <= 5, "more chunks than tokens"

    def test_a_stream_says_what_the_whole_answer_says(self, engine: EngineUnderTest) -> None:
        (choice,) = engine.chat(QUESTION, max_tokens=12)["choices"]
        stream = engine.chat_stream(QUESTION, max_tokens=12)
        assert stream.text("content") == choice["message"]["content"]
        assert (stream.text("reasoning_content") or None) == choice["message"]["reasoning_content"]

    def test_usage_comes_only_when_asked_for(self, engine: EngineUnderTest) -> None:
        stream = engine.chat_stream(QUESTION, max_tokens=4)
        assert stream.done
        assert stream.events == stream.chunks
        assert not any("usage" in event for event in stream.events)

    def test_streamed_choices_are_told_apart_by_index(self, engine: EngineUnderTest) -> None:
        stream = engine.chat_stream(QUESTION, max_tokens=4, n=2, stream_options={"include_usage": True})
        for index in (0, 1):
            choices = [chunk["choices"][0] for chunk in stream.chunks if chunk["choices"][0]["index"] == index]
            assert "role" in choices[0]["delta"]
            assert [choice["finish_reason"] for choice in choices if choice["finish_reason"]] == ["length"]
        assert_usage(stream.usage, completion=8)

    def test_leaving_a_stream_stops_the_engines_work(self, engine: EngineUnderTest) -> None:
        running = "sglang:num_running_reqs"
        assert eventually(lambda: engine.metric(running) == 0, within=10)
        body = engine.chat_body("Count from one to one thousand, in words.", max_tokens=1500, ignore_eos=True)
        with engine.open_stream(CHAT, body) as lines:
            assert next(lines).startswith("data: ")
            assert eventually(lambda: engine.metric(running) >= 1, within=10)
        assert eventually(lambda: engine.metric(running) == 0, within=5)

    # -- completions --------------------------------------------------------------------------------------------

    def test_a_completion_has_sglangs_shape(self, engine: EngineUnderTest) -> None:
        answer = engine.completion("The capital of France is", max_tokens=5)
        assert set(answer) - PECULIAR == CHAT_KEYS
        assert answer["object"] == "text_completion"
        (choice,) = answer["choices"]
        assert set(choice) == TEXT_CHOICE_KEYS
        assert (choice["finish_reason"], choice["matched_stop"]) == ("length", None)
        assert_usage(answer["usage"], completion=5)
        assert answer["usage"]["reasoning_tokens"] == 0

    def test_a_completion_stream_has_sglangs_shape(self, engine: EngineUnderTest) -> None:
        prompt = "The capital of France is"
        stream = engine.completion_stream(prompt, max_tokens=5, stream_options={"include_usage": True})
        assert stream.done
        for chunk in stream.chunks:
            assert set(chunk) - PECULIAR == CHUNK_KEYS | {"usage"}
            assert chunk["usage"] is None
            (choice,) = chunk["choices"]
            assert set(choice) == TEXT_CHOICE_KEYS
        assert [chunk["choices"][0]["finish_reason"] for chunk in stream.chunks[:-1]] == [None] * (
            len(stream.chunks) - 1
        )
        assert stream.chunks[-1]["choices"][0]["finish_reason"] == "length"
        assert set(stream.usage) == USAGE_KEYS - {"completion_tokens_details"}
        assert_sums(stream.usage, completion=5)
        text = "".join(chunk["choices"][0]["text"] for chunk in stream.chunks)
        assert text == engine.completion(prompt, max_tokens=5)["choices"][0]["text"]

    def test_echo_puts_the_prompt_first(self, engine: EngineUnderTest) -> None:
        prompt = "The capital of France is"
        plain = engine.completion(prompt, max_tokens=3)["choices"][0]["text"]
        assert engine.completion(prompt, max_tokens=3, echo=True)["choices"][0]["text"] == prompt + plain

    def test_several_prompts_have_a_choice_each(self, engine: EngineUnderTest) -> None:
        answer = engine.completion(["One two three", "Four five six"], max_tokens=3)  # type: ignore[arg-type]
        assert [choice["index"] for choice in answer["choices"]] == [0, 1]
        assert_usage(answer["usage"], completion=6)

    # -- bad input ----------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
    @pytest.mark.parametrize("wrong", REFUSED)
    def test_bad_input_is_400(self, engine: EngineUnderTest, wrong: str, stream: bool) -> None:
        (path, body), type, word = REFUSED[wrong]
        assert_error(engine.post(path, {**body, "stream": stream}), status=400, type=type, word=word)

    @pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
    def test_an_overlong_prompt_is_400(self, engine: EngineUnderTest, stream: bool) -> None:
        body = engine.chat_body("one " * 2 * engine.context, max_tokens=4, stream=stream)
        assert_error(
            engine.post(CHAT, body), status=400, type="BadRequestError", word="longer than the model's context"
        )

    @pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
    def test_prompt_and_wish_above_the_context_are_400(self, engine: EngineUnderTest, stream: bool) -> None:
        body = engine.chat_body(f"{MARKER} " * 8, max_tokens=engine.context, stream=stream)
        assert_error(engine.post(CHAT, body), status=400, type="BadRequestError", word="maximum context length")

    @pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
    def test_malformed_json_is_400(self, engine: EngineUnderTest, path: str) -> None:
        for body in (b'{"model": "any", "prompt": "' + MARKER.encode(), b"", b"nothing of the kind"):
            response = engine.client.post(
                engine.base_url + path,
                content=body,
                headers={**engine.headers, "content-type": "application/json"},
            )
            assert_error(response, status=400, type="Bad Request")

    # -- what the engine counts ---------------------------------------------------------------------------------

    def test_counters_rise_by_what_the_answers_say(self, engine: EngineUnderTest) -> None:
        names = ("sglang:prompt_tokens_total", "sglang:generation_tokens_total", "sglang:num_requests_total")
        before = [engine.metric(name) for name in names]
        whole = engine.chat(QUESTION, max_tokens=6)["usage"]
        streamed = engine.chat_stream(QUESTION, max_tokens=5, stream_options={"include_usage": True}).usage
        expected = [
            whole["prompt_tokens"] + streamed["prompt_tokens"],
            whole["completion_tokens"] + streamed["completion_tokens"],
            2,
        ]

        def risen() -> list[float]:
            return [engine.metric(name) - value for name, value in zip(names, before, strict=True)]

        assert eventually(lambda: risen() == expected, within=5), (risen(), expected)


class ToolBehaviour:
    """A replica whose pool takes tools; beside one of the two below."""

    def test_an_answer_is_held_to_a_schema(self, engine: EngineUnderTest) -> None:
        form = {"type": "json_schema", "json_schema": {"name": "a", "strict": True, "schema": ARGUMENTS}}
        answer = engine.chat(TOOL_QUESTION, max_tokens=LONG, response_format=form, custom_params=SHORT_THOUGHT)
        assert json.loads(answer["choices"][0]["message"]["content"])["unit"] == "c"

    def test_a_demanded_call_has_sglangs_shape(self, engine: EngineUnderTest) -> None:
        answer = engine.chat(TOOL_QUESTION, max_tokens=LONG, **DEMANDED)
        (choice,) = answer["choices"]
        assert set(choice) == CHOICE_KEYS
        assert (choice["finish_reason"], choice["matched_stop"]) == ("tool_calls", None)
        message = choice["message"]
        assert set(message) == MESSAGE_KEYS | {"tool_calls"}
        for index, call in enumerate(message["tool_calls"]):
            assert set(call) == {"id", "index", "type", "function"}
            assert (call["index"], call["type"], call["function"]["name"]) == (index, "function", "weather")
            assert call["id"].startswith("call_")
            assert json.loads(call["function"]["arguments"]) == {"unit": "c"}
        assert_usage(answer["usage"])

    def test_a_streamed_call_has_sglangs_shape(self, engine: EngineUnderTest) -> None:
        stream = engine.chat_stream(
            TOOL_QUESTION, max_tokens=LONG, stream_options={"include_usage": True}, **DEMANDED
        )
        assert stream.done
        first, *middle, last = [chunk["choices"][0] for chunk in stream.chunks]
        assert first["delta"] == {"role": "assistant", "content": "", "reasoning_content": None}
        assert (last["delta"], last["finish_reason"]) == ({"reasoning_content": None}, "tool_calls")
        assert isinstance(last["matched_stop"], int)
        deltas = [choice["delta"] for choice in middle]
        calls = [call for delta in deltas for call in delta.get("tool_calls") or ()]
        for delta in deltas:
            if delta.get("tool_calls") is not None:
                assert set(delta) == {"role", "content", "reasoning_content", "tool_calls"}
                assert [delta[name] for name in ("role", "content", "reasoning_content")] == [None] * 3
        for call in calls:
            assert set(call) == {"id", "index", "type", "function"}
            assert (call["id"] is None) is (call["function"]["name"] is None)
        assert calls[0]["function"] == {"name": "weather", "arguments": ""}
        said = "".join(call["function"]["arguments"] for call in calls if call["index"] == 0)
        assert json.loads(said) == {"unit": "c"}
        assert_usage(stream.usage)

    def test_results_of_calls_are_read(self, engine: EngineUnderTest) -> None:
        call = {"id": "a", "type": "function", "function": {"name": "weather", "arguments": '{"unit": "c"}'}}
        body = engine.chat_body("", max_tokens=LONG, tools=[WEATHER], custom_params=SHORT_THOUGHT)
        prompts = []
        for result in ("18 C", "18 C, with some clouds in the north and rain to come"):
            messages = [
                {"role": "user", "content": TOOL_QUESTION},
                {"role": "assistant", "content": None, "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "a", "content": result},
            ]
            answer = engine.post(CHAT, {**body, "messages": messages}).json()
            (choice,) = answer["choices"]
            assert choice["finish_reason"] in ("stop", "length")
            # What a small model makes of it is its own affair: it may have nothing to add to what it has thought.
            assert isinstance(choice["message"]["content"], str)
            prompts.append(answer["usage"]["prompt_tokens"])
        assert prompts[1] > prompts[0] + 5


class DirectBehaviour(EngineBehaviour):
    """A replica of a pool that does not think."""

    def test_there_is_no_reasoning(self, engine: EngineUnderTest) -> None:
        answer = engine.chat(QUESTION, max_tokens=8)
        assert answer["choices"][0]["message"]["reasoning_content"] is None
        assert answer["choices"][0]["message"]["content"]
        assert answer["usage"]["reasoning_tokens"] == 0
        assert answer["usage"]["completion_tokens_details"] is None

    def test_an_answer_that_ends_by_itself_says_by_which_token(self, engine: EngineUnderTest) -> None:
        answer = engine.chat(QUESTION, max_tokens=200)
        (choice,) = answer["choices"]
        assert choice["finish_reason"] == "stop"
        assert isinstance(choice["matched_stop"], int)
        assert 0 < answer["usage"]["completion_tokens"] < 200
        stream = engine.chat_stream(QUESTION, max_tokens=200, stream_options={"include_usage": True})
        last = stream.chunks[-1]["choices"][0]
        assert (last["finish_reason"], last["matched_stop"]) == ("stop", choice["matched_stop"])
        assert stream.usage["completion_tokens"] == answer["usage"]["completion_tokens"]
        assert stream.text("content") == choice["message"]["content"]

    def test_a_json_object_is_one(self, engine: EngineUnderTest) -> None:
        body = engine.chat_body(
            "Answer with a JSON object.", max_tokens=200, response_format={"type": "json_object"}, stop="}"
        )
        (choice,) = engine.post(CHAT, body).json()["choices"]
        assert choice["message"]["content"].lstrip().startswith("{")


class ThinkingBehaviour(EngineBehaviour):
    """A replica of a pool that thinks first."""

    BUDGET = 12
    CLOSING = 8
    """Tokens that the mark which closes the thinking may cost on top of the budget."""

    def answered(self, engine: EngineUnderTest) -> Stream:
        return engine.chat_stream(
            QUESTION,
            max_tokens=64,
            custom_params={"thinking_budget": self.BUDGET},
            stream_options={"include_usage": True},
        )

    def test_thinking_comes_before_the_answer_and_apart_from_it(self, engine: EngineUnderTest) -> None:
        stream = self.answered(engine)
        deltas = [chunk["choices"][0]["delta"] for chunk in stream.chunks]
        thinking = [place for place, delta in enumerate(deltas) if delta["reasoning_content"]]
        answering = [place for place, delta in enumerate(deltas) if delta.get("content")]
        assert thinking
        assert answering
        assert max(thinking) < min(answering)
        assert "</think>" not in stream.text("reasoning_content")

    def test_the_budget_ends_the_thinking(self, engine: EngineUnderTest) -> None:
        usage = self.answered(engine).usage
        assert 0 < usage["reasoning_tokens"] <= self.BUDGET + self.CLOSING
        assert usage["reasoning_tokens"] < usage["completion_tokens"]
        assert usage["completion_tokens_details"] == {"reasoning_tokens": usage["reasoning_tokens"]}
        assert_usage(usage)

    def test_a_larger_budget_thinks_longer(self, engine: EngineUnderTest) -> None:
        usages = [
            engine.chat(QUESTION, max_tokens=64, custom_params={"thinking_budget": budget})["usage"]
            for budget in (4, 24)
        ]
        assert usages[0]["reasoning_tokens"] < usages[1]["reasoning_tokens"] <= 24 + self.CLOSING

    def test_a_budget_of_nothing_answers_at_once(self, engine: EngineUnderTest) -> None:
        answer = engine.chat(QUESTION, max_tokens=24, custom_params={"thinking_budget": 0})
        assert answer["usage"]["reasoning_tokens"] <= self.CLOSING
        assert answer["choices"][0]["message"]["content"]

    def test_cut_in_the_middle_of_its_thoughts_it_has_no_content(self, engine: EngineUnderTest) -> None:
        answer = engine.chat(QUESTION, max_tokens=6)
        (choice,) = answer["choices"]
        assert choice["message"]["reasoning_content"]
        assert choice["message"]["content"] == ""
        assert choice["finish_reason"] == "length"
        assert answer["usage"]["reasoning_tokens"] == answer["usage"]["completion_tokens"] == 6


def assert_sums(usage: dict[str, Any], *, completion: int | None = None) -> None:
    assert usage["prompt_tokens"] > 0
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert 0 <= usage["reasoning_tokens"] <= usage["completion_tokens"]
    assert 0 <= usage["prompt_tokens_details"]["cached_tokens"] < usage["prompt_tokens"]
    assert set(usage["prompt_tokens_details"]) == {"cached_tokens"}
    if completion is not None:
        assert usage["completion_tokens"] == completion


def assert_usage(usage: dict[str, Any], *, completion: int | None = None) -> None:
    assert set(usage) == USAGE_KEYS
    assert_sums(usage, completion=completion)
    reasoning = usage["reasoning_tokens"]
    assert usage["completion_tokens_details"] == ({"reasoning_tokens": reasoning} if reasoning else None)


def assert_delta(delta: dict[str, Any]) -> None:
    """A delta in mid-stream adds thinking or content, never both."""
    assert set(delta) in ({"reasoning_content"}, {"reasoning_content", "content"})
    assert bool(delta["reasoning_content"]) is ("content" not in delta)


def assert_error(response: httpx.Response, *, status: int, type: str | None = None, word: str = "") -> None:
    """An error in SGLang's form, which keeps what the client wrote to itself."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"].split(";")[0] == "application/json"
    error = response.json()
    assert set(error) == ERROR_KEYS
    assert (error["object"], error["code"], error["param"]) == ("error", status, None)
    if type is not None:
        assert error["type"] == type
    assert word in error["message"]
    assert MARKER not in response.text
