"""Many connections of one address whose headers never end.

limit_conn counts a request once its header was read, so that only the time limit of headers, and the firewall's limit
of new connections (molecule/hosts), bound these.
"""

from __future__ import annotations

import selectors
from contextlib import ExitStack, suppress

from tests.harness.real_nginx import NAME, Sites

SLOW = 300  # more than nginx_client_connections allows of requests
BEGUN = f"GET / HTTP/1.1\r\nHost: {NAME}\r\nX-Slow: ".encode()
EVERY_S = 0.2
LONGEST = 600  # times that: by rounds, as a machine may stand still in between


def test_slow_headers_keep_nobody_else_out_and_are_ended(sites: Sites) -> None:
    site = sites(nginx_header_timeout="5s", nginx_client_connections=100)
    with ExitStack() as stack, selectors.DefaultSelector() as open_ones:
        for _ in range(SLOW):
            slow = stack.enter_context(site.client("http").connect([]))
            slow.sendall(BEGUN)
            slow.setblocking(False)
            open_ones.register(slow, selectors.EVENT_READ)
        served = 0
        # A byte now and then must not prolong it.
        for _ in range(LONGEST):
            if not open_ones.get_map():
                break
            served += site.get("/").status == 200
            for key in list(open_ones.get_map().values()):
                # Ended meanwhile: reading says so.
                with suppress(OSError):
                    key.fileobj.send(b"a")  # type: ignore[union-attr]
            for key, _ in open_ones.select(EVERY_S):
                open_ones.unregister(key.fileobj)
        assert not open_ones.get_map(), f"{len(open_ones.get_map())} of {SLOW} are still open"
    assert served > 1, "while they were open"
    assert site.get("/").status == 200
