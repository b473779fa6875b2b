"""The applications of tests/fixtures/apps: what a client gets of each, on one machine as on a fleet."""

from __future__ import annotations

import base64
import hashlib
import http.client
import http.cookiejar
import itertools
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

APPS = Path(__file__).resolve().parents[1] / "fixtures" / "apps"


class Client:
    """A browser without a screen: it keeps cookies, and accepts the lab's certificate.

    urls: of a site, or of instances that are asked in turn; headers: sent with every request.
    """

    def __init__(self, *urls: str, headers: Mapping[str, str] | None = None) -> None:
        self.urls = itertools.cycle(urls)
        self.context = ssl._create_unverified_context()
        self.cookies = http.cookiejar.CookieJar()
        self.opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}),
            urllib.request.HTTPSHandler(context=self.context),
            urllib.request.HTTPCookieProcessor(self.cookies),
        )
        self.opener.addheaders += (headers or {}).items()

    def open(self, path: str = "/", data: bytes | None = None, **headers: str) -> Any:
        return self.opener.open(urllib.request.Request(next(self.urls) + path, data, headers), timeout=60)

    def get(self, path: str = "/", data: bytes | None = None, **headers: str) -> str:
        with self.open(path, data, **headers) as answer:
            return str(answer.read().decode())

    @contextmanager
    def upgraded(self, path: str) -> Iterator[socket.socket]:
        """A connection that has become a WebSocket."""
        request = urllib.request.Request(next(self.urls) + path)
        self.cookies.add_cookie_header(request)
        url = urlsplit(request.full_url)
        connection = (
            http.client.HTTPSConnection(url.netloc, timeout=60, context=self.context)
            if url.scheme == "https"
            else http.client.HTTPConnection(url.netloc, timeout=60)
        )
        key = base64.b64encode(os.urandom(16)).decode()
        headers = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
        with closing(connection):
            connection.request(
                "GET", path, headers={**headers, "Sec-WebSocket-Key": key, **dict(request.header_items())}
            )
            expect(connection.getresponse().status, 101)
            yield connection.sock


def expect(seen: Any, wanted: Any) -> None:
    if seen != wanted:
        raise AssertionError(f"the application answered {seen!r} instead of {wanted!r}")


def page(text: str) -> Callable[[Client], None]:
    return lambda client: expect(client.get(), text)


def content(values: Mapping[str, Any]) -> Callable[[Client], None]:
    return lambda client: expect(json.loads(client.get()), values)


def visits(client: Client) -> None:
    expect([client.get() for _ in range(3)], [f"visit {number}\n" for number in (1, 2, 3)])


def grows(client: Client) -> None:
    first, second = int(client.get()), int(client.get())
    expect(second > first > 0, True)


def counted(client: Client) -> None:
    """A page that counts its visits, of which others may have been in between."""
    first, second = (re.fullmatch("<h1>Legacy</h1><p>([0-9]+) visits</p>", client.get()) for _ in range(2))
    expect(bool(first and second and int(second[1]) > int(first[1]) > 0), True)


def session(client: Client) -> str:
    """Open a session of Socket.IO by polling, which may become a WebSocket; returns its name."""
    text = client.get("/socket.io/?EIO=3&transport=polling")
    opened = json.loads(text[text.index("{") : text.rindex("}") + 1])
    expect(opened["upgrades"], ["websocket"])
    return str(opened["sid"])


def talk(client: Client) -> None:
    """Have a message said back by Socket.IO over a WebSocket that began as polls."""
    path = f"/socket.io/?EIO=3&transport=websocket&sid={session(client)}"
    with client.upgraded(path) as connection, connection.makefile("rb") as frames:
        for said, wanted in (("2probe", "3probe"), ("5", ""), ('42["say","news"]', '42["said","news"]')):
            # As a client has to, with a mask, of zeros; a server sends short texts in one frame without.
            connection.sendall(bytes([0x81, 0x80 | len(said), 0, 0, 0, 0]) + said.encode())
            seen = ""
            while seen != wanted:
                head = frames.read(2)
                expect(len(head), 2)
                seen = frames.read(head[1]).decode()


def stream(client: Client) -> None:
    with client.open("/events", Accept="text/event-stream") as answer:
        seen = b""
        while b"tick 3" not in seen:
            block = answer.readline()
            expect(bool(block), True)
            seen += block
    expect(client.get("/publish", b""), "published\n")


def upload(client: Client) -> None:
    sent = os.urandom(1 << 20) * 50
    head = b'--edge\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n\r\n'
    form = {"Content-Type": "multipart/form-data; boundary=edge"}
    answer = json.loads(client.get("/files", head + sent + b"\r\n--edge--\r\n", **form))
    expect(answer, {"size": len(sent), "sha256": hashlib.sha256(sent).hexdigest()})
    expect(len(client.get("/download?pieces=500")), 500 * 4096)


def note(client: Client) -> None:
    expect("/first\n" in client.get("/first"), True)


USES: Mapping[str, Callable[[Client], object]] = {
    "esm": grows,
    "git-dependency": page("hello from git\n"),
    "https-redirect": page("https\n"),
    "legacy-app": counted,
    "migration": page("schema 2\n"),
    "native": page("42\n"),
    "no-lock": page("no lock\n"),
    "sessions": visits,
    "socketio": talk,
    "start-shapes": content({"preloaded": True, "colour": "blue", "version": "2.3.4"}),
    "streams": stream,
    "typescript": content({"from": "typescript"}),
    "uploads": upload,
    "writes-beside": note,
}


def write_git_dependency(folder: Path, repository: str) -> None:
    """Write the source whose dependency comes from the Git repository of this URL."""
    shutil.copytree(APPS / "git-dependency", folder, ignore=shutil.ignore_patterns("greeting"))
    package = folder / "package.json"
    text = package.read_text(encoding="utf-8")
    package.write_text(text.replace("file:///REPOSITORY", repository), encoding="utf-8")


def make_repository(folder: Path) -> None:
    """Make a Git repository that holds this dependency."""
    shutil.copytree(APPS / "git-dependency" / "greeting", folder)
    git = ["git", "-c", "user.name=Corpus", "-c", "user.email=corpus@example.org"]
    for words in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message", "First"]):
        subprocess.run([*git, *words], cwd=folder, check=True)
