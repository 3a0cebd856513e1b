"""Compiled policies: which rule counts, against a plain reading of the rules; and which policy holds for whom."""

from __future__ import annotations

import hashlib
import itertools
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.contracts.modes import Mode, ModePolicy, choose_mode
from pointsman.contracts.policies import Candidate, Policy, PolicyDocument, Rule, Stage
from pointsman.router.policies import ArmName, compile_policy, language_of
from pointsman.router.policies.rules import Rules

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
KEYS = [hashlib.sha256(word).digest() for word in (b"a", b"b")]
GERMAN, ENGLISH = "Wie spät ist es in Berlin?", "What time is it in Berlin?"

MATCHES = st.fixed_dictionaries(
    {},
    optional={
        "models": st.lists(st.sampled_from(["m", "n"]), max_size=2),
        "endpoints": st.lists(st.sampled_from([CHAT, COMPLETIONS]), max_size=2),
        "keys": st.lists(st.sampled_from([key.hex() for key in KEYS]), max_size=2),
        "tools": st.none() | st.booleans(),
        "metadata": st.dictionaries(st.sampled_from("xyz"), st.sampled_from("12"), max_size=2),
        "languages": st.lists(st.sampled_from(["de", "en", "fr"]), max_size=2),
    },
)
SAYS = st.sampled_from(
    [
        {"mode": "think"},
        {"mode": "no_think"},
        {"threshold": 0.9},
        {"default_mode": "no_think"},
        {"threshold": 0.1, "default_mode": "no_think"},
    ]
)
POLICIES = st.lists(st.tuples(MATCHES, SAYS), max_size=6).map(
    lambda rules: Policy.model_validate(
        {
            "cost_of_wrong_fast": "0.01",
            "rules": [{"name": f"r{place}", "match": match, **says} for place, (match, says) in enumerate(rules)],
        }
    )
)
METADATA = st.none() | st.dictionaries(
    st.sampled_from("wxyz"), st.sampled_from(["1", "2", 1, None, ["1"]]), max_size=4
)
REQUESTS = st.tuples(
    st.sampled_from(["m", "n"]),
    st.sampled_from([CHAT, COMPLETIONS]),
    st.sampled_from(KEYS),
    st.sampled_from([{}, {"tools": []}, {"tools": [{"type": "function"}]}]),
    METADATA,
    st.sampled_from([GERMAN, ENGLISH, "1 + 1", None]),
)


def matches(
    rule: Rule, model: str, endpoint: str, key: bytes, payload: dict[str, Any], question: str | None
) -> bool:
    """The rule's `match`, read as its documentation has it."""
    match, metadata = rule.match, payload.get("metadata") or {}
    return (
        (not match.models or model in match.models)
        and (not match.endpoints or endpoint in match.endpoints)
        and (not match.keys or key.hex() in match.keys)
        and (match.tools is None or match.tools == bool(payload.get("tools")))
        and all(metadata.get(name) == value for name, value in match.metadata.items())
        and (not match.languages or language_of(question) in match.languages)
    )


@given(policy=POLICIES, requests=st.lists(REQUESTS, min_size=1, max_size=5))
def test_the_first_rule_that_matches_counts_and_no_other(policy: Policy, requests: list[Any]) -> None:
    arm = compile_policy(PolicyDocument(policy=policy)).present
    assert (arm.rules is None) is (not policy.rules)
    for model, endpoint, key, payload, metadata, question in requests:
        payload = payload if metadata is None else {**payload, "metadata": metadata}
        request = (model, endpoint, key, payload, question)
        rule = next((rule for rule in policy.rules if matches(rule, *request)), None)
        found = arm.modes if arm.rules is None else arm.rules.modes_for(*request)
        assert found.rule == ("" if rule is None else rule.name)
        assert found.required is (None if rule is None else rule.mode)
        own = rule is not None and rule.threshold is not None
        assert found.threshold == (rule.threshold if own and rule is not None else policy.threshold)
        assert found.cost_of_wrong_fast == (None if own else 0.01), "a threshold of its own is the rule's last word"
        assert found.default is ((rule and rule.default_mode) or policy.default_mode)


def test_what_a_policy_says_reaches_its_decisions() -> None:
    fields = {
        "threshold": 0.3,
        "abstain": (0.4, 0.6),
        "default_mode": Mode.NO_THINK,
        "substitute": True,
        "on_thinking_budget_spent": "refuse",
        "cost_of_wrong_fast": "0.25",
    }
    modes = compile_policy(PolicyDocument.model_validate({"policy": fields})).present.modes
    assert modes == ModePolicy(0.3, 0.4, 0.6, Mode.NO_THINK, None, "", True, True, 0.25)


def test_combinations_are_forgotten_before_they_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pointsman.router.policies.rules.MOST_COMBINATIONS", 3)
    policy = Policy.model_validate({"rules": [{"name": "r", "match": {"models": ["m7"]}, "mode": "think"}]})
    rules = Rules(policy.rules, ModePolicy())
    for _, number in itertools.product(range(2), range(9)):
        found = rules.modes_for(f"m{number}", CHAT, KEYS[0], {}, None)
        assert (found.rule == "r") is (number == 7)
        assert len(rules._known) <= 3


@pytest.mark.parametrize("stage", Stage)
def test_who_gets_the_candidate(stage: Stage) -> None:
    document = PolicyDocument(candidate=Candidate(policy=Policy(threshold=0.9), stage=stage, share=0.25))
    policy = compile_policy(document, version="7")
    assert policy.candidate is not None
    assert (policy.version, policy.document) == ("7", document)
    arms = [policy.arm_of(conversation) for conversation in range(0, 2**32, 2**24)]
    shares = {Stage.OBSERVE: 0, Stage.CANARY: 64, Stage.ENFORCE: 256}
    assert sum(arm is policy.candidate for arm in arms) == shares[stage]
    for arm in (policy.present, policy.candidate):
        assert (arm.stage, arm.version) == (stage, "7")
    assert policy.other(policy.present) is policy.candidate
    assert policy.other(policy.candidate) is policy.present
    assert (policy.present.name, policy.candidate.name) == (ArmName.PRESENT, ArmName.CANDIDATE)
    assert policy.candidate.modes.threshold == 0.9


def test_a_share_that_grows_keeps_those_that_had_the_candidate() -> None:
    held: set[int] = set()
    for share in (0.0, 0.05, 0.2, 1.0):
        document = PolicyDocument(candidate=Candidate(policy=Policy(), stage=Stage.CANARY, share=share))
        policy = compile_policy(document)
        now = {at for at in range(0, 2**32, 2**22) if policy.arm_of(at) is policy.candidate}
        assert held <= now
        assert len(now) == pytest.approx(1024 * share, abs=1)
        held = now


def test_without_a_candidate_the_present_policy_is_alone() -> None:
    policy = compile_policy(PolicyDocument())
    assert policy.candidate is None
    assert policy.other(policy.present) is None
    assert policy.arm_of(0) is policy.present
    assert (policy.present.stage, policy.version, policy.limit) == (None, "0", 0)


def test_a_thousand_policies_of_twenty_rules_are_quick() -> None:
    """The bound is generous, for a busy machine; what it forbids is trying rules one after the other, or worse."""
    shapes: list[dict[str, Any]] = [
        {"metadata": {"team": "t{}"}},
        {"metadata": {"k{}": "v"}},
        {"models": ["m{}"]},
        {"keys": ["{:064x}"]},
    ]

    def filled(value: Any, place: int) -> Any:
        if isinstance(value, str):
            return value.format(place)
        if isinstance(value, list):
            return [filled(item, place) for item in value]
        return {name.format(place): filled(item, place) for name, item in value.items()}

    def rules(policy: int) -> list[dict[str, Any]]:
        places = range(20 * policy, 20 * policy + 20)
        return [{"name": f"r{at}", "match": filled(shapes[at % 4], at), "mode": "think"} for at in places]

    documents = [PolicyDocument.model_validate({"policy": {"rules": rules(number)}}) for number in range(1000)]
    started = time.process_time()
    policies = [compile_policy(document).present for document in documents]
    compiled = time.process_time() - started
    payload = {"metadata": {"team": "none", "user": "u"}}

    def decide_all() -> float:
        started = time.process_time()
        for policy in policies:
            assert policy.rules is not None
            modes = policy.rules.modes_for("m", CHAT, KEYS[0], payload, ENGLISH)
            choose_mode((), probability=0.7, policy=modes)
        return time.process_time() - started

    best = min(decide_all() for _ in range(10)) / len(policies)
    assert compiled < 1.0
    assert best < 10e-6


SAID = {
    "en": ("What is the capital of France?", "Write a poem", "prove that the square root of 2 is irrational."),
    "de": (
        GERMAN,
        "Erkläre mir bitte die Relativitätstheorie.",
        "Was ist der Unterschied zwischen Hund und Katze?",
    ),
    "fr": (
        "Quelle est la capitale de la France ?",
        "Explique-moi comment fonctionne l’avion.",
        "Qu'est-ce que c'est ?",
    ),
    "es": ("¿Cuál es la capital de Francia?", "Explícame cómo funciona el motor de un coche."),
    "pt": ("Qual é a capital da França?", "Como funciona o motor de um carro e por que ele não para?"),
    "it": ("Qual è la capitale della Francia?", "Spiegami come funziona il motore di una macchina."),
    "nl": ("Wat is de hoofdstad van Frankrijk?", "Leg uit hoe een motor van een auto werkt."),
    "vi": ("Thủ đô của Pháp là gì?",),
    "zh": ("法国的首都是哪里?", "用Python写一个quicksort函数", "123 只鸡"),
    "ja": ("フランスの首都はどこですか", "東京の人口は?"),
    "ko": ("프랑스의 수도는 어디인가요?", "Python으로 정렬을 설명해 줘"),
    "ru": ("Какая столица у Франции?",),
    "uk": ("Яка столиця Франції?",),
    "bg": ("Къде е столицата на България?",),
    "sr": ("Који је главни град Француске, и где је њен центар?",),
    "be": ("Якая сталіца ў Францыі?",),
    "ar": ("ما هي عاصمة فرنسا؟",),
    "fa": ("پایتخت فرانسه کجاست؟",),
    "ur": ("فرانس کا دارالحکومت کون سا ہے؟",),
    "he": ("מהי בירת צרפת?",),
    "el": ("Ποια είναι η πρωτεύουσα της Γαλλίας;",),
    "hi": ("फ्रांस की राजधानी क्या है?",),
    "th": ("เมืองหลวงของฝรั่งเศสคืออะไร",),
    None: (
        *(None, "", " " * 1000, "2 + 2 = ?", "print(x)", "xyzzy", "\U0001f600 \U0001f600", "ок hello ok bye"),
        *("Hvad er hovedstaden i Frankrig?", "Jaka jest stolica Francji?", "Fransa'nın başkenti neresidir?"),
        *("Care este capitala Franței?", "Mikä on Ranskan pääkaupunki?", "Vad heter huvudstaden i Frankrike?"),
    ),
}


@pytest.mark.parametrize(("language", "text"), [(lang, text) for lang, texts in SAID.items() for text in texts])
def test_the_language_of_a_question(language: str | None, text: str | None) -> None:
    assert language_of(text) == language


@given(text=st.text(max_size=40), times=st.sampled_from([1, 8, 300]), more=st.text(max_size=5))
def test_any_text_has_a_language_or_none_and_only_its_head_counts(text: str, times: int, more: str) -> None:
    text *= times
    language = language_of(text)
    assert language is None or (2 <= len(language) <= 3 and language.isascii() and language.islower())
    if len(text) >= 240:
        assert language_of(text + more) == language
