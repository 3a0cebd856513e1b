"""The chat templates that ship with Pointsman."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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


CALL = {"function": {"name": "find", "arguments": {"city": "Oslo"}}}
FIND = {"type": "function", "function": {"name": "find", "parameters": {"type": "object"}}}


@pytest.mark.parametrize("name", ["tools", "think"])
def test_tools_calls_and_results_are_told_in_the_form_that_the_parser_reads(name: str) -> None:
    template = jinja2.Environment().from_string(template_file(f"builtin:{name}").read_text())
    messages: list[dict[str, Any]] = [
        QUESTION,
        {"role": "assistant", "content": None, "tool_calls": [CALL, CALL]},
        {"role": "tool", "content": "18 C"},
        {"role": "tool", "content": "19 C"},
        QUESTION,
    ]
    text = template.render(messages=messages, tools=[FIND], add_generation_prompt=True)
    assert '{"function": {"name": "find", "parameters": {"type": "object"}}, "type": "function"}' in text
    assert text.count('<tool_call>\n{"name": "find", "arguments": {"city": "Oslo"}}\n</tool_call>') == 2
    results = "\n".join(f"<tool_response>\n{said}\n</tool_response>" for said in ("18 C", "19 C"))
    assert f"<|im_start|>user\n{results}<|im_end|>" in text
    assert text.count("<|im_start|>") == text.count("<|im_end|>") + 1


def test_without_tools_the_template_for_tools_is_the_models_own() -> None:
    begin, end = "<|im_start|>", "<|im_end|>\\n"
    own = jinja2.Environment().from_string(
        "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}"
        f"{begin}system{{{{ '\\n' }}}}You are a helpful AI assistant named SmolLM, trained by Hugging Face"
        f"{{{{ '{end}' }}}}"
        f"{{% endif %}}{begin}{{{{ message['role'] + '\\n' + message['content'] + '{end}' }}}}{{% endfor %}}"
        f"{{% if add_generation_prompt %}}{{{{ '{begin}assistant\\n' }}}}{{% endif %}}"
    )
    ours = jinja2.Environment().from_string(template_file("builtin:tools").read_text())
    for first in ([], [{"role": "system", "content": "Be brief."}]):
        messages = [*first, QUESTION, {"role": "assistant", "content": "Because."}, QUESTION]
        for opened in (True, False):
            told = {"messages": messages, "add_generation_prompt": opened}
            assert ours.render(**told) == own.render(**told)
