#!/usr/bin/python3
"""Clients of the application long-lived, until SIGTERM: long_lived.py URL; prints what they saw as JSON.

By kind: opened, lost (one that was open ended), refused (one could not be opened), answers, and outage_s, the longest
time from a loss to the next answer. Polls and uploads are requests: sent and failed.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import signal
import socket
import ssl
import struct
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, BinaryIO
from urllib.parse import urlsplit

URL = urlsplit(sys.argv[1])
SOCKETS, STREAMS, POLLS = 20, 10, 10
UPLOAD = os.urandom(1 << 20) * 50
DIGEST = hashlib.sha256(UPLOAD).hexdigest().encode()
WAIT_S = 30
ended = threading.Event()
lock = threading.Lock()
seen: dict[str, dict[str, float]] = {
    kind: {"opened": 0, "lost": 0, "refused": 0, "answers": 0, "outage_s": 0.0}
    for kind in ("websocket", "polling", "events")
}
requests: dict[str, dict[str, float]] = {
    kind: {"sent": 0, "failed": 0, "slowest_s": 0.0} for kind in ("poll", "upload")
}


Answered = Callable[[], None]
Headers = dict[str, list[str]]


class Lost(Exception):
    pass


def connect() -> socket.socket:
    port = URL.port or (443 if URL.scheme == "https" else 80)
    plain = socket.create_connection((str(URL.hostname), port), WAIT_S)
    plain.settimeout(WAIT_S)
    if URL.scheme != "https":
        return plain
    context = ssl._create_unverified_context()  # the lab's certificate is self-signed
    return context.wrap_socket(plain, server_hostname=URL.hostname)


def ask(connection: socket.socket, path: str, *headers: str, method: str = "GET", data: bytes = b"") -> None:
    lines = [f"{method} {path} HTTP/1.1", f"Host: {URL.hostname}", *headers]
    if data or method == "POST":
        lines.append(f"Content-Length: {len(data)}")
    connection.sendall("\r\n".join([*lines, "", ""]).encode() + data)


def head(stream: BinaryIO) -> tuple[int, Headers]:
    """The status and the headers of an answer."""
    status = stream.readline().split()
    if len(status) < 2:
        raise Lost
    headers: Headers = {}
    while line := stream.readline().strip():
        name, _, value = line.decode("latin-1").partition(":")
        headers.setdefault(name.lower(), []).append(value.strip())
    return int(status[1]), headers


def whole(path: str, *headers: str, method: str = "GET", data: bytes = b"") -> tuple[int, Headers, bytes]:
    """One request on a connection of its own: status, headers, body."""
    with contextlib.closing(connect()) as connection:
        ask(connection, path, "Connection: close", *headers, method=method, data=data)
        with connection.makefile("rb") as stream:
            status, found = head(stream)
            return status, found, stream.read()


def exactly(stream: BinaryIO, count: int) -> bytes:
    data = stream.read(count)
    if len(data) < count:
        raise Lost
    return data


def receive(stream: BinaryIO) -> str:
    """The text of the next frame; RFC 6455, unmasked and not fragmented, as the server sends them."""
    first, second = exactly(stream, 2)
    length = second & 127
    if length > 125:
        length = struct.unpack("!H" if length == 126 else "!Q", exactly(stream, 2 if length == 126 else 8))[0]
    data = exactly(stream, length)
    if first & 15 == 8:
        raise Lost
    return data.decode()


def send(connection: socket.socket, text: str) -> None:
    mask, data = os.urandom(4), text.encode()
    assert len(data) < 126
    masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(data))
    connection.sendall(bytes([0x81, 0x80 | len(data)]) + mask + masked)


def websocket(answered: Answered) -> None:
    """Socket.IO 2 over WebSocket alone: says something twice a second, and has it said back."""
    with contextlib.closing(connect()) as connection, connection.makefile("rb") as stream:
        key = base64.b64encode(os.urandom(16)).decode()
        ask(
            connection, "/socket.io/?EIO=3&transport=websocket", "Connection: Upgrade", "Upgrade: websocket",
            "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}",
        )  # fmt: skip
        if head(stream)[0] != 101:
            return
        number = 0
        while not ended.is_set():
            number += 1
            send(connection, f'42["say","{number}"]')
            if number % 20 == 0:
                send(connection, "2")
            while receive(stream) != f'42["said","{number}"]':
                pass
            answered()
            ended.wait(0.5)


def polling(answered: Answered) -> None:
    """Socket.IO 2 over polls alone, which need one instance: with the cookies that nginx sets."""
    status, headers, body = whole("/socket.io/?EIO=3&transport=polling")
    if status != 200:
        return
    cookie = "Cookie: " + "; ".join(one.split(";")[0] for one in headers.get("set-cookie", []))
    session = json.loads(body[body.index(b"{") : body.index(b"}") + 1])["sid"]
    path = f"/socket.io/?EIO=3&transport=polling&sid={session}"
    number, pending = 0, b""
    while not ended.is_set():
        number += 1
        text = f'42["say","{number}"]'
        if whole(path, cookie, method="POST", data=f"{len(text)}:{text}".encode())[0] != 200:
            raise Lost
        while f'"said","{number}"'.encode() not in pending:
            status, _, body = whole(path, cookie)
            if status != 200:
                raise Lost
            pending = body
        answered()
        ended.wait(0.5)


def events(answered: Answered) -> None:
    with contextlib.closing(connect()) as connection, connection.makefile("rb") as stream:
        ask(connection, "/events", "Accept: text/event-stream")
        if head(stream)[0] != 200:
            return
        while not ended.is_set():
            line = stream.readline()
            if not line:
                raise Lost
            if line.startswith(b"data:"):
                answered()


def keep_open(kind: str, client: Callable[[Answered], None]) -> None:
    """Open it again at once whenever it ends, as the libraries of browsers do after a moment."""
    # since: of the loss of the one before
    state: dict[str, Any] = {"open": False, "since": None}

    def answered() -> None:
        with lock:
            if not state["open"]:
                state["open"] = True
                seen[kind]["opened"] += 1
                outage = time.monotonic() - state["since"] if state["since"] else 0.0
                seen[kind]["outage_s"] = max(seen[kind]["outage_s"], round(outage, 2))
            seen[kind]["answers"] += 1

    while not ended.is_set():
        state["open"] = False

        with contextlib.suppress(OSError, Lost, ValueError):
            client(answered)
        if ended.is_set():
            return
        if state["open"]:
            state["since"] = time.monotonic()
        with lock:
            seen[kind]["lost" if state["open"] else "refused"] += 1
        time.sleep(0.2)


def again(kind: str, pause: float, path: str, wanted: bytes, **request: Any) -> None:
    while not ended.is_set():
        began = time.monotonic()
        try:
            status, _, body = whole(path, **request)
            good = status == 200 and body == wanted
        except (OSError, Lost, ValueError):
            good = False
        with lock:
            requests[kind]["sent"] += 1
            requests[kind]["failed"] += not good
            requests[kind]["slowest_s"] = max(requests[kind]["slowest_s"], round(time.monotonic() - began, 2))
        ended.wait(pause)


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    threads = [threading.Thread(target=keep_open, args=("websocket", websocket)) for _ in range(SOCKETS)]
    threads += [threading.Thread(target=keep_open, args=("polling", polling)) for _ in range(STREAMS)]
    threads += [threading.Thread(target=keep_open, args=("events", events)) for _ in range(STREAMS)]
    threads += [threading.Thread(target=again, args=("poll", 0.1, "/poll", b"news\n")) for _ in range(POLLS)]
    threads.append(
        threading.Thread(target=again, args=("upload", 1, "/upload", DIGEST), kwargs={"method": "POST", "data": UPLOAD})
    )
    for thread in threads:
        thread.daemon = True
        thread.start()
    while not ended.wait(1):
        pass
    time.sleep(0.5)
    with lock:
        print(json.dumps({**seen, **requests}))


if __name__ == "__main__":
    main()
