#!/usr/bin/python3
"""Hold requests open: uploads of a byte every few seconds. Stdlib only.

usage: hold.py URL COUNT    (prints a line once all are open, and ends by a signal)
"""

from __future__ import annotations

import socket
import ssl
import sys
import time
from urllib.parse import urlsplit

LENGTH = 1000  # bytes of a body, which are never all sent
PAUSE_S = 3


def main() -> None:
    parts = urlsplit(sys.argv[1])
    tls = parts.scheme == "https"
    context = ssl._create_unverified_context()  # the lab's certificate is self-signed
    address = (parts.hostname or "", parts.port or (443 if tls else 80))
    request = f"POST / HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Length: {LENGTH}\r\n\r\n".encode()
    open_ones = []
    for _ in range(int(sys.argv[2])):
        plain = socket.create_connection(address, 10)
        open_ones.append(context.wrap_socket(plain, server_hostname=parts.hostname) if tls else plain)
        open_ones[-1].sendall(request)
    print(f"{len(open_ones)} requests are open", flush=True)
    for _ in range(LENGTH - 1):
        time.sleep(PAUSE_S)
        for one in open_ones:
            one.sendall(b".")


if __name__ == "__main__":
    main()
