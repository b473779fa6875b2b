"""No request of any form reaches /crash or /generatecert through the load balancer.

Generated requests (spellings, raw bytes, methods, protocol versions, smuggling) go to the real nginx in front of the
real application.
Reaching a route shows in two ways: the answer holds a certificate, or a process of the application ended.

PHOENIX_EXAMPLES  number of generated requests (default 1500)
PHOENIX_HOST      host name to ask for, where it is not the one in PHOENIX_URL
"""

from __future__ import annotations

import collections
import dataclasses
import json
import os
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

EXAMPLES = int(os.environ.get("PHOENIX_EXAMPLES", "1500"))
BATCH = 250  # requests between two looks at the processes
FIRST_BYTE_S = 3.0
NGINX_PAGE = b"<center>nginx"


@dataclasses.dataclass(frozen=True)
class Request:
    target: bytes
    method: bytes = b"GET"
    version: str = "1.1"  # 0.9, 1.0, 1.1 or 2
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes = b""


@dataclasses.dataclass(frozen=True)
class Answer:
    status: int  # 0: none (connection closed, HTTP/0.9, timed out)
    raw: bytes


class Client:
    """Sends requests byte for byte as given, one connection each."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname, url
        self.tls = parts.scheme == "https"
        self.address = (parts.hostname, parts.port or (443 if self.tls else 80))
        self.host = os.environ.get("PHOENIX_HOST", parts.hostname).encode()
        self.statuses: collections.Counter[str] = collections.Counter()

    def send(self, request: Request) -> Answer:
        for _ in range(20):
            answer = self._http2(request) if request.version == "2" else self._http1(request)
            if answer.status != 429:
                break
            # The limit for one client must not hide what the request would have done.
            time.sleep(0.5)
        self.statuses[f"HTTP/{request.version} {answer.status}"] += 1
        return answer

    def _connect(self, protocols: list[str]) -> socket.socket:
        sock = socket.create_connection(self.address, timeout=FIRST_BYTE_S)
        if not self.tls:
            return sock
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # the lab's certificate is self-signed
        context.set_alpn_protocols(protocols)
        return context.wrap_socket(sock, server_hostname=self.address[0])

    def _http1(self, request: Request) -> Answer:
        target = request.target.replace(b"HOST", self.host)
        if request.version == "0.9":
            data = request.method + b" " + target + b"\r\n"
        else:
            lines = [request.method + b" " + target + b" HTTP/" + request.version.encode()]
            lines += [b"Host: " + self.host]
            lines += [name + b": " + value for name, value in request.headers]
            if not any(name.lower() == b"connection" for name, _ in request.headers):
                lines.append(b"Connection: close")
            data = b"\r\n".join(lines) + b"\r\n\r\n" + request.body.replace(b"HOST", self.host)
        raw = b""
        with self._connect(["http/1.1"]) as sock:
            try:
                sock.sendall(data)
                while chunk := sock.recv(65536):
                    raw += chunk
            except OSError:
                pass  # refused in the middle, or no more to come
        first = raw.split(b" ", 2)
        status = int(first[1]) if raw.startswith(b"HTTP/") and len(first) > 1 and first[1].isdigit() else 0
        return Answer(status, raw)

    def _http2(self, request: Request) -> Answer:
        config = h2.config.H2Configuration(
            validate_outbound_headers=False, normalize_outbound_headers=False, header_encoding=None
        )
        connection = h2.connection.H2Connection(config)
        headers: list[tuple[bytes, bytes]] = [
            (b":method", request.method),
            (b":scheme", b"https"),
            (b":authority", self.host),
            (b":path", request.target.replace(b"HOST", self.host)),
        ]
        forbidden = {b"connection", b"transfer-encoding", b"upgrade"}
        headers += [(n.lower(), v) for n, v in request.headers if n.lower() not in forbidden]
        status, raw = 0, b""
        with self._connect(["h2"]) as sock:
            try:
                connection.initiate_connection()
                connection.send_headers(1, headers, end_stream=not request.body)
                if request.body:
                    connection.send_data(1, request.body.replace(b"HOST", self.host), end_stream=True)
                sock.sendall(connection.data_to_send())
                while chunk := sock.recv(65536):
                    for event in connection.receive_data(chunk):
                        if isinstance(event, h2.events.ResponseReceived):
                            status = int(dict(event.headers or [])[b":status"])
                        elif isinstance(event, h2.events.DataReceived):
                            raw += event.data or b""
                        elif isinstance(
                            event, h2.events.StreamEnded | h2.events.StreamReset | h2.events.ConnectionTerminated
                        ):
                            return Answer(status, raw)
                    sock.sendall(connection.data_to_send())
            except (OSError, h2.exceptions.ProtocolError):
                pass
        return Answer(status, raw)


@pytest.fixture(scope="module")
def client(base_url: str) -> Iterator[Client]:
    client = Client(base_url)
    yield client
    print(f"\n{sum(client.statuses.values())} requests: {dict(sorted(client.statuses.items()))}")


# --- the generator ---------------------------------------------------------------------------------------------------
ROUTES = [b"crash", b"generatecert"]
PREFIXES = [
    *[b"/"] * 6, b"//", b"///", b"/./", b"/x/../", b"/../", b"/.//", b"/%2e/",
    b"/x/%2e%2e/", b"/%2f", b"/%2F/", b"\\", b"/\\",
    b"\\/", b"/%5c", b"/;/", b"", b"*", b"/\t", b"/ ", b"\xa0/", b" /", b"/%00/", b"http://HOST/", b"HTTP://HOST//",
    b"http://user@HOST/", b"http://HOST:80/", b"http://HOST\\", b"//HOST/", b"http:/",
    b"ftp://HOST/", b"http://other.test/",
    b"?/", b"#/", b"http://HOST?/", b"http://HOST#/",
]  # fmt: skip
SUFFIXES = [
    *[b""] * 6, b"/", b"//", b"/.", b"/./", b"/x/..", b"/..", b"/%2e", b"%2f", b"?", b"?a=b",
    b"/?a", b"#", b"#x", b"/#x", b"?#", b"%23",
    b"%3f", b"%20", b"%00", b"%0a", b"%0d%0a", b"%a0", b";", b";a=b", b"\\", b"%5c",
    b"\xa0", b"\xef\xbb\xbf", b"\xe2\x80\xa8",
    b"\x85", b"\t", b"\x0b", b"\x0c", b"\r", b"\n", b"\x00", b" ", b"  ", b"\x7f", b"\xff",
    b".", b"'", b'"', b"|", b"{", b"^", b"`", b"<",
]  # fmt: skip
METHODS = [
    *[b"GET"] * 6, b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"TRACE",
    b"CONNECT", b"PROPFIND", b"LOCK", b"PURGE",
    b"M-SEARCH", b"get", b"Get", b"FOO", b"SOURCE", b"PRI",
]  # fmt: skip
INNER = b"GET /crash HTTP/1.1\r\nHost: HOST\r\n\r\n"
CHUNKED = b"0\r\n\r\n" + INNER
EXTRAS: list[tuple[tuple[tuple[bytes, bytes], ...], bytes]] = [
    *[((), b"")] * 8,
    (((b"X-HTTP-Method-Override", b"GET"),), b""),
    (((b"X-Original-URL", b"/crash"), (b"X-Rewrite-URL", b"/crash")), b""),
    (((b"X-Forwarded-For", b"127.0.0.1"), (b"X-Forwarded-Path", b"/crash")), b""),
    (
        ((b"Connection", b"Upgrade, HTTP2-Settings"), (b"Upgrade", b"h2c"), (b"HTTP2-Settings", b"AAMAAABkAAQAAP__")),
        b"",
    ),
    (((b"Content-Length", str(len(INNER)).encode()),), INNER),
    (((b"Content-Length", b"0"),), INNER),
    (((b"Transfer-Encoding", b"chunked"),), CHUNKED),
    (((b"Content-Length", b"5"), (b"Transfer-Encoding", b"chunked")), CHUNKED),
    (((b"Content-Length", str(len(CHUNKED)).encode()), (b"Transfer-Encoding", b"chunked")), CHUNKED),
    (((b"Content-Length", str(len(CHUNKED)).encode()), (b"Transfer-Encoding", b"xchunked")), CHUNKED),
    (((b"Content-Length", str(len(CHUNKED)).encode()), (b"Transfer-Encoding ", b"chunked")), CHUNKED),
    (((b"Content-Length", str(len(CHUNKED)).encode()), (b"Transfer_Encoding", b"chunked")), CHUNKED),
    (((b"Content-Length", b"0"), (b"Content-Length", str(len(INNER)).encode())), INNER),
    (((b"Content-Length", b"0 0"),), INNER),
    (((b"X", b"a\r\n\r\n" + INNER),), b""),
    (((b"X", b"a\n\n" + INNER),), b""),
    (((b"X", b"a\r\rGET /crash HTTP/1.1\r"),), b""),
    (((b"Connection", b"keep-alive"), (b"Content-Length", b"0")), INNER + INNER),
]


def _spell(letter: int, how: str) -> bytes:
    char = bytes([letter])
    return {
        "plain": char,
        "upper": char.upper(),
        "percent": b"%%%02x" % letter,
        "PERCENT": b"%%%02X" % (letter ^ 0x20),
        "twice": b"%%25%02x" % letter,
    }[how]


@st.composite
def spelled(draw: st.DrawFn) -> bytes:
    route = draw(st.sampled_from(ROUTES))
    hows = draw(
        st.one_of(
            st.just(["plain"]),
            st.lists(st.sampled_from(["plain", "upper"]), min_size=1, max_size=12),
            st.lists(
                st.sampled_from(["plain", "plain", "upper", "percent", "PERCENT", "twice"]), min_size=1, max_size=12
            ),
        )
    )
    target = draw(st.sampled_from(PREFIXES))
    target += b"".join(_spell(letter, hows[i % len(hows)]) for i, letter in enumerate(route))
    target += draw(st.sampled_from(SUFFIXES)) + draw(
        st.one_of(st.just(b""), st.sampled_from(SUFFIXES), st.binary(max_size=2))
    )
    if draw(st.integers(0, 3)) == 0:
        at = draw(st.integers(0, len(target)))
        target = target[:at] + draw(st.binary(min_size=1, max_size=2)) + target[at:]
    return target


def requests(versions: list[str]) -> st.SearchStrategy[Request]:
    return st.builds(
        lambda target, method, version, extra: Request(target, method, version, *extra),
        spelled(),
        st.sampled_from(METHODS),
        st.sampled_from(versions),
        st.sampled_from(EXTRAS),
    )


# --- the tests -------------------------------------------------------------------------------------------------------
def check(answer: Answer, request: Request) -> None:
    assert b"BEGIN CERTIFICATE" not in answer.raw, f"/generatecert answered {request}"


def test_no_spelling_reaches_an_unwanted_route(client: Client, application_pids: Callable[[], Any]) -> None:
    before = application_pids()
    batch: list[Request] = []
    broken: list[str] = []

    def look() -> None:
        nonlocal before
        if application_pids() == before:
            batch.clear()
            return
        culprits = []
        for request in batch:  # which one was it?
            settled = settle(application_pids)
            client.send(request)
            if settle(application_pids) != settled:
                culprits.append(request)
        broken.append(f"a process of the application ended within {len(batch)} requests: {culprits or batch}")

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(requests(["0.9", "1.0", "1.1", "1.1", "2"] if client.tls else ["0.9", "1.0", "1.1", "1.1"]))
    def fire(request: Request) -> None:
        # Once broken, every further example says so: the loss can't be told from one example alone.
        assert not broken, broken[0]
        batch.append(request)
        check(client.send(request), request)
        if len(batch) >= BATCH:
            look()
            assert not broken, broken[0]

    fire()
    look()
    assert not broken, broken[0]


def settle(application_pids: Callable[[], Any]) -> Any:
    """The processes, once two readings half a second apart agree and all of them run (at most 20 s)."""
    last = application_pids()
    for _ in range(40):
        time.sleep(0.5)
        now = application_pids()
        if now == last and all(pid for pid, _ in now.values()):
            return now
        last = now
    return last


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE", "FOO"])
@pytest.mark.parametrize("target", ["/crash", "/generatecert", "/CRASH/", "/x/../crash?a", "/%63rash"])
def test_unwanted_routes_are_answered_with_404(client: Client, target: str, method: str) -> None:
    for version in ["1.0", "1.1", "2"] if client.tls else ["1.0", "1.1"]:
        request = Request(target.encode(), method.encode(), version)
        assert client.send(request).status == 404, request


@pytest.mark.parametrize(
    "target", ["/", "/crash-course", "/crashed", "/generatecerts", "/a/crash", "/?x=/crash", "/crash/x", "/crash.html"]
)
def test_neighbours_reach_the_application(client: Client, target: str) -> None:
    for version in ["1.0", "1.1", "2"] if client.tls else ["1.0", "1.1"]:
        answer = client.send(Request(target.encode(), version=version))
        assert answer.status in (200, 404), answer
        assert NGINX_PAGE not in answer.raw, f"nginx answered {target} itself: {answer}"


# Runs on the application's host: sends each target to one instance, past nginx, and prints what came of it.
DIRECT = r"""
import json, re, socket, subprocess, sys, time
unit, targets = sys.argv[1], json.loads(sys.argv[2])
port = re.search(r"@(\d+)", unit).group(1)
listening = subprocess.run(["ss", "-Hltn", "sport = :" + port], capture_output=True, text=True).stdout.split()
address = listening[3].rsplit(":", 1)[0].strip("[]")
address = {"*": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "127.0.0.1"}.get(address, address)
def pid():
    shown = subprocess.run(["systemctl", "show", unit, "-p", "MainPID", "--value"], capture_output=True, text=True)
    return shown.stdout.strip()
def connect():
    for _ in range(100):
        try:
            return socket.create_connection((address, int(port)), 30)
        except OSError:
            time.sleep(0.1)
    raise SystemExit("no instance at %s:%s" % (address, port))
out = []
for target in targets:
    sock, before, raw = connect(), pid(), b""
    try:
        sock.sendall(target.encode("latin-1") + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        while True:
            chunk = sock.recv(65536)
            if not chunk:
                break
            raw += chunk
    except OSError:
        pass
    time.sleep(0.3)
    certificate = b"BEGIN CERTIFICATE" in raw
    out.append({"target": target, "ended": pid() != before, "certificate": certificate})
print(json.dumps(out))
"""


def test_the_same_requests_reach_the_routes_past_nginx(
    application_hosts: dict[str, Any], application_pids: Callable[[], Any]
) -> None:
    """The control: what the other tests look for does happen when nginx is not in between."""
    name, unit = next(key for key, (pid, _) in application_pids().items() if pid).split("/")
    crash = [
        "GET /crash",
        "GET /CrAsH/",
        "HEAD /crash",
        "GET /crash?a",
        "GET /crash#x",
        "GET /crash\xa0",
        "GET \\crash",
    ]
    targets = [*crash, "GET /generatecert", "GET /GENERATECERT/?x"]
    ran = application_hosts[name].run("python3 -c %s %s %s", DIRECT, unit, json.dumps(targets))
    assert ran.rc == 0, ran.stderr
    reached = {one["target"]: one for one in json.loads(ran.stdout)}
    print(
        "\npast nginx:",
        {t: "ended" if o["ended"] else "certificate" if o["certificate"] else "-" for t, o in reached.items()},
    )
    settle(application_pids)
    for target in ("GET /crash", "GET /CrAsH/", "HEAD /crash", "GET /crash?a"):
        assert reached[target]["ended"], reached[target]
    for target in ("GET /generatecert", "GET /GENERATECERT/?x"):
        assert reached[target]["certificate"], reached[target]
