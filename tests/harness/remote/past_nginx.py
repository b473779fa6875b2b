#!/usr/bin/python3
"""Send request lines to an instance, past nginx, and print each result as JSON. Runs on its host, stdlib only.

usage: past_nginx.py UNIT LINES    UNIT: phoenix@PORT.service; LINES: "METHOD target", ISO 8859-1, as a JSON list
"""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import time


def pid(unit: str) -> str:
    command = ["systemctl", "show", unit, "-p", "MainPID", "--value"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def address(port: str) -> str:
    """Return the address that the instance listens on."""
    command = ["ss", "-Hltn", f"sport = :{port}"]
    listening = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    found = listening[3].rsplit(":", 1)[0].strip("[]")
    return "127.0.0.1" if found in ("*", "0.0.0.0", "::") else found


def connect(host: str, port: int) -> socket.socket:
    for _ in range(100):
        try:
            return socket.create_connection((host, port), 30)
        except OSError:
            time.sleep(0.1)
    raise SystemExit(f"no instance at {host}:{port}")


def main() -> None:
    unit, lines = sys.argv[1], json.loads(sys.argv[2])
    found = re.search(r"@(\d+)", unit)
    assert found, unit
    port = found[1]
    host = address(port)
    seen = []
    for line in lines:
        connection, before, raw = connect(host, int(port)), pid(unit), b""
        try:
            connection.sendall(line.encode("latin-1") + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            while True:
                chunk = connection.recv(65536)
                if not chunk:
                    break
                raw += chunk
        except OSError:
            pass
        time.sleep(0.3)
        certificate = b"BEGIN CERTIFICATE" in raw
        seen.append({"target": line, "ended": pid(unit) != before, "certificate": certificate})
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
