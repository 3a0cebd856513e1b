"""`pointsman chat` as people and scripts use it: in a pseudo-terminal, through pipes, and when things go wrong."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from support.chat import END, KEY, TRACK, Call, StubRouter, Terminal, chat, delta


class TestOneQuestion:
    def test_stdout_is_the_answer_and_nothing_else(self, router: StubRouter) -> None:
        said = chat("--url", router.url, "Is it?")
        assert (said.returncode, said.stdout) == (0, "Yes.\n")
        assert "think  pool deep, predicted: P(think) 0.9312 is at or above 0.5" in said.stderr
        assert "Hm." in said.stderr
        assert "12 prompt (4 cached) + 20 thinking + 10 answer tokens · $0.000001234" in said.stderr

    def test_what_is_asked(self, router: StubRouter) -> None:
        chat("--url", f"{router.url}/v1/", "Is it?")
        ((headers, body),) = router.calls
        assert headers["authorization"] == f"Bearer {KEY}"
        assert headers["x-pointsman-include-cost"] == "true"
        assert "x-pointsman-mode" not in headers
        assert body == {
            "model": "small",
            "messages": [{"role": "user", "content": "Is it?"}],
            "stream": True,
            "stream_options": {"include_usage": True},
        }

    def test_the_track_and_the_model_can_be_chosen(self, router: StubRouter) -> None:
        router.says(*END, headers={**TRACK, "x-pointsman-mode-source": "client"})
        said = chat("--url", router.url, "--mode", "no_think", "--model", "large", "x")
        ((headers, body),) = router.calls
        assert (headers["x-pointsman-mode"], body["model"]) == ("no_think", "large")
        assert "as you asked" in said.stderr

    def test_from_stdin(self, router: StubRouter) -> None:
        chat("--url", router.url, "-", stdin="two\nlines\n")
        assert router.calls[0][1]["messages"][0]["content"] == "two\nlines"

    def test_for_scripts(self, router: StubRouter) -> None:
        said = chat("--url", router.url, "--json", "Is it?")
        value = json.loads(said.stdout)
        assert said.returncode == 0
        assert said.stderr == ""
        assert (value["mode"], value["source"], value["pool"]) == ("think", "predictor", "deep")
        assert (value["probability"], value["threshold"]) == ("0.9312", "0.5")
        assert (value["thinking"], value["answer"], value["finish_reason"]) == ("Hm. ", "Yes.", "stop")
        assert (value["cost_usd"], value["usage"]["completion_tokens"]) == ("0.000001234", 30)
        assert value["stopped"] is False
        assert 0 < value["first_token_after"] <= value["seconds"]

    @pytest.mark.parametrize("cut", [1, 3, 1 << 20])
    def test_however_the_stream_is_cut_and_whatever_is_in_it(self, router: StubRouter, cut: int) -> None:
        text = "a\u2028b\u0085c\x0bd\re\nf 思考 🚂 data: [DONE]"
        router.says(delta(content=text), *END, cut=cut)
        assert json.loads(chat("--url", router.url, "--json", "x").stdout)["answer"] == text

    def test_an_answer_cut_at_the_limit_says_so(self, router: StubRouter) -> None:
        router.says(
            delta(content="a"), {"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]}, "[DONE]"
        )
        assert "cut at the token limit" in chat("--url", router.url, "x").stderr

    @pytest.mark.parametrize(
        ("headers", "words"),
        [
            ({"x-pointsman-mode": "no_think"}, "P(think) 0.9312 is below 0.5"),
            ({"x-pointsman-mode-source": "default"}, "by default: P(think) is 0.9312"),
            (
                {"x-pointsman-mode-source": "default", "x-pointsman-think-probability": ""},
                "by default: no prediction",
            ),
            ({"x-pointsman-mode-source": "policy"}, "chosen by policy"),
        ],
    )
    def test_why_in_words(self, router: StubRouter, headers: dict[str, str], words: str) -> None:
        router.says(*END, headers={**TRACK, **headers})
        assert words in chat("--url", router.url, "x").stderr


class TestTheConversation:
    def test_it_remembers_answers_but_no_thinking(self, router: StubRouter) -> None:
        said = chat("--url", router.url, stdin="one\n\ntwo\n/new\nthree\n")
        assert said.stdout == "Yes.\nYes.\nYes.\n"
        first, second, third = (body["messages"] for _, body in router.calls)
        assert first == [{"role": "user", "content": "one"}]
        assert second == [*first, {"role": "assistant", "content": "Yes."}, {"role": "user", "content": "two"}]
        assert third == [{"role": "user", "content": "three"}]
        assert "3 answers, $0.000003702" in said.stderr

    def test_the_track_is_chosen_until_it_is_auto_again(self, router: StubRouter) -> None:
        chat("--url", router.url, stdin="a\n/think\nb\nc\n/no_think\nd\n/auto\ne\n/quit\nf\n")
        assert [headers.get("x-pointsman-mode") for headers, _ in router.calls] == [
            None,
            "think",
            "think",
            "no_think",
            None,
        ]

    def test_an_unknown_command_is_not_sent_to_the_model(self, router: StubRouter) -> None:
        said = chat("--url", router.url, stdin="/thnik\n/etc/passwd is what?\n")
        assert "There is no command /thnik" in said.stderr
        assert [body["messages"][0]["content"] for _, body in router.calls] == ["/etc/passwd is what?"]

    def test_one_json_object_a_question_even_for_failures(self, router: StubRouter) -> None:
        router.answer = lambda call: call.refuse(400, "too long", "context_length_exceeded")
        said = chat("--url", router.url, "--json", stdin="a\nb\n")
        assert said.returncode == 1
        assert [json.loads(line) for line in said.stdout.splitlines()] == [
            {"error": {"message": "too long", "code": "context_length_exceeded"}}
        ] * 2


class TestWhenThingsGoWrong:
    def test_no_router(self) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))  # bound, not listening: connections are refused
            url = f"http://127.0.0.1:{taken.getsockname()[1]}"
            said = chat("--url", url, "x")
        assert (said.returncode, said.stdout) == (2, "")
        assert said.stderr == (
            f"No router answers at {url}. Start one with `pointsman up`, or say where it is with --url.\n"
        )

    def test_a_wrong_key(self, router: StubRouter) -> None:
        said = chat("--url", router.url, "x", key="pk-secret")
        assert said.returncode == 2
        assert said.stderr == (f"{router.url} does not know this key (it came from --key or POINTSMAN_API_KEY).\n")

    def test_no_key(self, router: StubRouter, tmp_path: Path) -> None:
        said = chat("--url", router.url, "--state-dir", str(tmp_path), "x", key=None)
        assert said.returncode == 2
        assert f"There is no key: {tmp_path}/demo.key does not exist." in said.stderr

    def test_the_key_of_the_state_folder(self, router: StubRouter, tmp_path: Path) -> None:
        (tmp_path / "demo.key").write_text(f"{KEY}\n")
        assert chat("--url", router.url, "--state-dir", str(tmp_path), "x", key=None).returncode == 0

    def test_the_demo_key_never_leaves_this_machine_by_itself(self) -> None:
        said = chat("--url", "http://router.example", "x", key=None)
        assert said.returncode == 2
        assert "http://router.example is not on this machine: say which key to use" in said.stderr

    def test_an_unknown_model(self, router: StubRouter) -> None:
        said = chat("--url", router.url, "--model", "huge", "x")
        assert (said.returncode, said.stderr) == (2, "There is no model huge; this key may use small, large.\n")

    def test_a_model_may_name_its_track(self, router: StubRouter) -> None:
        assert chat("--url", router.url, "--model", "small:think", "x").returncode == 0
        ((_, body),) = router.calls
        assert body["model"] == "small:think"

    @pytest.mark.parametrize("key", ["wr\u00f8ng", "a\nb", " "])
    def test_a_key_that_no_header_can_carry(self, router: StubRouter, key: str) -> None:
        said = chat("--url", router.url, "x", key=key)
        assert (said.returncode, said.stdout) == (2, "")
        assert said.stderr == (
            "What came from --key or POINTSMAN_API_KEY is no key: a key is one line of plain ASCII.\n"
        )

    @pytest.mark.parametrize("question", ["", " \n", "-"])
    def test_an_empty_question_is_not_asked(self, router: StubRouter, question: str) -> None:
        said = chat("--url", router.url, question)
        assert (said.returncode, said.stderr) == (2, "There is no question: it is empty.\n")
        assert router.calls == []

    @pytest.mark.parametrize("url", ["http://", "ftp://a", "http://a:b", "http://[::1"])
    def test_an_address_that_is_none(self, url: str) -> None:
        said = chat("--url", url, "x")
        assert said.returncode == 2
        assert "is no address of a router" in said.stderr

    def test_a_pool_that_is_away(self, router: StubRouter) -> None:
        router.answer = lambda call: call.refuse(
            503, "No replica of pool deep can answer.", "pool_unavailable", retry_after="7"
        )
        said = chat("--url", router.url, "x")
        assert (said.returncode, said.stdout) == (1, "")
        assert said.stderr == "No replica of pool deep can answer. Try again in 7 s.\n"

    def test_something_that_is_no_router(self, router: StubRouter) -> None:
        router.answer = lambda call: call.whole(502, "<html>Bad gateway</html>")
        said = chat("--url", router.url, "x")
        assert said.stderr == f"What answers at {router.url} is no Pointsman router (HTTP 502).\n"

    def test_an_answer_that_ends_with_an_error(self, router: StubRouter) -> None:
        router.says(delta(content="Y"), {"error": {"message": "The engine failed.", "code": "x"}}, "[DONE]")
        said = chat("--url", router.url, "x")
        assert (said.returncode, said.stdout) == (1, "Y\n")
        assert "The answer broke off: The engine failed." in said.stderr

    def test_an_answer_without_an_end(self, router: StubRouter) -> None:
        router.says(delta(content="Y"))
        said = chat("--url", router.url, "x")
        assert said.returncode == 1
        assert "The answer broke off before its end." in said.stderr

    @pytest.mark.parametrize("garbage", ["{not json", '"text"', "[1]"])
    def test_an_answer_that_is_garbled(self, router: StubRouter, garbage: str) -> None:
        router.says(garbage)
        said = chat("--url", router.url, "x")
        assert said.returncode == 1
        assert "The answer is garbled" in said.stderr

    def test_a_proxy_for_the_world_outside_is_not_asked_for_this_machine(self, router: StubRouter) -> None:
        said = chat("--url", router.url, "x", HTTP_PROXY="http://127.0.0.1:1", http_proxy="http://127.0.0.1:1")
        assert said.returncode == 0

    def test_nothing_shows_a_traceback_or_the_key(self, router: StubRouter) -> None:
        router.answer = lambda call: call.whole(500, "")
        said = chat("--url", router.url, "x")
        assert "Traceback" not in said.stderr
        assert KEY not in said.stderr + said.stdout


class TestAtATerminal:
    def test_thinking_is_dimmed_and_apart_from_the_answer(
        self, router: StubRouter, open_terminal: Callable[..., Terminal]
    ) -> None:
        terminal = open_terminal("--url", router.url)
        terminal.until("> ")
        terminal.type("Is it?\n")
        shown = terminal.until(r"first token after")
        assert "\x1b[2;3mHm. " in shown
        assert "\n\r\nYes." in shown.replace("\x1b[0m", "")
        terminal.type("/quit\n")
        assert terminal.exit_code() == 0

    def test_ctrl_c_stops_the_answer_and_not_the_program(
        self, router: StubRouter, open_terminal: Callable[..., Terminal]
    ) -> None:
        gone = threading.Event()

        def endless(call: Call) -> None:
            call.start()
            try:
                while True:
                    call.send(delta(content="word "))
                    time.sleep(0.001)
            except OSError:
                gone.set()

        router.answer = endless
        terminal = open_terminal("--url", router.url)
        terminal.until("> ")
        terminal.type("Go on for ever.\n")
        terminal.until("word word")
        terminal.type("\x03")
        terminal.until("stopped; ")
        assert gone.wait(60), "the connection must be dropped: that is what stops the engine"

        router.says(delta(content="Fine."), *END)
        terminal.until("> ")
        terminal.type("And now?\n")
        terminal.until(r"Fine\..*first token after")
        question, partial, second = router.calls[-1][1]["messages"]
        assert (question["content"], second["content"]) == ("Go on for ever.", "And now?")
        assert partial["role"] == "assistant"
        assert partial["content"].startswith("word word")
        terminal.until("> ")
        terminal.type("\x04")
        assert terminal.exit_code() == 0

    def test_ctrl_c_at_the_prompt_says_how_to_leave(
        self, router: StubRouter, open_terminal: Callable[..., Terminal]
    ) -> None:
        terminal = open_terminal("--url", router.url)
        terminal.until("> ")
        terminal.interrupt_until("Ctrl-D leaves")
        terminal.until("> ")
        terminal.type("/think\n")
        terminal.until("think> ")
        terminal.type("\x04")
        assert terminal.exit_code() == 0

    def test_an_answer_cannot_speak_to_the_terminal(
        self, router: StubRouter, open_terminal: Callable[..., Terminal]
    ) -> None:
        router.says(delta(content="a\x1b]0;owned\x07b\x9b31mc\x08d"), *END)
        terminal = open_terminal("--url", router.url, "x")
        shown = terminal.until("first token after")
        assert "a]0;ownedb31mcd" in shown
        assert "\x1b]0;" not in shown
        assert "\x07" not in shown
        assert terminal.exit_code() == 0
