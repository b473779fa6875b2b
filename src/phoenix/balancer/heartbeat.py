#!/usr/bin/python3 -I
"""Asks this host's nginx for /beat once a second; nginx reports each to the metering, on the way that requests take.

So a load balancer without requests is told from one that is silent. usage: phoenix_heartbeat.py PORT
"""

import contextlib
import http.client
import sys
import time

TIMEOUT = 0.8


def beat(port: int) -> None:
    """One question; whoever listens for the heartbeat misses it when it fails."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
        connection.request("GET", "/beat", headers={"Connection": "close"})
        connection.getresponse()


def main() -> None:
    port = int(sys.argv[1])
    while True:
        due = time.monotonic() + 1
        beat(port)
        time.sleep(max(0.0, due - time.monotonic()))


if __name__ == "__main__":
    main()
