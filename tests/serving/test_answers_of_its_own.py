"""What nginx answers and notes by itself, through a real one with the role's configuration.

Maintenance, pages, redirects, certificates, unwanted routes, counters and the log.
"""

from __future__ import annotations

import socket
import ssl
from secrets import token_hex

import pytest

from phoenix.balancer import upstreams
from phoenix.monitoring.nginx import count_statuses
from tests.harness.real_nginx import NAME, Instances, Site, Sites, body, header, listens
from tests.harness.waiting import wait_for
from tests.harness.wire import Client, Request

OTHER = "other.example.org"
# This host's other addresses, for 127.0.0.1 is always let in.
CLIENT, VISITOR = "127.0.0.3", "127.0.0.4"


@pytest.fixture(scope="module")
def own(sites: Sites) -> Site:
    return sites(
        __nginx_pages=["413", "429", "502", "503", "504"],
        nginx_maintenance_visitors=[VISITOR],
        nginx_proxy_read_timeout="1s",
        nginx_certificates=[{"names": [OTHER, "more.example.org"], "certificate": "", "key": ""}],
        nginx_redirects=[
            {"names": ["example.org", "old.example.org"], "to": NAME},
            {"names": ["more.example.org"], "to": OTHER},
        ],
    )


@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
def test_failures_have_our_own_pages(own: Site, method: str) -> None:
    for path, status in (("/slow", 504), (f"/fail?{token_hex(4)}", 502)):
        if (method, status) == ("GET", 502):
            continue  # the spare answers it
        answer = own.get(path, method=method.encode())
        assert answer.status == status
        assert f"our own page for {status}".encode() in answer.raw, answer
    body = b"x" * 1_500_000
    answer = own.client().send(Request(b"/", b"POST", headers=((b"Content-Length", b"%d" % len(body)),), body=body))
    assert answer.status == 413 and b"our own page for 413" in answer.raw


def test_pages_are_no_paths_of_the_site(own: Site, instances: Instances) -> None:
    before = instances.seen()
    assert own.get("/.phoenix/503.html").status == 404
    assert instances.seen() == before


def test_maintenance_answers_all_but_visitors(own: Site, instances: Instances, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through phoenixctl, as the play does, and a change of the upstreams keeps it."""
    monkeypatch.setattr(upstreams, "UPSTREAMS", own.folder / "phoenix" / "upstreams.conf")
    monkeypatch.setattr(upstreams, "PID", own.folder / "pid")
    monkeypatch.setattr(upstreams, "LOADED", own.folder / "loaded")
    monkeypatch.setattr(upstreams, "SOURCES", (own.folder / "nginx.conf", own.folder / "phoenix"))
    monkeypatch.setattr(upstreams, "_nginx", lambda *arguments: own.run(*(a for a in arguments if a != "-q")))
    monkeypatch.setattr(upstreams, "try_out", lambda _: None)
    mark, before = token_hex(4), instances.seen()
    assert upstreams.set_maintenance(True) and not upstreams.set_maintenance(True)
    try:
        assert upstreams.set_down([f"127.0.0.1:{instances.ordinary[0]}"]) and upstreams.set_down([])
        for method in (b"GET", b"POST", b"PUT"):
            answer = asked(own, f"/?{mark}", CLIENT, method)
            assert b" 503 " in answer and b"our own page for 503" in answer and b"Retry-After: 600\r\n" in answer
        upgrade = asked(own, f"/socket?{mark}", CLIENT, b"GET", "Connection: Upgrade, close\r\nUpgrade: websocket\r\n")
        assert b" 503 " in upgrade
        assert b" 404 " in asked(own, "/crash", CLIENT)
        assert instances.seen() == before
        assert own.logged(f"/?{mark}")["maintenance"] == 1
        lines = (own.folder / "log" / "access.log").read_bytes().splitlines(keepends=True)
        assert sum(count_statuses(b"".join(line for line in lines if mark.encode() in line)).values()) == 0
        for visitor in (VISITOR, "127.0.0.1"):
            seen = asked(own, "/", visitor)
            assert b" 200 " in seen and b"Retry-After" not in seen
    finally:
        assert upstreams.set_maintenance(False)
    assert b" 200 " in asked(own, "/", CLIENT)


def asked(site: Site, path: str, source: str, method: bytes = b"GET", more: str = "Connection: close\r\n") -> bytes:
    context = ssl._create_unverified_context()
    plain = socket.create_connection(("127.0.0.1", site.https), 10, (source, 0))
    with plain, context.wrap_socket(plain, server_hostname=NAME) as connection:
        head = f"{method.decode()} {path} HTTP/1.1\r\nHost: {NAME}\r\nContent-Length: 0\r\n{more}\r\n"
        connection.sendall((head if method != b"GET" else head.replace("Content-Length: 0\r\n", "")).encode())
        data = b""
        while chunk := connection.recv(65536):
            data += chunk
        return data


@pytest.mark.parametrize(
    ("name", "to"), [("example.org", NAME), ("old.example.org", NAME), ("more.example.org", OTHER)]
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_names_are_redirected(own: Site, scheme: str, name: str, to: str) -> None:
    answer = own.client(scheme, name).send(Request(b"/a%20b?c=d", b"POST", headers=((b"Content-Length", b"0"),)))
    assert answer.status == 308
    assert header(answer, "Location") == f"https://{to}:{own.https}/a%20b?c=d"


def test_plain_http_is_redirected(own: Site) -> None:
    answer = own.client("http").send(Request(b"/a%20b?c=d"))
    assert (answer.status, header(answer, "Location")) == (308, f"https://{NAME}:{own.https}/a%20b?c=d")


def test_each_name_has_its_certificate(own: Site) -> None:
    for name, subject in ((NAME, NAME), (OTHER, OTHER), ("more.example.org", OTHER), ("unknown.example.org", NAME)):
        context = ssl._create_unverified_context()
        plain = socket.create_connection(("127.0.0.1", own.https), 10)
        with plain, context.wrap_socket(plain, server_hostname=name) as connection:
            assert subject.encode() in (connection.getpeercert(binary_form=True) or b"")


def test_each_name_is_the_same_site(own: Site, instances: Instances) -> None:
    client: Client = own.client(name=OTHER)
    assert client.send(Request(b"/")).status == 200
    assert client.send(Request(b"/crash")).status == 404
    assert own.client(name="unknown.example.org").send(Request(b"/")).status == 421
    wait_for(lambda: own.logged("/crash")["upstream"] == "", 5, "the line of the log")


@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
def test_unwanted_routes_never_reach_an_instance(own: Site, instances: Instances, method: str) -> None:
    before = instances.seen()
    for target in ("/crash", "/CRASH/", "/%63rash", "/x/../crash?a", "/generatecert"):
        assert own.get(target, ("Content-Length", "0"), method=method.encode()).status == 404, target
    assert instances.seen() == before


@pytest.mark.parametrize("target", ["/crash-course", "/a/crash", "/?x=/crash"])
def test_neighbours_of_unwanted_routes_are_served(own: Site, target: str) -> None:
    assert body(own.get(target))["path"] == target


def test_counters_are_for_this_host_alone(own: Site) -> None:
    port = own.settings["nginx_status_port"]
    assert b"Active connections" in Client(f"http://127.0.0.1:{port}").send(Request(b"/status")).raw
    assert not listens(port, CLIENT)


def test_the_log_names_the_instance_and_cuts_what_clients_make_long(own: Site, mark: str) -> None:
    long = (("User-Agent", "a" * 7000), ("Referer", "r" * 7000))
    for target in (f"/{mark}", f"/crash?{mark}"):
        own.get(target + "x" * 7000, *long)
        line = own.logged(target)
        assert line["uri"] == (target + "x" * 7000)[:1024] + "…"
        assert (line["agent"], line["referer"]) == ("a" * 256 + "…", "r" * 256 + "…")
    answer = own.get(f"/short?{mark}", ("User-Agent", "Müller"))
    line = own.logged(f"/short?{mark}")
    assert (line["uri"], line["agent"]) == (f"/short?{mark}", "Müller")
    assert line["upstream"] == f"127.0.0.1:{body(answer)['port']}"
