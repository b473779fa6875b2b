#!/usr/bin/python3
"""Send 300 requests, each for a path of its own, within about three seconds. Stdlib only.

usage: numbered_requests.py URL    the number of the request is appended
"""

from __future__ import annotations

import http.client
import ssl
import sys
import time
from urllib.parse import urlsplit


def main() -> None:
    parts = urlsplit(sys.argv[1])
    context = ssl._create_unverified_context()  # the lab's certificate is self-signed
    for number in range(300):
        connection = (
            http.client.HTTPSConnection(parts.netloc, context=context)
            if parts.scheme == "https"
            else http.client.HTTPConnection(parts.netloc)
        )
        connection.request("GET", f"{parts.path}{number}")
        connection.getresponse().read()
        connection.close()
        time.sleep(0.01)


if __name__ == "__main__":
    main()
