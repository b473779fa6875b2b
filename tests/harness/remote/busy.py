#!/usr/bin/python3
"""Keep an instance busy until ended: request, past nginx, the route that uses much CPU. Stdlib only."""

from __future__ import annotations

import http.client
import time


def main() -> None:
    while True:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", 3000, timeout=10)
            connection.request("GET", "/generatecert")
            connection.getresponse().read()
        except (OSError, http.client.HTTPException):
            time.sleep(0.05)


if __name__ == "__main__":
    main()
