"""The playground: ask something, see which track the platform takes and why, and watch both tracks side by side.

The first request is left to the platform, as any client's; once it is known which way that one goes, the second
asks for the other mode. Both are real requests: they are billed, and an administrator needs a tenant's key for
them, which this page keeps no longer than it is open. What a model says is text and nothing but text here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from nicegui import ui

from pointsman.console.admin_client import AdminError
from pointsman.console.answers import Reply, Track, watch
from pointsman.console.page import Page
from pointsman.console.parts.figures import NOTHING, count, dollars, seconds, times
from pointsman.console.parts.markup import (
    MODE_NAMES,
    Markup,
    link,
    mode_pill,
    pill,
    replace,
    show,
    stat,
    stats,
    tag,
)
from pointsman.console.parts.points import evidence, scale, sentence
from pointsman.console.visit import Visit, part
from pointsman.contracts.modes import Mode

BLINK = 0.12
"""Seconds between two looks at what has come."""

BLOCK = 1500
"""Characters after which shown text is left alone, so that a long answer is not sent anew with every word."""

LONGEST_QUESTION = 20_000
"""Characters of a question at most."""

MOST_TOKENS = (128, 256, 512, 1024, 2048, 4096)

MOST_EVIDENCE = 6
"""Pieces of evidence that are shown here; the decision's own page shows more."""

EXAMPLES = (
    "What is the capital of Portugal?",
    "Prove that there are infinitely many primes.",
    "把这句话翻译成英文：雨伞在桌子上。",
    "鶴と亀が合わせて12匹、足は34本です。それぞれ何匹いますか。",
)


async def build(visit: Visit) -> None:
    """The form, and below it what becomes of a question."""
    playground = Playground(visit)
    await playground.form()
    playground.stage()
    visit.client.on_delete(playground.leave)


class Playground:
    """One page's question and its two answers."""

    def __init__(self, visit: Visit) -> None:
        self._visit = visit
        self._key: str | None = None
        self._running: asyncio.Task[None] | None = None

    async def form(self) -> None:
        """What is asked, of which model, how."""
        with ui.element("section").classes("pm-card"):
            show(tag("h2", "Ask"))
            if self._visit.who.is_admin:
                self._key_field()
            self._question = (
                ui.textarea("Question")
                .props(f"outlined autogrow maxlength={LONGEST_QUESTION} input-style=min-height:64px")
                .classes("pm-field pm-wide")
            )
            self._question.on("keydown.ctrl.enter", self._visit.doing(self._ask))
            with ui.element("div").classes("pm-row").props('role="group" aria-label="Examples"'):
                for example in EXAMPLES:
                    short = example if len(example) < 34 else example[:33] + "…"
                    ui.button(short, color=None, on_click=self._takes(example)).props("flat no-caps dense").classes(
                        "pm-chip"
                    )
            with ui.element("div").classes("pm-row"):
                models = list(self._visit.who.models)
                self._model = (
                    ui.select(models, value=models[0] if models else None, label="Model")
                    .props("outlined dense")
                    .classes("pm-field")
                )
                self._tokens = (
                    ui.select(list(MOST_TOKENS), value=512, label="Tokens at most")
                    .props("outlined dense")
                    .classes("pm-field")
                )
                self._both = ui.switch("Both tracks", value=True).classes("pm-switch")
                self._go = (
                    ui.button("Ask", color=None, on_click=self._visit.doing(self._ask))
                    .props("unelevated no-caps")
                    .classes("pm-button pm-primary")
                )
                self._halt = (
                    ui.button("Stop", color=None, on_click=self.leave)
                    .props("unelevated no-caps")
                    .classes("pm-button")
                )
                self._halt.disable()
                show(
                    tag(
                        "span",
                        "Ctrl+Enter asks, too. Both answers are real requests, and are billed.",
                        class_="pm-faint pm-small",
                    )
                )

    def stage(self) -> None:
        """Where decision and answers are shown."""
        self._decision = show(Markup(""))
        with ui.element("div").classes("pm-two pm-tracks"):
            self._tracks = {mode.value: _TrackView(mode.value) for mode in (Mode.NO_THINK, Mode.THINK)}
        self._verdict = show(Markup("")).props('role="status" aria-live="polite"')

    def leave(self) -> None:
        """Ask for no more."""
        if self._running is not None:
            self._running.cancel()

    def _takes(self, example: str) -> Callable[[], None]:
        def take() -> None:
            self._question.set_value(example)

        return take

    def _key_field(self) -> None:
        field = (
            ui.input("A tenant's key: whose request it is", password=True)
            .props('outlined dense autocomplete="off"')
            .classes("pm-field pm-wide")
        )

        async def use() -> None:
            key = str(field.value or "").strip()
            if not (key and key.isascii() and key.isprintable()):
                raise AdminError("A key is one line of plain ASCII.")
            async with self._visit.stream("GET", "/v1/models", key=key) as response:
                await response.aread()
                models = [str(each["id"]) for each in response.json()["data"]]
            self._key = key
            field.set_value("")
            self._model.set_options(models, value=models[0] if models else None)
            self._visit.say("Requests are this tenant's now.")

        field.on("keydown.enter", self._visit.doing(use))
        ui.button("Use this key", color=None, on_click=self._visit.doing(use)).props("unelevated no-caps").classes(
            "pm-button pm-narrow"
        )

    async def _ask(self) -> None:
        if self._running is not None:
            return
        question = str(self._question.value or "").strip()
        if not question:
            raise AdminError("There is no question.")
        if self._model.value is None:
            raise AdminError(
                "Give a tenant's key first." if self._visit.who.is_admin else "This key may use no model."
            )
        body = {
            "model": self._model.value,
            "max_tokens": self._tokens.value,
            "messages": [{"role": "user", "content": question.encode(errors="replace").decode()}],
        }
        self._running = asyncio.create_task(self._run(body, both=bool(self._both.value)))
        self._go.disable()
        self._halt.enable()
        try:
            with contextlib.suppress(asyncio.CancelledError):
                await self._running
        finally:
            self._running = None
            if not self._visit.client.is_deleted:
                self._go.enable()
                self._halt.disable()

    async def _run(self, body: dict[str, Any], *, both: bool) -> None:
        for view in self._tracks.values():
            view.empty()
        replace(self._decision, Markup(""))
        replace(self._verdict, Markup(""))
        replies: dict[str, Reply] = {}
        chosen, known = Reply(), asyncio.Event()
        asking = [
            asyncio.create_task(watch(self._visit, body, chosen, key=self._key, mode=None, started=known.set))
        ]
        try:
            waiting = asyncio.create_task(known.wait())
            await asyncio.wait([asking[0], waiting], return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            if chosen.track is None or chosen.track.mode not in self._tracks:
                replace(self._decision, _failed(chosen.error or "What answers is no Pointsman router."))
                return
            replies[chosen.track.mode] = chosen
            replace(self._decision, _first_word(chosen.track))
            if both:
                other = Mode.NO_THINK if chosen.track.mode == Mode.THINK else Mode.THINK
                replies[other.value] = second = Reply()
                asking.append(
                    asyncio.create_task(watch(self._visit, body, second, key=self._key, mode=other.value))
                )
            while not all(task.done() for task in asking):
                self._show(replies, chosen)
                await asyncio.wait(asking, timeout=BLINK)
            await self._explain(chosen.track)
        finally:
            for task in asking:
                task.cancel()
            for reply in replies.values():
                reply.stopped = reply.ended is None
            await asyncio.gather(*asking, return_exceptions=True)
            if not self._visit.client.is_deleted:
                self._show(replies, chosen)
                replace(self._verdict, _verdict(replies))

    def _show(self, replies: dict[str, Reply], chosen: Reply) -> None:
        for mode, view in self._tracks.items():
            if mode in replies:
                view.show(replies[mode], chosen=replies[mode] is chosen)

    async def _explain(self, track: Track) -> None:
        """Show what the record of the decision says, once it is written."""
        root = "/admin/v1/decisions" if self._visit.who.is_admin else "/v1/decisions"
        with contextlib.suppress(AdminError):
            answer = await self._visit.call("GET", f"{root}/{part(track.decision)}")
            replace(self._decision, _explained(answer.body))


class _TrackView:
    """One track: its head with numbers, thinking, answer."""

    def __init__(self, mode: str) -> None:
        self._mode = mode
        with ui.element("section").classes(f"pm-card pm-track pm-track-{mode.replace('_', '-')}"):
            self._head = show(Markup(""))
            self._thinking = _Text("pm-thinking", "Thinking")
            self._answer = _Text("pm-answer", "Answer")
            self._numbers = show(Markup(""))
        self.empty()

    def empty(self) -> None:
        """Nothing is asked of it."""
        self._thinking.show("")
        self._answer.show("")
        replace(self._head, tag("h2", mode_pill(self._mode)))
        replace(self._numbers, tag("p", "Waits for a question.", class_="pm-faint"))

    def show(self, reply: Reply, *, chosen: bool) -> None:
        """What has come so far."""
        why = pill("chosen by the platform", "good") if chosen else pill("the road not taken")
        replace(self._head, tag("div", tag("h2", mode_pill(self._mode)), why, class_="pm-card-head"))
        if not chosen and reply.track is not None and reply.track.mode != self._mode:
            self._thinking.show("")
            self._answer.show("")
            said = (
                f"It is answered with {MODE_NAMES.get(reply.track.mode, '?')} even where the client asks for this:"
            )
            replace(
                self._numbers, tag("p", f"{said} a rule, a budget or the pools leave no choice.", class_="pm-dim")
            )
            return
        self._thinking.show(reply.thinking)
        self._answer.show(reply.answer)
        replace(self._numbers, _numbers(reply))


class _Text:
    """Text that grows: what is shown already stays, only its last piece is sent again."""

    def __init__(self, class_: str, name: str) -> None:
        self._box = (
            ui.element("div").classes(f"pm-text {class_}").props(f'aria-label="{name}" role="group" tabindex="0"')
        )
        self._box.set_visibility(False)
        self._pieces: list[ui.label] = []
        self._shown = ""

    def show(self, text: str) -> None:
        """Let it read `text`."""
        if text == self._shown:
            return
        if not text.startswith(self._shown):
            self._box.clear()
            self._pieces.clear()
        self._shown = text
        self._box.set_visibility(bool(text))
        blocks = [text[at : at + BLOCK] for at in range(0, len(text), BLOCK)]
        with self._box:
            for _ in range(len(blocks) - len(self._pieces)):
                self._pieces.append(ui.label())
        for piece, block in zip(self._pieces, blocks, strict=True):
            if piece.text != block:
                piece.set_text(block)


def _first_word(track: Track) -> Markup:
    """What the headers say, before there is a record."""
    said = {
        "mode": track.mode,
        "source": track.source,
        "detail": track.source,
        "escalated": None,
        "probability": track.probability,
        "threshold": track.threshold,
    }
    return _card(said, scale(track.probability, track.threshold))


def _explained(decision: dict[str, Any]) -> Markup:
    whole = link("The whole decision", f"/decisions/{decision['id']}")
    inner = tag(
        "div",
        tag("div", scale(decision["probability"], decision["threshold"]), tag("p", whole), class_="pm-section"),
        evidence(decision["evidence"], most=MOST_EVIDENCE),
        class_="pm-two",
    )
    return _card(decision, inner)


def _card(decision: dict[str, Any], inner: Markup) -> Markup:
    lead = tag("p", mode_pill(decision["mode"]), " ", sentence(decision), class_="pm-lead")
    return tag("section", tag("h2", "The decision"), lead, inner, class_="pm-card")


def _failed(message: str) -> Markup:
    words = tag("p", "There is no answer", class_="pm-state-title"), tag("p", message, class_="pm-dim")
    return tag("div", *words, class_="pm-state pm-state-bad", role="alert")


def _numbers(reply: Reply) -> Markup:
    state = "answering" if reply.ended is None else "whole"
    if reply.stopped:
        state = "stopped"
    elif reply.error is not None:
        state = "failed"
    elif reply.cut and reply.ended is not None:
        state = "cut at the token limit"
    tokens = NOTHING
    if reply.answer_tokens is not None:
        thought = f"{count(reply.reasoning_tokens)} + " if reply.reasoning_tokens else ""
        tokens = f"{thought}{count(reply.answer_tokens)}"
    numbers = stats(
        stat("First token", seconds(reply.first_token)),
        stat("Time", seconds(reply.seconds), state),
        stat("Tokens", tokens, "thinking + answer" if reply.reasoning_tokens else "answer"),
        stat("Cost", dollars(reply.cost), None if reply.cost is not None or reply.ended is None else "not told"),
    )
    if reply.error is not None:
        return numbers + tag("p", reply.error, class_="pm-bad", role="alert")
    return numbers


def _verdict(replies: dict[str, Reply]) -> Markup:
    """Both answers compared, where both are whole."""
    think, fast = replies.get(Mode.THINK.value), replies.get(Mode.NO_THINK.value)
    if think is None or fast is None or not (_is_whole(think, Mode.THINK) and _is_whole(fast, Mode.NO_THINK)):
        return Markup("")
    parts = [f"Thinking took {seconds(think.seconds - fast.seconds, sign=True)}"]
    if think.cost is not None and fast.cost:
        parts.append(f"cost {times(think.cost / fast.cost)} as much ({dollars(think.cost - fast.cost, sign=True)})")
    return tag("p", " and ".join(parts) + ".", class_="pm-lead")


def _is_whole(reply: Reply, mode: Mode) -> bool:
    on_track = reply.track is not None and reply.track.mode == mode.value
    return on_track and reply.error is None and not reply.stopped and reply.ended is not None


PAGE = Page("/playground", "Playground", build, icon="M8 5v14l11-7z")
