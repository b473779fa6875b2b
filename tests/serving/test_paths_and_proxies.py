"""Limits of single paths, compression, and who the client is, through a real nginx with the role's configuration."""

from __future__ import annotations

import gzip
import socket
import ssl
import time
from argparse import Namespace
from contextlib import closing
from ipaddress import ip_network
from secrets import token_hex
from typing import Any

import pytest

from phoenix.balancer import proxies, upstreams
from phoenix.monitoring import nginx as monitoring
from tests.harness.real_nginx import NAME, Connection, Instances, Site, Sites, body, header
from tests.harness.wire import Request
from tests.unit.shared import inputs

BIG = b"x" * 1_500_000


@pytest.fixture(scope="module")
def limited(sites: Sites) -> Site:
    return sites(
        nginx_proxy_read_timeout="1s",
        nginx_paths=[
            {"path": "/upload/", "body_max": "2m"},
            {"path": "/slow/long", "timeout": "20s"},
            {"path": "/events", "buffering": False},
        ],
    )


def sent(site: Site, method: str, path: str, chunked: bool) -> int:
    request_body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BIG), BIG) if chunked else BIG
    framing = (b"Transfer-Encoding", b"chunked") if chunked else (b"Content-Length", b"%d" % len(BIG))
    return site.client().send(Request(path.encode(), method.encode(), headers=(framing,), body=request_body)).status


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_path_has_its_own_largest_body(limited: Site, method: str, chunked: bool) -> None:
    assert sent(limited, method, "/upload/a", chunked) == 200
    assert sent(limited, method, "/elsewhere", chunked) == 413


@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
def test_a_path_has_its_own_time(limited: Site, method: str) -> None:
    answers = {path: limited.get(path, method=method.encode()).status for path in ("/slow/long", "/slow/other")}
    assert answers == {"/slow/long": 200, "/slow/other": 504}


def test_a_path_is_sent_on_as_it_comes(limited: Site) -> None:
    with closing(Connection(limited, "/events")) as connection:
        assert b"data: 2" not in connection.read_until(b"data: 1")


def test_a_path_of_its_own_is_retried_and_blocked_like_any(sites: Sites, instances: Instances) -> None:
    site, mark = (
        sites(nginx_paths=[{"path": "/fail", "timeout": "9s"}, {"path": "/cra", "timeout": "9s"}]),
        token_hex(4),
    )
    assert body(site.get(f"/fail?{mark}"))["port"] == instances.spare
    assert site.get(f"/fail?{mark}", method=b"PUT").status == 502
    assert instances.seen().count(f"PUT /fail?{mark}") == 1
    assert site.get("/crash").status == 404


# --- assets of two releases


@pytest.fixture(scope="module")
def with_assets(sites: Sites) -> Site:
    return sites(nginx_asset_paths=["/assets/", "/fail/assets/", "/cra"])


def test_an_asset_of_either_release_is_found(with_assets: Site, instances: Instances) -> None:
    for port in [*instances.ordinary, instances.spare]:
        for number in range(6):  # whichever is asked first
            answer = with_assets.get(f"/assets/{port}/{number}-{token_hex(4)}")
            assert (answer.status, body(answer)["port"]) == (200, port)


def test_an_asset_of_no_release_is_asked_of_each_instance_once(with_assets: Site, instances: Instances) -> None:
    path = f"/assets/0/{token_hex(4)}"
    assert with_assets.get(path).status == 404
    asked = [line for port in (*instances.ordinary, instances.spare) for line in instances.seen(port)]
    assert asked.count(f"GET {path}") == 3


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_what_changes_something_is_asked_once(with_assets: Site, instances: Instances, method: str) -> None:
    path = f"/assets/0/{token_hex(4)}"
    assert with_assets.get(path, method=method.encode()).status == 404
    assert instances.seen().count(f"{method} {path}") == 1


def test_an_asset_path_fails_over_and_is_blocked_like_any(with_assets: Site, instances: Instances) -> None:
    mark = token_hex(4)
    assert body(with_assets.get(f"/fail/assets/{mark}"))["port"] == instances.spare
    assert instances.seen().count(f"GET /fail/assets/{mark}") == 2
    assert with_assets.get("/crash").status == 404


def test_elsewhere_a_missing_file_is_asked_once(site: Site, instances: Instances) -> None:
    path = f"/assets/0/{token_hex(4)}"
    assert site.get(path).status == 404
    assert instances.seen().count(f"GET {path}") == 1


# --- compression

LONG = ("X-Own", "a" * 2000)


def test_text_is_compressed_for_those_who_accept_it(site: Site) -> None:
    answer = site.get("/", LONG, ("Accept-Encoding", "gzip"))
    assert (header(answer, "Content-Encoding"), header(answer, "Vary")) == ("gzip", "Accept-Encoding")
    assert b"a" * 2000 in gzip.decompress(unchunked(answer.raw.split(b"\r\n\r\n", 1)[1]))
    assert header(site.get("/", LONG), "Content-Encoding") is None


def unchunked(raw: bytes) -> bytes:
    data = b""
    while (size := int(raw.split(b"\r\n", 1)[0], 16)) > 0:
        raw = raw.split(b"\r\n", 1)[1]
        data, raw = data + raw[:size], raw[size + 2 :]
    return data


@pytest.mark.parametrize(
    ("path", "headers"),
    [("/", ()), ("/?encoded", (LONG,)), ("/?type=image/png", (LONG,))],
    ids=["short", "done", "image"],
)
def test_nothing_else_is_compressed(site: Site, path: str, headers: tuple[tuple[str, str], ...]) -> None:
    answer = site.get(path, *headers, ("Accept-Encoding", "gzip"))
    assert answer.status == 200 and header(answer, "Content-Encoding") in (None, "br")


# --- who the client is

REPLACED = ["X-Forwarded-For", "X-Real-IP", "X-Forwarded-Host", "X-Forwarded-Port", "X-Forwarded-Proto"]
# Whatever the role's own list has.
REMOVED = ["X-Client-IP", "True-Client-IP", "CF-Connecting-IP", "Forwarded", "X_Forwarded_For", "X-Forwarded-Ssl"]
REMOVED += ["X-Forwarded-Prefix", "Front-End-Https", "X-HTTP-Method-Override", "X-Original-URL", "X-Rewrite-URL"]


@pytest.mark.parametrize("version", ["1.0", "1.1", "2"])
def test_a_client_can_not_name_itself(site: Site, version: str) -> None:
    """Nor its scheme, host, path or method; the rest of its request arrives as it is."""
    lie, names = "192.0.2.9", {*REPLACED, *REMOVED, *inputs("nginx")["__nginx_cleared_headers"], "X-Own"}
    headers = [(name, lie) for name in names]
    got = body(site.get("/a%20b?c=d", *headers, version=version))
    assert (got["method"], got["path"]) == ("GET", "/a%20b?c=d")
    assert [name for name, value in got["headers"].items() if lie in value] == ["x-own"]
    host, port = f"{NAME}:{site.https}", str(site.https)
    assert got["headers"].items() >= {
        ("host", host),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-host", host),
        ("x-forwarded-port", port),
        ("x-forwarded-proto", "https"),
        ("x-real-ip", "127.0.0.1"),
    }


def seen_client(site: Site, *headers: tuple[str, str]) -> tuple[str, str, str]:
    got = body(site.get("/", *headers))["headers"]
    return got["x-real-ip"], got["x-forwarded-for"], got["x-forwarded-proto"]


def test_only_a_trusted_proxy_names_the_client_and_the_scheme(sites: Sites) -> None:
    headers = (("X-Forwarded-For", "198.51.100.1, 192.0.2.9"), ("X-Forwarded-Proto", "http"))
    assert seen_client(sites(nginx_trusted_proxies=["192.0.2.0/24"]), *headers) == ("127.0.0.1", "127.0.0.1", "https")
    site = sites(nginx_trusted_proxies=["127.0.0.0/8"])
    assert seen_client(site, *headers) == ("192.0.2.9", "192.0.2.9", "http")
    mark = token_hex(4)
    site.get(f"/{mark}", *headers)
    assert site.logged(f"/{mark}")["client"] == "192.0.2.9"


def test_limits_count_clients_behind_a_proxy_apart(sites: Sites) -> None:
    """IPv6 by networks of 64 bits."""
    site = sites(nginx_trusted_proxies=["127.0.0.1"], nginx_client_rate=1, nginx_client_burst=1)

    def statuses(*clients: str) -> list[int]:
        client = site.client()
        found = []
        for address in clients:
            with client.connect(["http/1.1"]) as connection:
                lines = f"GET / HTTP/1.1\r\nHost: {NAME}\r\nX-Forwarded-For: {address}\r\nConnection: close\r\n\r\n"
                connection.sendall(lines.encode())
                found.append(int(connection.recv(65536).split(b" ", 2)[1]))
        return found

    assert statuses(*["192.0.2.9"] * 4)[2:] == [429, 429]
    assert statuses("192.0.2.10", "192.0.2.11", "192.0.2.12", "192.0.2.13") == [200] * 4
    assert 429 in statuses(*[f"2001:db8:1:2:{number}::1" for number in range(1, 7)])
    assert 429 in statuses(*[f"2001:db8::{number}:1:1:1" for number in range(1, 7)])
    assert statuses(*[f"2001:db8:1:{number}::1" for number in range(3, 7)]) == [200] * 4


def proxied(site: Site, begin: bytes, source: str) -> bytes:
    """The answer over a connection from an address of this host's, as a balancer opens it; of no bytes if refused."""
    context = ssl._create_unverified_context()
    with socket.create_connection((address_of_this_host(), site.https), 10, (source, 0)) as plain:
        plain.sendall(begin)
        try:
            with context.wrap_socket(plain, server_hostname=NAME) as connection:
                connection.sendall(f"GET / HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n\r\n".encode())
                data = b""
                while chunk := connection.recv(65536):
                    data += chunk
                return data
        except (ssl.SSLError, ConnectionError):
            return b""


def address_of_this_host() -> str:
    """Another one than 127.0.0.1, which is exempt."""
    return "127.0.0.2"


def test_client_is_named_by_the_proxy_protocol(sites: Sites) -> None:
    site = sites(nginx_proxy_protocol=True, nginx_trusted_proxies=["127.0.0.9"])
    begin = b"PROXY TCP4 192.0.2.77 198.51.100.1 5555 443\r\n"
    assert b'"x-forwarded-for": "192.0.2.77"' in proxied(site, begin, "127.0.0.9")
    assert b'"x-forwarded-for": "127.0.0.8"' in proxied(site, begin, "127.0.0.8"), "not a trusted proxy"
    assert proxied(site, b"", "127.0.0.9") == b""
    assert site.get("/").status == 200, "this host's own checks need none"
    seen = monitoring.Site("lb1", "127.0.0.2", f"https://{NAME}:{site.https}/", proxy_protocol=True)
    assert seen.error() == "", "and the hosts that ask for the site speak it"


def test_proxies_that_do_not_speak_the_protocol_are_seen(sites: Sites, monkeypatch: pytest.MonkeyPatch) -> None:
    """In nginx's own words: what is connected from elsewhere, and what is announced, is not among them."""
    site = sites(nginx_proxy_protocol=True, nginx_trusted_proxies=["127.0.0.9"])
    monkeypatch.setattr(proxies, "ERRORS", site.folder / "log" / "error.log")
    monkeypatch.setattr(upstreams, "LOG", site.folder / "log" / "access.log")

    def watch(*sources: tuple[bytes, str], own: str = "192.0.2.99") -> Any:
        def ask() -> None:
            for begin, source in sources:
                proxied(site, begin, source)
            with socket.create_connection((address_of_this_host(), site.http), 10, ("127.0.0.9", 0)) as connection:
                connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                assert connection.recv(1) == b""

        monkeypatch.setattr(time, "sleep", lambda _: ask())
        options = Namespace(proxy=[ip_network("127.0.0.9/32")], own=[own], seconds=1)
        return proxies.watch(options)

    announced = b"PROXY TCP4 192.0.2.77 198.51.100.1 5555 443\r\n"
    before = watch((b"", "127.0.0.9"), (b"", "127.0.0.8"))
    assert before == {"closed": 2, "last": "127.0.0.9", "answered": 0}, "one by TLS, one without"
    after = watch((announced, "127.0.0.9"), (announced, "127.0.0.9"))
    assert after == {"closed": 1, "last": "127.0.0.9", "answered": 2}
    assert watch((announced, "127.0.0.9"), own="192.0.2.77")["answered"] == 0, "a check of the fleet's own"
