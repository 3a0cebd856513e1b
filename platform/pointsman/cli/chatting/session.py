"""The conversation: what was said so far, the user's commands, and a Ctrl-C that stops only the answer."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from pointsman.cli.chatting.client import Message, Reply, Router
from pointsman.cli.chatting.screen import Screen, total
from pointsman.cli.chatting.target import ChatError
from pointsman.contracts.modes import Mode

COMMANDS = {
    "/think": "answer the next questions with thinking",
    "/no_think": "answer the next questions without thinking",
    "/auto": "let the platform choose again",
    "/new": "forget the conversation",
    "/quit": "leave (so does Ctrl-D)",
}


class Session:
    """One conversation with `model`; `mode` None leaves the choice of the track to the platform."""

    def __init__(self, router: Router, screen: Screen, *, model: str, mode: Mode | None) -> None:
        self._router = router
        self._screen = screen
        self._model = model
        self._mode = mode
        self._messages: list[Message] = []
        self._costs: list[str] = []

    def converse(self) -> bool:
        """
        Answer the lines of stdin until they end or the user leaves.

        Returns whether all answers came whole, which is for scripts: a user at a terminal has seen it.
        """
        whole, typed = True, sys.stdin.isatty()
        if typed:
            self._screen.note(f"{self._model} · commands: {', '.join(COMMANDS)} · Ctrl-C stops an answer")
        for line in self._lines():
            words = line.strip()
            if words == "/quit":
                break
            if words in COMMANDS:
                self._obey(words)
            elif words.startswith("/") and " " not in words:
                known = "; ".join(f"{name}: {meaning}" for name, meaning in COMMANDS.items())
                self._screen.note(f"There is no command {words}. {known}.")
            elif words:
                whole = self.ask(words) and whole
        if len(self._costs) > 1:
            self._screen.note(f"{len(self._costs)} answers, ${total(self._costs)}")
        return whole or typed

    def ask(self, question: str) -> bool:
        """Ask `question` and show the answer; whether it came whole. Ctrl-C stops it and keeps what came."""
        asked: Message = {"role": "user", "content": question.encode(errors="replace").decode()}
        reply: Reply | None = None
        self._screen.wait()
        try:
            with self._router.ask([*self._messages, asked], model=self._model, mode=self._mode) as stream:
                reply = stream.reply
                self._screen.begin(reply.track)
                for kind, text in stream:
                    self._screen.piece(kind, text)
        except KeyboardInterrupt:
            if reply is None:
                self._screen.note("stopped")
            else:
                self._screen.end(reply, stopped=True)
                self._remember(asked, reply)
            return False
        except ChatError as error:
            self._screen.failed(error)
            return False
        self._screen.end(reply, stopped=False)
        self._remember(asked, reply)
        if reply.cost_usd is not None:
            self._costs.append(reply.cost_usd)
        return True

    def _remember(self, asked: Message, reply: Reply) -> None:
        """Thinking is not part of a conversation: templates drop it, and it would be paid for again."""
        if reply.answer:
            self._messages += [asked, {"role": "assistant", "content": reply.answer}]

    def _obey(self, command: str) -> None:
        if command == "/new":
            self._messages.clear()
            self._screen.note("A new conversation.")
            return
        self._mode = None if command == "/auto" else Mode(command.removeprefix("/"))
        chosen = f"All answers run in {self._mode}." if self._mode else "The platform chooses the track."
        self._screen.note(chosen)

    def _lines(self) -> Iterator[str]:
        if not sys.stdin.isatty():
            yield from sys.stdin
            return
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401  # imported for what it does to input(): editing and history
        while True:
            try:
                yield input(f"{self._mode}> " if self._mode else "> ")
            except KeyboardInterrupt:
                print()
                self._screen.note("/quit or Ctrl-D leaves")
            except EOFError:
                print()
                return
