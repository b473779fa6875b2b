"""The lab's provider, offered to its control host: the Docker engine is on the machine below the fleet, not in it.

A connection carries one request and its answer, as the provider's stdin and stdout would. Only control may connect:
who may create containers is root on this machine. This is the lab's own means; a fleet's provider is reached as
docs/providers.md has it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import socketserver
import subprocess
import sys
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

MOST = 1 << 16
SECONDS = 300
START_SECONDS = 60
PROVIDER = [sys.executable, "-m", "lab.provider"]
TOP = Path(__file__).resolve().parents[1]


class Handler(socketserver.StreamRequestHandler):
    timeout = SECONDS

    def handle(self) -> None:
        done = subprocess.run(
            PROVIDER,
            input=self.rfile.read(MOST),
            stdout=subprocess.PIPE,
            timeout=SECONDS,
            check=False,
            cwd=TOP,
            env={**os.environ, "PYTHONPATH": f"{TOP / 'src'}:{TOP}"},
        )
        self.wfile.write(done.stdout)


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, address: tuple[str, int], clients: Collection[str]) -> None:
        self.clients = frozenset(clients)
        super().__init__(address, Handler)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        return client_address[0] in self.clients


def serve(address: str, port: int, clients: Collection[str]) -> None:
    with Server((address, port), clients) as server:
        server.serve_forever()


def _running(record: Path) -> int:
    """The process that start() recorded, as far as it is one of these; 0 if there is none."""
    try:
        process = int(record.read_text())
        command = Path(f"/proc/{process}/cmdline").read_bytes()
    except (OSError, ValueError):
        return 0
    return process if b"lab" in command.split(b"\0") and b"engine" in command.split(b"\0") else 0


def start(record: Path, address: str, port: int) -> None:
    """Start it beside this process, unless it runs, for the profile in LAB_PROFILE, and wait until it answers.

    Raises:
        RuntimeError: it ended, or did not answer in time; with the end of its log.
    """
    if _running(record):
        return
    with contextlib.suppress(OSError):
        socket.create_connection((address, port), 1).close()
        raise RuntimeError(f"{address}:{port} is taken by another program: end it, or change lab_engine_port")
    path = record.with_suffix(".log")
    log = path.open("a")
    process = subprocess.Popen(
        [sys.executable, "-m", "lab", "engine"],
        cwd=TOP, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
    )  # fmt: skip
    record.write_text(str(process.pid))
    end = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < end:
        try:
            socket.create_connection((address, port), 1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    state = "does not answer" if process.poll() is None else f"ended with {process.returncode}"
    process.terminate()
    record.unlink()
    raise RuntimeError(f"the provider at {address}:{port} {state}: {path.read_text()[-500:]}")


def stop(record: Path) -> None:
    if process := _running(record):
        os.kill(process, signal.SIGTERM)
