"""WebSocket, event streams, transfers and affinity, through a real nginx with the role's configuration."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from phoenix.autoscaler.meter import Meter
from phoenix.balancer import heartbeat
from tests.harness.real_nginx import Connection, Instances, Site, Sites, body, header
from tests.harness.spellings import UPGRADES
from tests.harness.waiting import wait_for
from tests.harness.wire import Client, Request

UPGRADE = ("Connection: Upgrade, close", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: eA==")
HEADERS = tuple((name, value) for name, _, value in (line.partition(": ") for line in UPGRADE))


def opened(site: Site, path: str = "/socket", *headers: str) -> tuple[Connection, int]:
    """An open WebSocket, and the port of its instance."""
    connection = Connection(site, path, *UPGRADE, *headers)
    answer = connection.read_until(b"\r\n\r\n").decode()
    assert answer.startswith("HTTP/1.1 101 "), answer
    return connection, int(answer.partition("X-Port: ")[2].split("\r\n")[0])


def test_websocket_passes_both_ways(site: Site) -> None:
    connection, _ = opened(site)
    with closing(connection):
        assert connection.echoes(b"\x81\x05hello") and connection.echoes(b"\x00" * 70000)


def test_websocket_outlives_a_reload(site: Site) -> None:
    connection, _ = opened(site)
    with closing(connection):
        site.reload()
        assert connection.echoes(b"after one reload")
        site.reload()
        assert connection.echoes(b"after two")


def test_websocket_is_cut_when_the_old_workers_may_wait_no_longer(sites: Sites) -> None:
    site = sites(nginx_shutdown_timeout="1s")
    connection, _ = opened(site)
    with closing(connection):
        site.reload()
        connection.socket.settimeout(10)
        assert connection.socket.recv(1) == b""


def test_websocket_may_be_silent_for_longer_than_an_answer(sites: Sites) -> None:
    site = sites(nginx_proxy_read_timeout="1s")
    connection, _ = opened(site)
    with closing(connection):
        time.sleep(2)
        assert connection.echoes(b"awake")
    assert site.get("/slow").status == 504


def test_websockets_are_spread_by_their_own_number(sites: Sites, mark: str) -> None:
    """And do not keep requests away from an instance that has more of them."""
    site = sites()  # without connections of other tests
    connections = [opened(site, f"/socket?{mark}") for _ in range(6)]
    ports = [port for _, port in connections]
    assert {ports.count(port) for port in ports} == {3}
    for connection, port in connections:
        if port == ports[0]:
            connection.close()
    site.logged(f"/socket?{mark}", 3)  # have ended
    assert {opened(site)[1] for _ in range(2)} == {ports[0]}, "the one that has fewer"
    assert len({body(site.get("/"))["port"] for _ in range(6)}) == 2


@pytest.mark.parametrize(
    ("headers", "method"),
    [
        (
            (
                ("Connection", "Upgrade, close"),
                ("Upgrade", "h2c"),
                ("HTTP2-Settings", "AAMAAABkAAQAAP__"),
            ),
            "GET",
        ),
        ((("Connection", "Upgrade, close"), ("Upgrade", "websocket, h2c")), "GET"),
        ((("Connection", "Upgrade, close"), ("Upgrade", "TLS/1.0")), "GET"),
        ((("Upgrade", "websocket"),), "GET"),
        ((*HEADERS, ("Content-Length", "3")), "GET"),
        ((*HEADERS, ("Content-Length", "0")), "POST"),
    ],
)
def test_no_other_upgrade_is_passed_on(site: Site, headers: tuple[tuple[str, str], ...], method: str) -> None:
    answer = site.get(
        "/socket", *headers, method=method.encode(), body=b"abc" if ("Content-Length", "3") in headers else b""
    )
    assert answer.status == 200
    assert not {"upgrade", "connection"} & body(answer)["headers"].keys()


def test_none_is_where_it_is_turned_off(sites: Sites) -> None:
    answer = sites(nginx_websocket=False).get("/socket", *HEADERS)
    assert answer.status == 200 and "upgrade" not in body(answer)["headers"]


@pytest.mark.parametrize("target", ["/crash", "/CRASH/", "/%63rash", "/x/../crash?a", "/generatecert"])
@pytest.mark.parametrize("extra", UPGRADES)
def test_unwanted_routes_stay_blocked(
    site: Site, instances: Instances, target: str, extra: tuple[tuple[tuple[bytes, bytes], ...], bytes]
) -> None:
    before = instances.seen()
    assert site.client(seconds=0.5).send(Request(target.encode(), b"GET", "1.1", *extra)).status == 404
    assert instances.seen() == before


def test_what_follows_a_refused_upgrade_is_a_request_like_any(site: Site, instances: Instances, mark: str) -> None:
    """The instance has no WebSocket there: nginx must not pass on as one connection what comes next."""
    before = f"GET /crash?{mark} HTTP/1.1\r\nHost: www.example.org\r\nConnection: close\r\n\r\n".encode()
    kept = ("Connection: Upgrade", *UPGRADE[1:])
    connection = Connection(site, f"/none?{mark}", *kept, before=before)
    with closing(connection):
        answers = connection.read_until(b"404 Not Found")
    assert answers.startswith(b"HTTP/1.1 200 ")
    assert [line for line in instances.seen() if mark in line] == [f"GET /none?{mark}"]


def test_upgrade_that_breaks_costs_one_instance_and_no_spare(site: Site, instances: Instances, mark: str) -> None:
    assert site.get(f"/fail?{mark}", *HEADERS).status == 502
    assert instances.seen().count(f"GET /fail?{mark}") == 1


def test_upgrades_go_past_an_instance_that_is_gone_and_not_to_the_spare(site: Site, instances: Instances) -> None:
    gone, other = instances.ordinary
    with instances.stopped(gone):
        connections = [opened(site) for _ in range(5)]
        assert {port for _, port in connections} == {other}


def test_event_streams_arrive_as_they_are_sent(site: Site, instances: Instances) -> None:
    connection = Connection(site, "/events", "Accept: text/event-stream")
    with closing(connection):
        first = connection.read_until(b"data: 1")
        assert b"data: 2" not in first
        site.reload()
        connection.read_until(b"data: 2")


def test_a_transfer_outlives_reloads(sites: Sites, instances: Instances, mark: str) -> None:
    """One of minutes in short: longer than any pause in it may be, and still under way when two reloads are over."""
    site, query = sites(nginx_proxy_read_timeout="3s", nginx_send_timeout="3s"), f"?8&{mark}"
    with ThreadPoolExecutor() as pool:
        transfer = pool.submit(site.client(seconds=120).send, Request(f"/until{query}".encode()))
        wait_for(lambda: f"GET /until{query}" in instances.seen(), 60, "its begin")
        site.reload()
        site.reload()
        for port in instances.ordinary:
            Client(f"http://127.0.0.1:{port}").send(Request(f"/end{query}".encode()))
    answer = transfer.result().raw
    assert answer.endswith(b"\r\n0\r\n\r\n") and answer.count(b".\r\n") >= 8, answer


def test_a_slow_clients_download_outlives_its_instance(site: Site, instances: Instances, mark: str) -> None:
    """nginx has taken all of it by then: neither a deploy nor a scale-in waits for a slow client."""
    size = 20_000_000
    connection = Connection(site, f"/bytes?{size}&{mark}", "Connection: close")
    with closing(connection):
        received = connection.read_until(b"\r\n\r\n").partition(b"\r\n\r\n")[2]
        wait_for(lambda: f"sent /bytes?{size}&{mark}" in instances.seen(), 30, "the instance has sent it")
        with instances.stopped(*instances.ordinary):
            connection.socket.settimeout(30)
            while chunk := connection.socket.recv(1 << 20):
                received += chunk
    assert received == b"." * size


def test_a_slow_clients_upload_needs_no_instance_before_it_is_complete(
    sites: Sites, instances: Instances, mark: str
) -> None:
    site, size = sites(nginx_body_max="30m"), 20_000_000
    connection = Connection(site, f"/{mark}", f"Content-Length: {size}", before=b"x" * (size // 2))
    with closing(connection):
        with instances.stopped(*instances.ordinary):
            connection.socket.sendall(b"x" * (size // 4))
        connection.socket.sendall(b"x" * (size - size // 2 - size // 4))
        assert b" 200 OK\r\n" in connection.read_until(b"\r\n\r\n", 30)
    assert [line for line in instances.seen() if mark in line] == [f"GET /{mark}"]


@pytest.mark.parametrize(("path", "waits"), [("/events?unbuffered", False), ("/events", True)])
def test_other_streams_do_by_x_accel_buffering(site: Site, path: str, waits: bool) -> None:
    """Without it nginx collects an answer, so that a slow client does not occupy the application."""
    connection = Connection(site, path)
    with closing(connection):
        assert (b"data: 2" in connection.read_until(b"data: 1")) is waits


def test_the_log_has_how_long_it_stayed(site: Site, mark: str) -> None:
    connection, port = opened(site, f"/socket?{mark}")
    connection.close()
    line = site.logged(f"/socket?{mark}")
    assert (line["status"], line["upstream"]) == (101, f"127.0.0.1:{port}")


# --- affinity


def test_cookie_keeps_a_client_at_its_instance(sites: Sites, instances: Instances) -> None:
    site = sites(nginx_affinity="cookie")
    found: dict[int, str] = {}
    for _ in range(20):
        answer = site.get("/")
        cookie = header(answer, "Set-Cookie") or ""
        assert "HttpOnly" in cookie and "Secure" in cookie
        found[body(answer)["port"]] = cookie.partition(";")[0]
    assert found.keys() == set(instances.ordinary), "clients are spread"
    for port, cookie in found.items():
        answers = [site.get("/", ("Cookie", cookie)) for _ in range(5)]
        assert {body(answer)["port"] for answer in answers} == {port}
        assert {header(answer, "Set-Cookie") for answer in answers} == {None}
        connection, own = opened(site, "/socket", f"Cookie: {cookie}")
        connection.close()
        assert own == port, "a WebSocket goes where its polls went"


def test_cookie_is_set_only_with_an_answer_of_the_application(sites: Sites) -> None:
    site = sites(nginx_affinity="cookie")
    assert header(site.get("/crash"), "Set-Cookie") is None
    assert header(site.get("/", ("Cookie", "phoenix_affinity=of-my-own")), "Set-Cookie"), "not one that nginx gave"


@pytest.mark.parametrize("affinity", ["cookie", "address"])
def test_clients_of_an_instance_out_of_rotation_move_and_return(
    sites: Sites, instances: Instances, affinity: str
) -> None:
    site = sites(nginx_affinity=affinity)
    cookie = ("Cookie", (header(site.get("/"), "Set-Cookie") or "").partition(";")[0])

    def port() -> int:
        ports = {body(site.get("/", cookie))["port"] for _ in range(4)}
        assert len(ports) == 1, "together"
        return int(ports.pop())

    own = port()
    site.write(nginx_drained=[f"127.0.0.1:{own}"])
    site.reload()
    assert port() in set(instances.ordinary) - {own}
    site.write(nginx_drained=[])
    site.reload()
    assert port() == own
    with instances.stopped(own):
        assert port() == instances.spare


class Metering:
    """The autoscaler's meter, as it receives what nginx sends."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.settimeout(5)
        self.address = f"127.0.0.1:{self.socket.getsockname()[1]}"
        self.meter = Meter(["127.0.0.1"], 600, time.monotonic())

    def receive(self) -> None:
        """Receive one datagram."""
        self.meter.receive(self.socket.recv(512), "127.0.0.1", time.monotonic())

    def open(self, site: Site) -> int:
        """The open requests by a heartbeat of now; what was sent before it is received, too."""
        beats = self.meter.counters.heartbeats
        heartbeat.beat(site.settings["nginx_status_port"])
        while self.meter.counters.heartbeats == beats:
            self.receive()
        return self.meter.open(time.monotonic(), 60)


@pytest.fixture
def metering() -> Iterator[Metering]:
    one = Metering()
    with closing(one.socket):
        yield one


def test_connections_that_stay_count_while_they_are_open(sites: Sites, metering: Metering) -> None:
    """WebSocket connections, streams and polls; through a reload, too, whose old workers keep them."""
    site = sites(nginx_metering_address=metering.address)
    assert metering.open(site) == 0
    staying = [opened(site)[0] for _ in range(3)]
    staying += [Connection(site, "/events", "Accept: text/event-stream") for _ in range(2)]
    staying += [Connection(site, "/slow", "Connection: close") for _ in range(4)]  # as a long poll waits
    wait_for(lambda: metering.open(site) == 9, 2, "nine open requests")
    site.reload()
    for poll in staying[5:]:
        poll.read_until(b"HTTP/1.1 200")
        poll.close()
    for event_stream in staying[3:5]:
        event_stream.read_until(b"0\r\n\r\n")
        event_stream.close()
    wait_for(lambda: metering.open(site) == 3, 5, "three open WebSockets")
    assert metering.meter.counters.requests == 6, "each poll at its end, and streams of seconds"
    for websocket in staying[:3]:
        websocket.close()
    wait_for(lambda: metering.open(site) == 0, 5, "no open request")
    assert metering.meter.counters.malformed == metering.meter.counters.duplicates == 0


def test_the_end_of_a_long_connection_is_no_request(sites: Sites, metering: Metering) -> None:
    """A reload that ends thousands at once would otherwise be a jump of the load."""
    site = sites(nginx_metering_address=metering.address)
    connection, _ = opened(site)
    assert metering.open(site) == 1
    time.sleep(5.2)
    connection.close()
    wait_for(lambda: metering.open(site) == 0, 5, "its end")
    assert metering.meter.counters.requests == 0


def test_every_client_behind_a_trusted_proxy_is_served_and_counted(sites: Sites, metering: Metering) -> None:
    """As one address, which they have in common, they would share its limit, and the autoscaler would see one."""
    site = sites(
        nginx_trusted_proxies=["127.0.0.1"], nginx_client_connections=1, nginx_metering_address=metering.address
    )
    clients = [f"192.0.2.{number}" for number in range(1, 7)]
    connections = [opened(site, "/socket", f"X-Forwarded-For: {client}")[0] for client in clients]
    wait_for(lambda: metering.open(site) == len(clients), 10, "as many open requests as clients")
    again = [site.get("/", ("X-Forwarded-For", client)).status for client in (clients[0], "192.0.2.99")]
    assert again == [429, 200], "each has the limit for itself"
    for connection in connections:
        connection.close()
