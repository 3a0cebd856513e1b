"""Debian's Chromium, driven by Playwright: pages that are watched while they are used.

A watched page fails its test for what nobody would see in a picture: an error in the browser's console, a script
that threw, a request that failed or went to another host.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Playwright, Request, Response

from pointsman.console.theme import COOKIE as THEME_COOKIE

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / "build" / "tools"
"""Where `make tools` unpacks what this machine does not have installed."""

SCREENSHOTS = ROOT / "build" / "screenshots"
AXE = TOOLS / "axe-core" / "axe.min.js"
_UNPACKED = TOOLS / "chromium"

_PROGRAM = "usr/lib/chromium/chromium"
_OWN_SCHEMES = ("data", "blob", "about")
_SERIOUS = ("serious", "critical")


class Look(NamedTuple):
    """How somebody looks at a page: the size of the window in CSS pixels, and which colours they like."""

    width: int
    height: int
    colours: str

    def __str__(self) -> str:
        return f"{self.width}x{self.height}-{self.colours}"


DESKTOP = Look(1440, 900, "light")
LOOKS = tuple(Look(*size, colours) for size in ((1440, 900), (390, 844)) for colours in ("light", "dark"))
"""Every page is to be used in each of these."""

OPPOSITES = (LOOKS[0], LOOKS[-1])
"""Two that differ in both, for what need not be seen in all of them."""


def start_chromium(playwright: Playwright) -> Browser:
    """Chromium without a window, which finds no host but this machine."""
    installed = Path("/", _PROGRAM)
    unpacked = _UNPACKED / _PROGRAM
    program = installed if installed.exists() else unpacked
    if not program.exists() and (found := shutil.which("chromium")):
        program = Path(found)
    assert program.exists(), "Chromium is missing: run `make tools`."
    libraries = ":".join(str(folder) for folder in sorted(_UNPACKED.glob("usr/lib/*-linux-gnu*")))
    return playwright.chromium.launch(
        executable_path=program,
        args=["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--disable-gpu", "--no-first-run"],
        env={"LD_LIBRARY_PATH": libraries} if program == unpacked else None,
    )


class Visitor:
    """
    Somebody with a browser of their own, who may open several pages; `page` is the first.

    `look` is how they look at it.
    """

    def __init__(self, browser: Browser, url: str, look: Look = DESKTOP, *, state: Any = None) -> None:
        """`state`: what another's browser has remembered: who starts with it is logged in as that one is."""
        self.look = look
        self.problems: list[str] = []
        self._url = url
        self._host = urlsplit(url).netloc
        self._expected: list[re.Pattern[str]] = []
        self.context: BrowserContext = browser.new_context(
            base_url=url,
            viewport={"width": look.width, "height": look.height},
            color_scheme="dark" if look.colours == "dark" else "light",
            has_touch=look.width < 600,
            is_mobile=look.width < 600,
            reduced_motion="reduce",
            storage_state=state,
        )
        self.context.set_default_timeout(30_000)
        self.context.on("request", self._asked)
        self.context.on("response", self._answered)
        self.context.on("requestfailed", self._failed)
        self.context.on("console", self._said)
        self.context.on("weberror", lambda error: self._note(f"a script threw {error.error}"))
        self.page = self.context.new_page()

    def open(self, path: str, page: Page | None = None) -> Page:
        """Go to `path` and wait until the page can be used."""
        page = page or self.page
        page.goto(path)
        settled(page)
        return page

    def log_in(self, key: str) -> None:
        """Log in as people do."""
        self.page.goto("/login")
        self.page.get_by_label("Key").fill(key)
        self.page.get_by_role("button", name="Log in").click()
        self.page.wait_for_url(lambda url: "/login" not in url)
        settled(self.page)

    def turn(self, colours: str) -> None:
        """Their system wants these colours from now on: of pages that are open, and of those to come."""
        self.look = self.look._replace(colours=colours)
        # As the page itself remembers it: what the server draws for the next page is in these colours, too.
        self.context.add_cookies([{"name": THEME_COOKIE, "value": f"auto-{colours}", "url": self._url}])
        self.page.emulate_media(color_scheme="dark" if colours == "dark" else "light")

    def remembered(self) -> Any:
        """What a browser keeps: cookies and the pages' own storage."""
        return self.context.storage_state()

    def expects(self, pattern: str) -> None:
        """What matches `pattern` is no problem until `taken_problems`."""
        self._expected.append(re.compile(pattern))

    def picture(self, name: str) -> Path:
        """Write what the page looks like, in its full length, into the folder of screenshots."""
        path = SCREENSHOTS / f"{name}-{self.look}.png"
        self.page.screenshot(path=path, full_page=True, animations="disabled")
        return path

    def taken_problems(self) -> list[str]:
        """Whatever went wrong in any of the pages since this was last asked, but for what was expected."""
        found = [problem for problem in self.problems if not any(one.search(problem) for one in self._expected)]
        self.problems.clear()
        self._expected.clear()
        return found

    def close(self) -> None:
        self.context.close()

    def _note(self, problem: str) -> None:
        self.problems.append(problem)

    def _asked(self, request: Request) -> None:
        target = urlsplit(request.url)
        if target.scheme not in _OWN_SCHEMES and target.netloc != self._host:
            self._note(f"asked another host: {request.url}")

    def _answered(self, response: Response) -> None:
        if response.status >= 400:
            self._note(f"{response.request.method} {response.url} was answered {response.status}")

    def _failed(self, request: Request) -> None:
        # What a page has asked for ends where somebody leaves it: that is no failure.
        if request.failure != "net::ERR_ABORTED":
            self._note(f"{request.method} {request.url} failed: {request.failure}")

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self._note(f"the browser's console: {message.text}")


def settled(page: Page) -> None:
    """Wait until the console's page takes clicks: its elements are there and its socket is open."""
    page.locator("#main h1").wait_for()
    page.wait_for_function("() => window.did_handshake === true")


def drawn(page: Page) -> None:
    """Wait until charts are drawn, and what has changed is on the screen."""
    page.wait_for_function(
        "() => Array.from(document.querySelectorAll('.pm-chart')).every((chart) => chart.querySelector('canvas'))"
    )
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def violations(page: Page, *, impacts: Iterable[str] = _SERIOUS) -> list[str]:
    """What axe-core finds of `impacts` on the page as it is now, one line each."""
    if page.evaluate("typeof axe === 'undefined'"):
        page.evaluate(AXE.read_text())
    found = page.evaluate(
        "axe.run(document, {resultTypes: ['violations'], runOnly: ['wcag2a','wcag2aa','wcag21a',"
        "'wcag21aa','wcag22aa','best-practice']})"
    )
    wanted = set(impacts)
    return [
        f"{one['id']} ({one['impact']}): {node['html'][:200]} {json.dumps(node['target'])} {_why(node)}"
        for one in found["violations"]
        if one["impact"] in wanted
        for node in one["nodes"][:5]
    ]


def scrolls_sideways(page: Page) -> bool:
    """Whether the page is wider than its window, as no page should be on a phone."""
    wider: bool = page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
    return wider


def _why(node: dict[str, Any]) -> str:
    return " ".join(str(check["message"]) for check in (*node["any"], *node["all"]))[:200]
