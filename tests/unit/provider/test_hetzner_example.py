"""The example of a provider for an API, against answers in the form of the API's reference."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from phoenix.provider.client import Client
from phoenix.provider.contract import Conflict, Error, Failed, Foreign, Invalid, Quota, Unavailable
from tests.harness.provider import SPEC
from tests.unit.shared import TOP

TOKEN = "a-token"  # pragma: allowlist secret
Exchange = tuple[str, int, Any]  # what is asked, the status, the answer


def server(number: int = 42, name: str = "app9", status: str = "running", fleet: str = "acme") -> dict[str, Any]:
    net = {"ipv4": {"id": 7, "ip": "192.0.2.9", "blocked": False, "dns_ptr": "example.org"}, "ipv6": None}
    labels = {"phoenix-fleet": fleet} if fleet else {}
    return {"id": number, "name": name, "status": status, "public_net": net, "private_net": [], "labels": labels}


def page(*servers: dict[str, Any], following: int | None = None) -> dict[str, Any]:
    return {"servers": list(servers), "meta": {"pagination": {"page": 1, "per_page": 50, "next_page": following}}}


def refusal(code: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": "as the API says it", "details": {}}}


LIST = "GET /servers label_selector=phoenix-fleet==acme page=1 per_page=50"
NAMED = "GET /servers name=app9 page=1 per_page=50"
ADDRESS = "GET /primary_ips ip=192.0.2.9"
RESERVED = {"primary_ips": [{"id": 7, "ip": "192.0.2.9", "type": "ipv4"}]}
ONE = "/servers/42"


class Api:
    """Answers what was recorded, in its order, and notes what was asked."""

    def __init__(self) -> None:
        self.recorded: list[Exchange] = []
        self.bodies: list[Any] = []
        api = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                parts = urlsplit(self.path)
                asked = " ".join([f"{self.command} {parts.path}", *("=".join(pair) for pair in parse_qsl(parts.query))])
                length = int(self.headers.get("Content-Length") or 0)
                api.bodies += [json.loads(self.rfile.read(length))] if length else []
                expected, status, answer = api.recorded.pop(0) if api.recorded else ("nothing more", 500, {})
                if (asked, self.headers["Authorization"]) != (expected, f"Bearer {TOKEN}"):
                    status, answer = 400, refusal(f"expected {expected}, not {asked}")
                self.send_response(status)
                self.end_headers()
                self.wfile.write(answer.encode() if isinstance(answer, str) else json.dumps(answer).encode())

            do_GET = do_POST = do_DELETE = answer

            def log_message(self, *_: Any) -> None:
                pass

        self.http = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def client(self, *recorded: Exchange, **settings: Any) -> Client:
        self.recorded = [*recorded]
        environment = {
            "HCLOUD_ENDPOINT": f"http://127.0.0.1:{self.http.server_port}",
            "HCLOUD_TOKEN": TOKEN,
            "no_proxy": "127.0.0.1",
        }
        command = [str(TOP / "docs" / "examples" / "provider-hetzner")]
        return Client(command, "acme", settings, environment=environment)


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    api = Api()
    yield api
    api.http.shutdown()


@pytest.fixture(autouse=True)
def all_was_asked(api: Api) -> Iterator[None]:
    yield
    assert api.recorded == []


def test_hosts_of_all_pages(api: Api) -> None:
    second = LIST.replace("page=1 ", "page=2 ")
    client = api.client(
        (LIST, 200, page(server(), following=2)), (second, 200, page(server(43, "app8", "initializing")))
    )
    assert [(host.id, host.name, host.state) for host in client.list()] == [
        ("42", "app9", "running"),
        ("43", "app8", "creating"),
    ]


def test_a_server_is_created_with_tag_key_and_address(api: Api) -> None:
    api.bodies.clear()
    made = {"server": server(status="initializing"), "action": {}, "root_password": None}
    client = api.client((NAMED, 200, page()), (ADDRESS, 200, RESERVED), ("POST /servers", 201, made), location="fsn1")
    host = client.create("app9", replace(SPEC, size={"type": "cx22"}, network="4711"))
    assert (host.id, host.address, host.state) == ("42", "192.0.2.9", "creating")
    assert api.bodies == [
        {
            "name": "app9",
            "image": "debian-12",
            "server_type": "cx22",
            "user_data": SPEC.user_data,
            "labels": {"phoenix-fleet": "acme"},
            "location": "fsn1",
            "networks": [4711],
            "public_net": {"ipv4": 7},
        }
    ]


def test_what_exists_is_returned_and_started(api: Api) -> None:
    assert api.client((NAMED, 200, page(server()))).create("app9", SPEC).id == "42"
    power_on = f"POST {ONE}/actions/poweron"
    client = api.client((NAMED, 200, page(server(status="off"))), (power_on, 201, {"action": {}}))
    assert client.create("app9", SPEC).id == "42"


def test_another_creation_that_was_faster_is_the_same_host(api: Api) -> None:
    client = api.client(
        (NAMED, 200, page()),
        (ADDRESS, 200, RESERVED),
        ("POST /servers", 409, refusal("uniqueness_error")),
        (NAMED, 200, page(server())),
    )
    assert client.create("app9", SPEC).id == "42"


def test_deletion(api: Api) -> None:
    found = (f"GET {ONE}", 200, {"server": server()})
    assert api.client(found, (f"DELETE {ONE}", 200, {"action": {}})).delete("42")
    assert not api.client((f"GET {ONE}", 404, refusal("not_found"))).delete("42")
    assert not api.client().delete("app9")


@pytest.mark.parametrize("fleet", ["", "other"])
def test_what_has_another_label_is_not_touched(api: Api, fleet: str) -> None:
    with pytest.raises(Foreign):
        api.client((f"GET {ONE}", 200, {"server": server(fleet=fleet)})).delete("42")
    with pytest.raises(Conflict):
        api.client((NAMED, 200, page(server(fleet=fleet)))).create("app9", SPEC)


@pytest.mark.parametrize(
    ("status", "answer", "error"),
    [
        (403, refusal("resource_limit_exceeded"), Quota),
        (422, refusal("invalid_input"), Invalid),
        (401, refusal("unauthorized"), Invalid),
        (412, refusal("resource_unavailable"), Failed),
        (429, refusal("rate_limit_exceeded"), Failed),
        (502, "<html>Bad Gateway</html>", Unavailable),
        (201, "<html>a login page</html>", Unavailable),
    ],
)
def test_errors_keep_their_meaning(api: Api, status: int, answer: Any, error: type[Error]) -> None:
    client = api.client((NAMED, 200, page()), (ADDRESS, 200, RESERVED), ("POST /servers", status, answer))
    with pytest.raises(error) as caught:
        client.create("app9", SPEC)
    assert caught.type is error


def test_limits_of_its_own(api: Api) -> None:
    client = api.client(
        (NAMED, 200, page()), (ADDRESS, 200, RESERVED), (LIST, 200, page(server(43, "app8"))), max_hosts=1
    )
    with pytest.raises(Quota):
        client.create("app9", SPEC)
    quota = api.client((LIST, 200, page(server())), max_hosts=1).quota()
    assert (quota.max, quota.used) == (1, 1)
    with pytest.raises(Invalid, match="reserve it first"):
        api.client((NAMED, 200, page()), (ADDRESS, 200, {"primary_ips": []})).create("app9", SPEC)


def test_no_api_is_away() -> None:
    environment = {"HCLOUD_ENDPOINT": "http://127.0.0.1:9", "HCLOUD_TOKEN": TOKEN, "no_proxy": "127.0.0.1"}
    with pytest.raises(Unavailable):
        Client([str(TOP / "docs" / "examples" / "provider-hetzner")], "acme", environment=environment).list()
