#!/usr/bin/python3
"""Open a TCP connection; the exit status is 0 if it was accepted within two seconds. Stdlib only.

usage: connect.py ADDRESS PORT
"""

from __future__ import annotations

import socket
import sys

try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), 2).close()
except OSError as error:
    sys.exit(str(error))
