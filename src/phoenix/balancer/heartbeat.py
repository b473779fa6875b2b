"""Request /beat from this host's nginx once a second; nginx reports each to the metering, as it does requests.

So a load balancer without requests differs from one that is silent. usage: phoenixctl metering heartbeat PORT
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import time

TIMEOUT = 0.8


def beat(port: int) -> None:
    """Send one request; if it fails, the receiver of the heartbeat misses it."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
        connection.request("GET", "/beat", headers={"Connection": "close"})
        connection.getresponse()


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("verb", choices=["heartbeat"])
    parser.add_argument("port", type=int)
    port = parser.parse_args(arguments).port
    while True:
        due = time.monotonic() + 1
        beat(port)
        time.sleep(max(0.0, due - time.monotonic()))
