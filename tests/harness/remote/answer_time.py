#!/usr/bin/python3
"""Measure how long the application takes to answer. Runs as root on a host of the application, stdlib only.

usage: answer_time.py kill     kill the instance on port 3000, which its supervisor starts again
       answer_time.py start    start the same program with the same environment as the same user, on port 4999, without
                               systemd and its sandbox; ended afterwards

Prints milliseconds.
"""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import time

KILLED, STARTED = 3000, 4999
START = (
    "set -a; . /etc/phoenix/configuration/environment; "
    f"PORT={STARTED} NODE_ENV=production PATH=/opt/nodejs/current/bin:$PATH; cd /opt/phoenix/instances/{KILLED} && "
    "exec setpriv --reuid phoenix --regid phoenix --clear-groups ./.phoenix-start"
)


def wait_for_answer(port: int, start: float) -> int:
    """Request the page until it is served, and return the milliseconds since start."""
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/")
            if connection.getresponse().status == 200:
                return round((time.monotonic() - start) * 1000)
        except (OSError, http.client.HTTPException):
            time.sleep(0.02)
        finally:
            connection.close()


def kill() -> int:
    show = ["systemctl", "show", "-p", "MainPID", "--value", f"phoenix@{KILLED}"]
    pid = int(subprocess.run(show, capture_output=True, check=True).stdout)
    start = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    return wait_for_answer(KILLED, start)


def by_hand() -> int:
    start = time.monotonic()
    process = subprocess.Popen(["sh", "-c", START], stdout=subprocess.DEVNULL)
    try:
        return wait_for_answer(STARTED, start)
    finally:
        process.kill()


if __name__ == "__main__":
    print({"kill": kill, "start": by_hand}[sys.argv[1]]())
