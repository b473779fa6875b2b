"""What every part of Phoenix uses: atomic files, systemd, Prometheus' text."""

import socket
from pathlib import Path

import pytest

from phoenix.common import endpoint, files, prometheus, systemd


def test_a_file_is_replaced_with_its_mode_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    target = tmp_path / "value"
    files.replace(target, "old\n")
    files.replace(target, "new\n", 0o600, durable=True)
    assert target.read_text() == "new\n"
    assert target.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [target]


def test_a_file_that_cannot_be_replaced_stays(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    target.mkdir()
    with pytest.raises(OSError, match="directory"):
        files.replace(target, "text")
    assert list(tmp_path.iterdir()) == [target]
    assert target.is_dir()


def test_a_link_moves_in_one_step(tmp_path: Path) -> None:
    link = tmp_path / "links" / "current"
    files.point(link, "one")
    files.point(link, "two")
    assert files.target(link) == "two"
    assert files.target(tmp_path) == ""
    assert list(link.parent.iterdir()) == [link]


def test_systemd_is_notified_where_it_started_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(path)
        monkeypatch.setenv("NOTIFY_SOCKET", path)
        systemd.notify("READY=1")
        assert sock.recv(100) == b"READY=1"
    systemd.notify("READY=1")  # the listener is gone: no reason to fail
    monkeypatch.delenv("NOTIFY_SOCKET")
    systemd.notify("READY=1")


def test_units_of_systemctl_show() -> None:
    shown = "Id=a.service\nExecStart=x=y\n\nId=b.service\nActiveState=\n"
    assert list(systemd.parse(shown)) == [
        {"Id": "a.service", "ExecStart": "x=y"},
        {"Id": "b.service", "ActiveState": ""},
    ]
    assert list(systemd.parse("\n")) == []


def test_what_is_written_for_prometheus_is_read_back() -> None:
    gauges = {"phoenix_a": 1.0, "phoenix_b": 1.5e12}
    text = prometheus.exposition(gauges, {"phoenix_a": "Meaning."})
    assert text.startswith("# HELP phoenix_a Meaning.\n# TYPE phoenix_a gauge\nphoenix_a 1\n")
    assert prometheus.read(text) == gauges


@pytest.mark.parametrize(
    ("address", "text"),
    [("192.0.2.1", "192.0.2.1:80"), ("2001:db8::1", "[2001:db8::1]:80"), ("a.example", "a.example:80")],
)
def test_an_endpoint_and_its_parts(address: str, text: str) -> None:
    assert endpoint.of(address, 80) == endpoint.of(endpoint.bracketed(address), "80") == text
    assert endpoint.parts(text) == (address, 80)
