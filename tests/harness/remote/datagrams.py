#!/usr/bin/python3
"""Send the heartbeats of a load balancer at a constant rate and print how many. Stdlib only.

usage: datagrams.py ADDRESS PORT RATE SECONDS
"""

from __future__ import annotations

import socket
import sys
import time


def main() -> None:
    address, port, rate, seconds = sys.argv[1], *map(int, sys.argv[2:])
    out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    out.connect((address, port))
    start = time.monotonic()
    for number in range(rate * seconds):
        if number % 50 == 0:
            time.sleep(max(0.0, start + number / rate - time.monotonic()))
        out.send(b"<190>Nov 24 12:00:00 phoenix: b")
    print(rate * seconds)


if __name__ == "__main__":
    main()
