"""The applications of tests/fixtures/apps: what a client gets of each, on one machine as on a fleet."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
import ssl
import subprocess
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

APPS = Path(__file__).resolve().parents[1] / "fixtures" / "apps"


class Client:
    """A browser without a screen: it keeps cookies, and accepts the lab's certificate.

    urls: of a site, or of instances that are asked in turn; headers: sent with every request.
    """

    def __init__(self, *urls: str, headers: Mapping[str, str] | None = None) -> None:
        self.urls = itertools.cycle(urls)
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self.opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}),
            urllib.request.HTTPSHandler(context=context),
            urllib.request.HTTPCookieProcessor(),
        )
        self.opener.addheaders += (headers or {}).items()

    def open(self, path: str = "/", data: bytes | None = None, **headers: str) -> Any:
        return self.opener.open(urllib.request.Request(next(self.urls) + path, data, headers), timeout=60)

    def get(self, path: str = "/", data: bytes | None = None, **headers: str) -> str:
        with self.open(path, data, **headers) as answer:
            return str(answer.read().decode())


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


def session(client: Client) -> str:
    """Open a session of Socket.IO by polling, which may become a WebSocket; returns its name."""
    text = client.get("/socket.io/?EIO=3&transport=polling")
    opened = json.loads(text[text.index("{") : text.rindex("}") + 1])
    expect(opened["upgrades"], ["websocket"])
    return str(opened["sid"])


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
    "migration": page("schema 2\n"),
    "native": page("42\n"),
    "no-lock": page("no lock\n"),
    "sessions": visits,
    "socketio": session,
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
