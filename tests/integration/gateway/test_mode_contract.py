"""The mode contract from outside: who decides, what reaches the engine, and what the answer says of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from pointsman.contracts.names import Header
from support.gateway import DEEP, FAST, Gateway, wait_for

EASY, HARD = "What is the capital of France?", "Prove that there are infinitely many primes, step by step."
GERMAN = "Was ist die Hauptstadt von Frankreich?"

TOOLS = {"capabilities": {"tools": True}}
POOLS = (
    {**FAST, **TOOLS},
    {**DEEP, **TOOLS, "max_ongoing_requests": 4, "prices": {**DEEP["prices"], "cached_input": 0.01}},
    {**FAST, "name": "hasty", "model": "hasty"},
    {**DEEP, "name": "ponder", "model": "ponder"},
)
RULES = [
    {"name": "kiosk", "match": {"languages": ["de"], "metadata": {"place": "kiosk"}}, "mode": "no_think"},
    {"name": "finance", "match": {"metadata": {"team": "finance"}}, "mode": "think"},
    {"name": "agents", "match": {"tools": True}, "threshold": 0.0},
    {"name": "texts", "match": {"endpoints": ["/v1/completions"]}, "mode": "no_think"},
    {"name": "wary", "match": {"models": ["ponder"]}, "default_mode": "no_think"},
    {"name": "german", "match": {"languages": ["de"]}, "mode": "think"},
]
TENANTS = (
    {"name": "demo"},
    {"name": "ruled", "policy": {"rules": RULES, "substitute": True}},
    {"name": "firm", "policy": {"rules": RULES, "wish_in_prompt": False}},
    {"name": "torn", "policy": {"abstain": [0.0, 1.0], "default_mode": "no_think"}},
    {"name": "rich", "policy": {"threshold": 1.0, "cost_of_wrong_fast": 1000, "default_mode": "no_think"}},
    {
        "name": "busy",
        "policy": {
            "threshold": 0.0,
            "saturation": {"highest_threshold": 1.0, "from_load": 0.3, "full_load": 0.7},
        },
    },
    {"name": "steady", "policy": {"hysteresis": 0.2}},
    {"name": "strict", "policy": {"daily_thinking_tokens": 1, "on_thinking_budget_spent": "refuse"}},
    {
        "name": "watched",
        "policy": {"threshold": 1.0},
        "candidate": {"policy": {"threshold": 0.0, "show_cost": False}, "stage": "observe"},
    },
    {
        "name": "moved",
        "policy": {"threshold": 1.0},
        "candidate": {"policy": {"threshold": 0.0, "show_cost": False}, "stage": "enforce"},
    },
)


@pytest.fixture(scope="module")
def contract(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with Gateway(tmp_path_factory.mktemp("gw"), pools=POOLS, tenants=TENANTS) as gateway:
        yield gateway


@pytest.fixture
def gateway(contract: Gateway) -> Gateway:
    for engines in contract.engines.values():
        for engine in engines:
            engine.forget()
    return contract


def ask(gateway: Gateway, tenant: str = "demo", question: Any = EASY, **request: Any) -> httpx.Response:
    """The answer to a chat request; `headers` apart, keyword arguments are fields of the body."""
    headers = {"authorization": f"Bearer {gateway.keys[tenant]}", **request.pop("headers", {})}
    body = {
        "model": "smollm2",
        "messages": [{"role": "user", "content": question}],
        "max_tokens": 32,
        **request,
    }
    return httpx.post(f"{gateway.url}/v1/chat/completions", json=body, headers=headers, timeout=30)


def said(answer: httpx.Response) -> tuple[str, str, str | None]:
    """Mode, source, and whether the client was overruled."""
    assert answer.status_code == 200, answer.text
    told = answer.headers
    return told[Header.MODE], told[Header.MODE_SOURCE], told.get(Header.OVERRULED)


@pytest.mark.parametrize(
    ("request_", "mode"),
    [
        ({"headers": {Header.MODE: "think"}}, "think"),
        ({"model": "smollm2:think"}, "think"),
        ({"reasoning_effort": "max"}, "think"),
        ({"reasoning_effort": "minimal"}, "no_think"),
        ({"reasoning": {"effort": "low", "max_tokens": 9}}, "think"),
        ({"reasoning": {"enabled": False}}, "no_think"),
        ({"thinking": {"type": "enabled", "budget_tokens": 9}}, "think"),
        ({"thinking": {"type": "disabled"}}, "no_think"),
        ({"output_config": {"effort": "high"}}, "think"),
        ({"chat_template_kwargs": {"thinking": True}}, "think"),
        ({"question": f"{EASY} /think"}, "think"),
        ({"question": [{"type": "text", "text": f"{EASY}\n/think\n"}]}, "think"),
        ({"question": f"{HARD} /no_think"}, "no_think"),
    ],
    ids=str,
)
def test_every_signal_decides_and_none_reaches_the_engine(
    gateway: Gateway, request_: dict[str, Any], mode: str
) -> None:
    assert said(ask(gateway, **request_)) == (mode, "client", None)
    (record,) = gateway.engines["deep" if mode == "think" else "fast"][0].received()
    body = record["body"]
    assert not {"reasoning", "thinking", "output_config", "reasoning_effort"} & body.keys()
    assert "/think" not in str(body["messages"])
    assert "/no_think" not in str(body["messages"])


def test_the_wish_in_words_may_be_switched_off(gateway: Gateway) -> None:
    assert said(ask(gateway, "firm", f"{EASY} /think"))[1] == "predictor"
    received = [record for name in ("fast", "deep") for record in gateway.engines[name][0].received()]
    assert [record["body"]["messages"][-1]["content"] for record in received] == [f"{EASY} /think"]


def test_contradictions_name_both_even_where_a_rule_decides(gateway: Gateway) -> None:
    for tenant, fields in (("demo", {}), ("ruled", {"metadata": {"team": "finance"}})):
        answer = ask(gateway, tenant, f"{EASY} /think", reasoning={"enabled": False}, **fields)
        assert answer.status_code == 400
        error = answer.json()["error"]
        assert error["code"] == "conflicting_mode_signals"
        assert "'reasoning.enabled'" in error["message"]
        assert "'messages[0].content'" in error["message"]
    assert not [record for engines in gateway.engines.values() for record in engines[0].received()]


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        ({"reasoning_effort": "much"}, "reasoning_effort"),
        ({"reasoning": {"effort": "much"}}, "reasoning.effort"),
        ({"reasoning": {"max_tokens": 0}}, "reasoning.max_tokens"),
        ({"thinking": {"type": "sometimes"}}, "thinking.type"),
        ({"output_config": {"efort": "low"}}, "output_config.efort"),
        ({"headers": {Header.THINKING_BUDGET: "many"}}, Header.THINKING_BUDGET),
        ({"headers": {Header.MODE: "fast"}}, Header.MODE),
    ],
    ids=str,
)
def test_bad_wishes_are_refused_by_their_field(gateway: Gateway, request_: dict[str, Any], field: str) -> None:
    answer = ask(gateway, **request_)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, field)


FUNCTION = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
THINKING, FAST_ONE = {"reasoning_effort": "high"}, {"reasoning_effort": "none"}


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ({"metadata": {"team": "finance"}}, ("think", "policy", None)),
        ({"metadata": {"team": "finance"}, **FAST_ONE}, ("think", "policy", "client")),
        ({"metadata": {"team": "finance"}, **THINKING}, ("think", "policy", None)),
        ({"metadata": {"team": ["finance"]}, **FAST_ONE}, ("no_think", "client", None)),
        ({"metadata": {"place": "kiosk"}, "question": GERMAN, **THINKING}, ("no_think", "policy", "client")),
        ({"metadata": {"place": "kiosk"}, **THINKING}, ("think", "client", None)),
        ({"question": GERMAN}, ("think", "policy", None)),
        ({"tools": [FUNCTION]}, ("think", "predictor", None)),
        ({"model": "hasty", "metadata": {"team": "finance"}}, ("no_think", "policy", None)),
        ({"model": "hasty", **THINKING}, ("no_think", "policy", "client")),
        ({"model": "hasty", "question": HARD}, ("no_think", "default", None)),
    ],
    ids=str,
)
def test_rules_and_substitution(
    gateway: Gateway, request_: dict[str, Any], expected: tuple[str, str, str | None]
) -> None:
    assert said(ask(gateway, "ruled", **request_)) == expected


def test_rules_of_another_endpoint_and_of_a_threshold(gateway: Gateway) -> None:
    answer = httpx.post(
        f"{gateway.url}/v1/completions",
        json={"model": "smollm2", "prompt": HARD, "max_tokens": 4},
        headers={"authorization": f"Bearer {gateway.keys['ruled']}", Header.MODE: "think"},
    )
    assert said(answer) == ("no_think", "policy", "client")
    assert ask(gateway, "ruled", tools=[FUNCTION]).headers[Header.THRESHOLD] == "0"
    assert ask(gateway, "ruled").headers[Header.THRESHOLD] == "0.5"


def test_a_mode_that_the_model_does_not_have(gateway: Gateway) -> None:
    answer = ask(gateway, "demo", model="hasty", **THINKING)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "reasoning_effort")
    answer = ask(gateway, "firm", model="hasty", metadata={"team": "finance"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "model")
    assert "'finance'" in answer.json()["error"]["message"]


def test_an_abstaining_predictor_leaves_it_to_the_default(gateway: Gateway) -> None:
    assert said(ask(gateway, "torn", HARD)) == ("no_think", "default", None)
    assert said(ask(gateway, "torn", " ")) == ("no_think", "default", None)
    assert Header.THINK_PROBABILITY not in ask(gateway, "torn", " ").headers


def test_a_spent_budget_refuses_what_would_think_and_nothing_else(gateway: Gateway) -> None:
    assert said(ask(gateway, "strict", HARD)) == ("think", "predictor", None)
    wait_for(lambda: ask(gateway, "strict", HARD).status_code == 429, "the budget to be spent")
    answer = ask(gateway, "strict", HARD, **THINKING)
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "thinking_budget_spent")
    assert 0 < int(answer.headers["retry-after"]) <= 86_400
    assert said(ask(gateway, "strict", EASY)) == ("no_think", "predictor", None)
    assert said(ask(gateway, "strict", HARD, **FAST_ONE)) == ("no_think", "client", None)


def test_load_raises_the_threshold_and_says_so(gateway: Gateway) -> None:
    calm = ask(gateway, "busy")
    assert said(calm) == ("think", "predictor", None)
    assert calm.headers[Header.THRESHOLD] == "0"
    engine = gateway.engines["deep"][0]
    # Slow, not silent: that a client has left in the middle of a stream is found out by the next event.
    engine.faults({"kind": "slow", "factor": 100, "times": 2})
    with gateway.client() as client:
        body = {"model": "smollm2:think", "messages": [{"role": "user", "content": EASY}], "stream": True}
        with client.stream("POST", "/v1/chat/completions", json=body):
            one = ask(gateway, "busy", **FAST_ONE)
            assert one.headers[Header.THRESHOLD] == "0", "one place of four is below `from_load`"
            with client.stream("POST", "/v1/chat/completions", json=body):
                half = ask(gateway, "busy")
                assert half.headers[Header.THRESHOLD] == "0.5"
                assert said(half) == ("no_think", "saturation", None)
                assert said(ask(gateway, "busy", **THINKING)) == ("think", "client", None)
    wait_for(lambda: ask(gateway, "busy").headers[Header.THRESHOLD] == "0", "the streams to end")
    assert said(ask(gateway, "busy")) == ("think", "predictor", None)


def test_the_price_of_a_wrong_answer_sets_the_threshold_once_both_modes_are_known(gateway: Gateway) -> None:
    assert ask(gateway, "rich").headers[Header.THRESHOLD] == "1"
    for mode in (THINKING, FAST_ONE):
        for _ in range(8):
            said(ask(gateway, "rich", **mode))

    def derived() -> float:
        return float(ask(gateway, "rich", **FAST_ONE).headers[Header.THRESHOLD])

    wait_for(lambda: derived() != 1.0, "the figure to be worked out anew")
    assert 0 < derived() < 1e-6, "thinking costs some millionths of a dollar, a wrong answer a thousand"
    assert said(ask(gateway, "rich")) == ("think", "predictor", None)


def test_a_conversation_stays_where_its_history_is_cached(gateway: Gateway) -> None:
    def threshold(first: str, wish: dict[str, Any]) -> float:
        said(ask(gateway, "steady", first, **wish))
        turns = [("user", first), ("assistant", "So it is."), ("user", "Go on.")]
        messages = [{"role": role, "content": content} for role, content in turns]
        return float(ask(gateway, "steady", messages=messages).headers[Header.THRESHOLD])

    story = "The ship was late and the harbour was full. " * 100
    assert threshold(f"1. {story}", FAST_ONE) == 0.5, "what thinking costs more is not known yet"
    for mode in (THINKING, FAST_ONE):
        for _ in range(8):
            said(ask(gateway, "steady", **mode))
    wait_for(lambda: threshold(f"2. {story}", FAST_ONE) != 0.5, "the figure to be worked out anew")
    assert 0.5 < threshold(f"3. {story}", FAST_ONE) <= 0.7
    assert 0.3 <= threshold(f"4. {story}", THINKING) < 0.5
    assert float(ask(gateway, "steady", f"3. {story}").headers[Header.THRESHOLD]) == 0.5, "a first turn is free"


def test_who_holds_in_the_first_and_in_the_last_stage(gateway: Gateway) -> None:
    watched, moved = ask(gateway, "watched"), ask(gateway, "moved")
    assert (said(watched)[0], watched.headers[Header.THRESHOLD]) == ("no_think", "1")
    assert (said(moved)[0], moved.headers[Header.THRESHOLD]) == ("think", "0")
    assert Header.COST_USD in watched.headers
    assert Header.COST_USD not in moved.headers


def test_decisions_are_counted_by_source(gateway: Gateway) -> None:
    before = gateway.total("pointsman_decisions_total", tenant="ruled", mode="think", source="policy")
    for _ in range(3):
        ask(gateway, "ruled", metadata={"team": "finance"})
    after = gateway.total("pointsman_decisions_total", tenant="ruled", mode="think", source="policy")
    assert after - before == 3


def test_nothing_asked_is_logged(gateway: Gateway) -> None:
    assert "Hauptstadt" not in gateway.logs()
    assert "capital" not in gateway.logs()
