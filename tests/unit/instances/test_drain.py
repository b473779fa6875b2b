"""What counts as a request in flight."""

from types import ModuleType

import pytest

from phoenix.instances import drain as program

HEADER = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode"
# Node.js listens on [::], so its IPv4 connections are in the table of IPv6 as well.
MAPPED = "0000000000000000FFFF0000"


@pytest.fixture(scope="module")
def drain() -> ModuleType:
    return program


def row(local: str, remote: str, state: str = "01") -> str:
    return f"   0: {local} {remote} {state} 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0"


@pytest.mark.parametrize(
    ("line", "counts"),
    [
        (row(f"{MAPPED}1500BA0A:0BB8", f"{MAPPED}0B00BA0A:C350"), 1),
        (row("1500BA0A:0BB8", "0B00BA0A:C350"), 1),
        (row("1500BA0A:0BB8", "1500BA0A:C350"), 1),  # nginx on the same host uses the host's address
        (row(f"{MAPPED}0100007F:0BB8", f"{MAPPED}0100007F:C350"), 0),  # a probe
        (row("0100007F:0BB8", "0100007F:C350"), 0),
        (row("0" * 24 + "01000000:0BB8", "0" * 24 + "01000000:C350"), 0),
        (row("1500BA0A:0BB9", "0B00BA0A:C350"), 0),  # another port
        (row("1500BA0A:C350", "0B00BA0A:0BB8"), 0),  # a connection of this host's to such a port elsewhere
        (row("1500BA0A:0BB8", "0B00BA0A:C350", "06"), 0),  # TIME_WAIT
        (row("00000000:0BB8", "00000000:0000", "0A"), 0),  # the listener
        ("", 0),
    ],
)
def test_counts_requests_from_elsewhere(drain: ModuleType, line: str, counts: int) -> None:
    assert drain.count([line], [3000]) == {3000: counts}


def test_each_port_by_itself(drain: ModuleType) -> None:
    lines = [row("1500BA0A:0BB8", "0B00BA0A:C350"), row("1500BA0A:0BB9", "0B00BA0A:C351")] * 2
    assert drain.count(lines, [3000, 3001, 3002]) == {3000: 2, 3001: 2, 3002: 0}


def test_a_quiet_port_is_soon_drained(drain: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = iter([{3000: 1}, {3000: 0}, {3000: 1}, *[{3000: 0}] * 100])
    monkeypatch.setattr(drain, "look", lambda _: next(looks))
    assert drain.main(["3000", "--timeout", "5"]) == 0


def test_the_time_out_reports_the_remaining_requests(
    drain: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(drain, "look", lambda _: {3000: 2, 3001: 0})
    assert drain.main(["3000", "3001", "--timeout", "0.2"]) == 1
    assert "2 on port 3000" in capsys.readouterr().err
