#!/usr/bin/python3
"""Open TCP connections one after another; print how many passed the firewall, accepted or refused. Stdlib only.

usage: openings.py SOURCE ADDRESS PORT COUNT
"""

from __future__ import annotations

import contextlib
import socket
import sys

source, address, port, count = sys.argv[1:]
passed = 0
for _ in range(int(count)):
    with contextlib.suppress(TimeoutError), socket.socket() as probe:
        probe.settimeout(0.2)
        probe.bind((source, 0))
        # Refused: it passed, and nothing listens there.
        with contextlib.suppress(ConnectionRefusedError):
            probe.connect((address, int(port)))
        passed += 1
print(passed)
