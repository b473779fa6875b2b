#!/usr/bin/python3
"""Keeps one instance busy until it is ended: asks it, past nginx, for the route that burns CPU. Stdlib only."""

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
