"""The status page in a real browser, headless, driven by ChromeDriver over the protocol of WebDriver.

https://www.w3.org/TR/webdriver2/. PHOENIX_SCREENSHOT names a file for the picture of the invented fleet, as
docs/status-page.png was made.
"""

from __future__ import annotations

import base64
import http.server
import json
import os
import shutil
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from phoenix.page.layout import page
from tests.harness.picture import HOSTILE, picture

# Without the flags for the background, a browser asks for updates over the network.
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"


@dataclass
class Browser:
    """A session of ChromeDriver."""

    url: str

    def ask(self, method: str, path: str, **body: Any) -> Any:
        data = None if method == "GET" else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}{path}", data, {"Content-Type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)["value"]

    def run(self, script: str) -> Any:
        """What a function's body returns in the page."""
        return self.ask("POST", "/execute/sync", script=script, args=[])

    def log(self) -> list[str]:
        """The console's messages, violations of the page's policy among them."""
        return [entry["message"] for entry in self.ask("POST", "/se/log", type="browser")]


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    program = shutil.which("chromedriver")
    assert program, "chromedriver is missing: run lab/bootstrap checks, or apt-get install chromium chromium-driver"
    log = tmp_path_factory.mktemp("driver") / "log"
    with log.open("w") as stream:
        process = subprocess.Popen([program, "--port=0"], stdout=stream, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + 60
        while "was started successfully on port " not in log.read_text():
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        port = log.read_text().rpartition("was started successfully on port ")[2].split(".")[0]
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


@pytest.fixture
def browser(driver: str, tmp_path: Path) -> Iterator[Browser]:
    options = {"args": [*FLAGS, f"--user-data-dir={tmp_path / 'profile'}"], "binary": shutil.which("chromium")}
    wanted = {"alwaysMatch": {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}}
    session = Browser(f"{driver}/session").ask("POST", "", capabilities=wanted)
    own = Browser(f"{driver}/session/{session['sessionId']}")
    yield own
    own.ask("DELETE", "")


class Served(http.server.BaseHTTPRequestHandler):
    content = ""
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(self.content.encode())

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def site() -> Iterator[str]:
    """The address of a server that answers every path with the page, and notes what is asked for."""
    Served.asked.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Served) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/phoenix/"
        server.shutdown()
        thread.join()


def show(browser: Browser, site: str, content: str, width: int = 1280, height: int = 1480) -> None:
    Served.content = content
    browser.ask("POST", "/window/rect", width=width, height=height)
    browser.ask("POST", "/url", url=site)


def now(content: str) -> str:
    """The page as if it had just been written."""
    return content.replace(f'data-written="{picture().now:.0f}"', f'data-written="{time.time():.0f}"')


def test_the_page_is_drawn_and_loads_nothing(browser: Browser, site: str) -> None:
    show(browser, site, now(page(picture())))
    assert Served.asked == ["/phoenix/"], "nothing but the page itself, not even an icon"
    assert browser.run("return performance.getEntriesByType('resource').map(r => r.name)") == []
    assert browser.log() == [], "neither an error nor a violation of the page's policy"
    assert browser.run("return document.title") == "Phoenix", f"{HOSTILE} is shown, and not run"
    text = browser.run("return document.body.innerText")
    for expected in (
        "2 open, 1 of them critical",
        "silent for 5 min 40 s",
        "7 dumps",
        "the oplog reaches to 4 s ago",
        "rolled back",
        "Out of rotation: 192.0.2.23:3000",
        "2 wanted of 3",
        "equals what it was taken from",
        HOSTILE,
    ):
        assert expected in text
    assert browser.run("return document.getElementById('stale').hidden")
    # Lines are where a person sees them: within their charts, over most of the width, and high enough to read.
    charts = browser.run(
        """return [...document.querySelectorAll('figure > svg')].map(svg => {
          const box = svg.getBoundingClientRect();
          return {width: box.width, lines: [...svg.querySelectorAll('polyline')].map(line => {
            const own = line.getBoundingClientRect();
            const across = own.left >= box.left && own.right <= box.right;
            return {inside: across && own.top >= box.top && own.bottom <= box.bottom,
                    width: own.width / box.width, height: own.height / box.height};
          })};
        })"""
    )
    rate, capacity = charts
    assert [len(chart["lines"]) for chart in charts] == [2, 3], "the rate has a gap"
    assert all(line["inside"] for chart in charts for line in chart["lines"])
    assert sum(line["width"] for line in rate["lines"]) > 0.8
    assert all(line["width"] > 0.8 and line["height"] > 0.4 for line in capacity["lines"])
    if target := os.environ.get("PHOENIX_SCREENSHOT"):
        show(browser, site, now(page(picture(said=""))), height=600)
        whole = "return document.documentElement.scrollHeight + window.outerHeight - window.innerHeight"
        browser.ask("POST", "/window/rect", width=1280, height=browser.run(whole))
        Path(target).write_bytes(base64.b64decode(browser.ask("GET", "/screenshot")))


@pytest.mark.parametrize("width", [1280, 800, 500])
def test_the_page_fits_its_window(width: int, browser: Browser, site: str) -> None:
    show(browser, site, now(page(picture())), width)
    assert browser.run("return document.documentElement.scrollWidth <= window.innerWidth")
    # Tables may scroll within their place; headings, charts and texts may not be cut.
    cut = browser.run(
        "return [...document.querySelectorAll('h1, h2, figure, figcaption, p, header')]"
        ".filter(e => !e.hidden && e.getBoundingClientRect().right > window.innerWidth + 1).map(e => e.outerHTML)"
    )
    assert cut == []


def test_a_page_that_nobody_renews_says_so(browser: Browser, site: str) -> None:
    show(browser, site, page(replace(picture(), now=time.time() - 600)))
    assert "This page is 10 minutes old: phoenix-page.timer" in browser.run("return document.body.innerText")


def test_the_policy_stops_what_would_be_loaded(browser: Browser, site: str) -> None:
    """The control: this is how a page with a foreign resource and a foreign script would fail."""
    foreign = "<img src='/elsewhere.png'><script>document.title = 'broken'</script></main>"
    show(browser, site, now(page(picture())).replace("</main>", foreign))
    assert any("Content Security Policy" in message for message in browser.log())
    assert browser.run("return document.title") == "Phoenix"
    assert Served.asked == ["/phoenix/"]
