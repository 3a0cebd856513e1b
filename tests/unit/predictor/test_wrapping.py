"""What stands around a question does not change what it gets: personas, slips, documents, length."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from pointsman.router.predictor import Predictor, corpus

_PREDICTOR = Predictor.load()
_NOTES = (
    "Minutes of the garden club, 4 May\nPresent: nine members, apologies from two.\nThe hedge was cut; the bill "
    "came to 112 euros.\nNext meeting in June, bring cake.\n"
)
_LOG = (
    "2024-05-04 10:02:11 INFO worker-3 started\n2024-05-04 10:02:13 WARN queue length 212\n"
    "2024-05-04 10:02:19 INFO worker-3 took 41 jobs\n2024-05-04 10:03:02 INFO worker-3 stopped\n"
)
_ANNOUNCEMENT = (
    "【通知】本周六上午九点至十二点小区停水，请各位业主提前储水。\n车库B区同时清洗，请把车移到A区。\n物业服务中心\n"
)


def _slips(text: str) -> str:
    """Two neighbouring letters changed over, in one word of eight."""
    chance = random.Random(text)
    words = text.split(" ")
    for place, word in enumerate(words):
        if word.isascii() and word.isalpha() and len(word) > 4 and chance.random() < 0.125:
            at = chance.randrange(1, len(word) - 2)
            words[place] = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    return " ".join(words)


WRAPPINGS: dict[str, dict[str, Callable[[str], str]]] = {
    "en": {
        "polite": "Good afternoon, I hope I'm not disturbing. {} Many thanks for your time!".format,
        "background": "I run a small bakery and a customer wrote to us yesterday. {}".format,
        "persona": "You are a helpful assistant. {}".format,
        "asked and answered": "Question: {}\nAnswer:".format,
        "signed": "{}\n\nWarm wishes,\nMaria Keller\nHead of Purchasing, Northwind Ltd".format,
        "slips": _slips,
        "lower case": str.lower,
        "document before": (_NOTES + "\n{}").format,
        "document after": ("{}\n\n" + _LOG).format,
        "very long document before": (_LOG * 200 + "\n\n{}").format,
    },
    "zh": {
        "polite": "下午好，希望没有打扰到您。{}万分感激！".format,
        "background": "我开了一家小面包店，昨天有顾客来信。{}".format,
        "persona": "你是一个乐于助人的助手。{}".format,
        "asked and answered": "问题：{}\n回答：".format,
        "signed": "{}\n\n顺祝商祺\n王丽\n北风公司采购部经理".format,
        "document before": (_ANNOUNCEMENT + "\n{}").format,
        "document after": ("{}\n\n" + _ANNOUNCEMENT).format,
    },
    "ja": {
        "polite": "突然のご連絡で申し訳ございません。{}どうかお力をお貸しください。".format,
        "background": "小さなパン屋を営んでおりまして、昨日お客様から手紙をもらいました。{}".format,
        "persona": "あなたは親切なアシスタントです。{}".format,
        "asked and answered": "質問：{}\n回答：".format,
        "signed": "{}\n\n今後ともよろしくお願い申し上げます。\n渡辺美咲\n北風商事 購買部長".format,
        "document before": (_LOG + "\n{}").format,
        "document after": ("{}\n\n" + _LOG).format,
    },
}


def _questions(lang: str) -> list[str]:
    kinds = (
        "short_easy",
        "short_hard",
        "minimal_pair",
        "keyword_trap",
        "word_problem",
        "agentic",
        "business",
        "code",
    )
    rows = [row.text for row in corpus.own_rows() if row.lang == lang and row.kind in kinds]
    return [text for text in rows if "\n" not in text and 12 <= len(text) <= 400][::9]


@pytest.mark.parametrize("lang", WRAPPINGS)
def test_few_decisions_flip_with_what_stands_around_a_question(lang: str) -> None:
    questions = _questions(lang)
    assert len(questions) > 100
    plain = [probability >= 0.5 for probability in _PREDICTOR.probabilities(questions)]
    flips = {}
    for name, wrap in WRAPPINGS[lang].items():
        wrapped = _PREDICTOR.probabilities([wrap(text) for text in questions])
        flips[name] = sum(was != (now >= 0.5) for was, now in zip(plain, wrapped, strict=True)) / len(questions)
    assert sum(flips.values()) / len(flips) <= 0.05, flips


def test_the_length_of_a_document_alone_changes_nothing() -> None:
    for question in _questions("en")[:60]:
        said = [_PREDICTOR.probability(f"{_LOG * times}\n{question}") for times in (1, 3, 30, 3000)]
        assert max(said) - min(said) < 0.05, (question, said)
