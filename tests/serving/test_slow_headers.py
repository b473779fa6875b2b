"""Many connections of one address whose headers never end.

limit_conn counts a request once its header was read, so that only the time limit of headers, and the firewall's limit
of new connections (molecule/hosts), bound these.
"""

from __future__ import annotations

import selectors
import time
from contextlib import ExitStack, suppress

from tests.harness.real_nginx import NAME, Sites

SLOW = 300  # more than nginx_client_connections allows of requests
BEGUN = f"GET / HTTP/1.1\r\nHost: {NAME}\r\nX-Slow: ".encode()
LONGEST_S = 120
EVERY_S = 0.2


def test_slow_headers_keep_nobody_else_out_and_are_ended(sites: Sites) -> None:
    site = sites(nginx_header_timeout="3s", nginx_client_connections=100)
    with ExitStack() as stack, selectors.DefaultSelector() as open_ones:
        for number in range(SLOW):
            slow = stack.enter_context(site.client("https" if number % 4 == 0 else "http").connect(["http/1.1"]))
            slow.sendall(BEGUN)
            slow.setblocking(False)
            open_ones.register(slow, selectors.EVENT_READ)
        served = 0
        deadline = time.monotonic() + LONGEST_S
        # A byte now and then must not prolong it.
        while open_ones.get_map():
            assert time.monotonic() < deadline, f"{len(open_ones.get_map())} of {SLOW} are still open"
            served += site.get("/").status == 200
            for key in list(open_ones.get_map().values()):
                # Ended meanwhile: reading says so.
                with suppress(OSError):
                    key.fileobj.send(b"a")  # type: ignore[union-attr]
            for key, _ in open_ones.select(EVERY_S):
                open_ones.unregister(key.fileobj)
    assert served > 1, "while they were open"
    assert site.get("/").status == 200
