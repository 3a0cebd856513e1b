"""The chat templates that ship with Pointsman."""

from __future__ import annotations

from pathlib import Path

import jinja2
import pytest

from pointsman.serving.chat_templates import template_file

QUESTION = {"role": "user", "content": "Why?"}


def render(*messages: dict[str, str], add_generation_prompt: bool = True) -> str:
    template = jinja2.Environment().from_string(template_file("builtin:think").read_text())
    return template.render(messages=list(messages), add_generation_prompt=add_generation_prompt)


def test_think_opens_the_thinking_after_the_question() -> None:
    assert render(QUESTION).endswith("<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n<think>\n")


def test_think_keeps_the_callers_system_prompt_and_asks_for_thinking() -> None:
    text = render({"role": "system", "content": "Speak like a pirate."}, QUESTION)
    first = text.split("<|im_end|>")[0]
    assert first.startswith("<|im_start|>system\nSpeak like a pirate. ")
    assert "<think>" in first
    assert text.count("<|im_start|>system") == 1


def test_think_shows_every_turn_closed() -> None:
    text = render(QUESTION, {"role": "assistant", "content": "Because."}, QUESTION, add_generation_prompt=False)
    assert text.count("<|im_start|>") == text.count("<|im_end|>")
    assert text.index("Because.") < text.rindex("Why?")


def test_a_file_is_taken_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "own.jinja"
    file.write_text("")
    assert template_file(str(file)) == file


@pytest.mark.parametrize("name", ["builtin:nothing", "builtin:../think", "/no/such/file"])
def test_what_is_not_there_is_named(name: str) -> None:
    with pytest.raises(FileNotFoundError, match=name):
        template_file(name)
