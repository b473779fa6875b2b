from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from lab import ports
from lab.ports import free_port, free_ports
from tests.unit.shared import TOP


def test_none_is_one_that_a_clients_connection_may_be_given() -> None:
    low, high = map(int, ports.EPHEMERAL.read_text().split())
    found = free_ports(50)
    assert len(set(found)) == 50
    assert not [port for port in found if low <= port <= high]


def test_what_another_process_holds_is_another(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of two ports, one is reserved by a process that does not listen yet, then by one that listens."""
    monkeypatch.setattr(ports, "LOWEST", first := free_port())
    monkeypatch.setattr(ports, "EPHEMERAL", tmp_path / "range")
    (tmp_path / "range").write_text(f"{first + 1} 65535\n")
    with pytest.raises(RuntimeError, match=r"1 ports are needed, and 0 are free .* net\.ipv4\.ip_local_port_range"):
        free_port()
    other = (
        f"from lab import ports; ports.LOWEST, ports.EPHEMERAL = {first}, ports.Path({str(tmp_path / 'range')!r});"
        "print(ports._reserve(ports.LOWEST))"
    )
    answer = subprocess.run([sys.executable, "-c", other], cwd=TOP, capture_output=True, text=True, check=True)
    assert answer.stdout == "False\n"


def test_one_with_a_server_is_not_free() -> None:
    with socket.create_server(("127.0.0.1", free_port())) as server:
        assert not ports._listens_nowhere(server.getsockname()[1])


def test_where_connections_are_given_every_port_from_the_lowest_on_those_above_are_taken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(ports, "EPHEMERAL", tmp_path / "range")
    (tmp_path / "range").write_text("1024 60999\n")
    assert free_port() > 60999
