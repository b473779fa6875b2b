"""The provider as the lab's control host reaches it: a real server and a real client, with another program behind."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import engine
from tests.unit.shared import TOP

ECHO = [sys.executable, "-c", "import sys; text = sys.stdin.read(); print(text.upper(), end=''); sys.exit(1)"]


def offered(clients: set[str]) -> Iterator[int]:
    with engine.Server(("127.0.0.1", 0), clients) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def ask(port: int, request: str) -> subprocess.CompletedProcess[str]:
    program = (TOP / "lab" / "engine_client.py").read_text()
    return subprocess.run(
        [sys.executable, "-c", program, "127.0.0.1", str(port)],
        input=request,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("request_text", "answer", "status"),
    [("{}" * 10_000, "{}" * 10_000, 0), ('{"error": 1}', '{"ERROR": 1}', 0), ("", "", 0)],
)
def test_a_request_and_its_answer(monkeypatch: pytest.MonkeyPatch, request_text: str, answer: str, status: int) -> None:
    monkeypatch.setattr(engine, "PROVIDER", ECHO)
    for port in offered({"127.0.0.1"}):
        done = ask(port, request_text)
        assert (done.stdout, done.returncode) == (answer, status)


def test_an_error_ends_the_client_with_status_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "PROVIDER", [sys.executable, "-c", "print('{\"error\": {}}')"])
    for port in offered({"127.0.0.1"}):
        assert ask(port, "x").returncode == 1


def test_others_get_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "PROVIDER", ECHO)
    for port in offered({"192.0.2.41"}):
        assert ask(port, "list").stdout == ""


def test_one_that_ends_at_once_is_reported_with_its_log(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It would be missed only when a host is to be made."""
    (tmp_path / "python").write_text("#!/bin/sh\necho the port is taken >&2\nexit 3\n")
    (tmp_path / "python").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # and nobody listens
        with pytest.raises(RuntimeError, match=r"ended with 3: the port is taken"):
            engine.start(tmp_path / "engine.pid", *free.getsockname())
