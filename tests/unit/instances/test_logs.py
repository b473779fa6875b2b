"""Lines of the journal, of one host and of several."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from phoenix.instances import logs


def entry(when: int, message: Any, host: str = "app1", unit: str = "phoenix-3000", of: str = "", **more: str) -> str:
    named = {"_HOSTNAME": host, "SYSLOG_IDENTIFIER": unit, "_SYSTEMD_UNIT": of, **more}
    return json.dumps({"__REALTIME_TIMESTAMP": str(when), "MESSAGE": message, **named})


def test_each_line_of_a_message_says_when_and_where() -> None:
    assert list(logs.lines([entry(1_700_000_000_000_001, "one\ntwo"), "{", entry(1_700_000_001_000_000, None)])) == [
        "2023-11-14T22:13:20.000001Z app1 phoenix-3000 one\n2023-11-14T22:13:20.000001Z app1 phoenix-3000 two",
        "2023-11-14T22:13:21.000000Z app1 phoenix-3000",
    ]


def test_a_message_that_is_not_text_is_shown_as_far_as_it_is() -> None:
    assert logs.line(json.loads(entry(0, [97, 255]))).endswith(" a\N{REPLACEMENT CHARACTER}")


def test_lines_of_several_hosts_are_in_the_order_of_their_times() -> None:
    one = "2023-11-14T22:13:20.1Z app1 a\n2023-11-14T22:13:20.3Z app1 c1\n2023-11-14T22:13:20.3Z app1 c2\n"
    other = "2023-11-14T22:13:20.2Z app2 b\n2023-11-14T22:13:20.3Z app2 c3\n"
    merged = logs.merged([one, "", other])
    assert [text.split()[-1] for text in merged] == ["a", "b", "c1", "c2", "c3"]
    assert logs.merged([one, other], keep=2) == merged[-2:]


def test_all_instances_or_some_since_a_time() -> None:
    assert "--unit=phoenix@*.service" in logs.written("", 0, logs.units([]))
    some = logs.written("1 hour ago", 10, logs.units(["3000", "worker"]))
    assert {
        "--unit=phoenix@3000.service",
        "--unit=phoenix-worker@*.service",
        "--since=1 hour ago",
        "--lines=10",
    } <= set(some)


JOURNAL = """#!/bin/sh
case "$*" in *--follow*) cat {folder}/followed; exit;; *--until=@*) cat {folder}/before; exit;; esac
echo "$COMPLAINT" >&2
exit 1
"""


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A stand-in for journalctl, which prints these files."""
    former = signal.getsignal(signal.SIGPIPE)
    (tmp_path / "journalctl").write_text(JOURNAL.format(folder=tmp_path))
    (tmp_path / "journalctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    yield tmp_path
    # The program's own way to end with its reader would end the other tests' process.
    signal.signal(signal.SIGPIPE, former)


@pytest.mark.parametrize(
    ("complaint", "status", "reported"),
    [
        ("Failed to add filter for units: No data available", 0, ""),
        ("Failed to parse timestamp: teatime", 1, "phoenixctl logs: Failed to parse timestamp: teatime\n"),
    ],
)
def test_a_host_without_an_instance_so_far_has_no_lines(
    journal: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    complaint: str,
    status: int,
    reported: str,
) -> None:
    """journalctl fails where no unit of a pattern has ever logged, as on a standby host."""
    monkeypatch.setenv("COMPLAINT", complaint)
    assert logs.main([]) == status
    assert capfd.readouterr() == ("", reported)
    assert logs.main(["workr"]) == status
    assert capfd.readouterr().err == (reported or "phoenixctl logs: nothing of workr has ever logged here\n")


def test_instances_that_start_later_are_followed_and_nothing_else(
    journal: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    of = {
        "before": [
            entry(0, "older", unit="phoenix-3000", of="phoenix@3000.service"),
            entry(1, "old", unit="phoenix-3000", of="phoenix@3000.service"),
        ],
        "followed": [
            entry(2, "new", unit="phoenix-3001", of="phoenix@3001.service"),
            entry(3, "a login", unit="sshd", of="ssh.service"),
            entry(4, "Started", unit="systemd", of="init.scope", UNIT="phoenix-worker@1.service", _PID="1"),
            entry(5, "claims another's", unit="sshd", of="ssh.service", UNIT="phoenix@3001.service", _PID="7"),
        ],
    }
    for name, entries in of.items():
        # What comes before is asked for with the newest first.
        (journal / name).write_text("\n".join(reversed(entries) if name == "before" else entries))
    assert logs.main(["--follow"]) == 0
    assert [text.split(" ", 2)[2] for text in capfd.readouterr().out.splitlines()] == [
        "phoenix-3000 older",
        "phoenix-3000 old",
        "phoenix-3001 new",
        "systemd Started",
    ]
