"""No spelling of the unwanted routes reaches an instance, with everything switched on that has a way of its own there.

The requests of tests/harness/spellings.py, which the end-to-end tests send to a fleet with its defaults.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.harness.real_nginx import EVERYTHING, NAME, Instances, Site, Sites
from tests.harness.spellings import ROUTES, requests, spelled
from tests.harness.wire import Client, Request, anybody

# Paths of which the unwanted routes are part, and those in front of them in spellings.
SWITCHED_ON = {
    **EVERYTHING,
    "nginx_asset_paths": ["/gen", "/x/", "/.", "//"],
    "nginx_paths": [{"path": path, "timeout": "9s", "buffering": False} for path in ("/cra", "/crash/", "/%", "/a/")],
    "nginx_proxy_protocol": True,
    "nginx_trusted_proxies": ["127.0.0.0/8"],
    "nginx_client_connections": 1000,
    "nginx_websocket": True,
}
EXAMPLES, AT_ONCE = 500, 16
# That reached an instance once.
KNOWN = [b"/.//CRASH;SS", b"/%43%72aS%68//;"]


class Way(Client):
    """To a site by the listener of its host's own checks, or as behind a balancer that names the client."""

    def __init__(self, site: Site, proxied: bool) -> None:
        # The address 127.0.0.1 alone speaks no PROXY protocol.
        super().__init__(f"https://127.0.0.{2 if proxied else 1}:{site.https}")
        self.begin = b"PROXY TCP4 192.0.2.77 198.51.100.1 5555 443\r\n" if proxied else b""
        self.host = NAME.encode()

    def connect(self, protocols: list[str]) -> socket.socket:
        # nginx ends a handshake that takes long, as on a machine that is busy.
        for _ in range(4):
            with suppress(OSError):
                return self._connect(protocols)
        return self._connect(protocols)

    def _connect(self, protocols: list[str]) -> socket.socket:
        plain = socket.create_connection(self.address, timeout=30)
        plain.sendall(self.begin)
        encrypted = anybody(*protocols).wrap_socket(plain, server_hostname=NAME)
        # What waits for more than it gets is given up.
        encrypted.settimeout(2)
        return encrypted


def generated(strategy: st.SearchStrategy[Any], count: int) -> list[Any]:
    """So many values, to be used at once instead of one after the other."""
    found: list[Any] = []

    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def keep(value: Any) -> None:
        found.append(value)

    keep()
    return found


def send(ways: Sequence[Way], found: Sequence[Request]) -> None:
    """Each request by the next way."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(lambda one: ways[one[0] % len(ways)].send(one[1]), enumerate(found)))


def means_an_unwanted_route(line: str) -> bool:
    """Whether a lenient router takes a request line that an instance got for one of them."""
    target = line.partition(" ")[2].encode("latin-1").strip(b" \t\x0b\x0c\xa0").replace(b"\\", b"/")
    target = re.sub(rb"^[a-zA-Z]+://[^/?#]*", b"", target)
    path = unquote_to_bytes(re.split(rb"[?#]", target, maxsplit=1)[0])
    kept: list[bytes] = []
    for part in path.lower().split(b"/"):
        if part == b"..":
            kept = kept[:-1]
        elif part not in (b"", b"."):
            kept.append(part)
    return b"/".join(kept).split(b";")[0].strip(b"/") in ROUTES


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("GET /crash", True),
        ("FOO //x/../%43rash/?a", True),
        ("GET http://www.example.org\\generatecert;a", True),
        ("GET /a/crash", False),
        ("GET /%2563rash", False),
        ("GET /?/crash", False),
    ],
)
def test_what_a_lenient_router_takes_for_one_is_known(line: str, meant: bool) -> None:
    assert means_an_unwanted_route(line) is meant


def reached(instances: Instances, before: int) -> list[str]:
    return [line for line in instances.seen()[before:] if means_an_unwanted_route(line)]


def test_no_spelling_reaches_an_instance_with_everything_switched_on(sites: Sites, instances: Instances) -> None:
    site = sites(**SWITCHED_ON)
    ways = [Way(site, proxied) for proxied in (False, True)]
    before = len(instances.seen())
    known = [Request(target) for target in KNOWN]
    send(ways, [*known, *generated(requests(["0.9", "1.0", "1.1", "1.1", "2"]), EXAMPLES)])
    assert reached(instances, before) == []
    # Neither way refused all of them: some were passed on.
    for way in ways:
        assert {"200", "404"} <= {name.partition(" ")[2] for name in way.statuses}, way.statuses


def test_without_the_block_spellings_do_reach_an_instance(sites: Sites, instances: Instances) -> None:
    """The control: by the same ways and the same judgement, what the other test excludes is found."""
    site = sites(**SWITCHED_ON, nginx_unwanted_routes=[])
    for proxied in (False, True):
        before = len(instances.seen())
        send([Way(site, proxied)], [Request(target) for target in generated(spelled(), 100)])
        assert reached(instances, before)
