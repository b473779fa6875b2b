"""How restic is called, and what its failures mean. With the real program: tests/database/test_recovery.py."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from phoenix.backup import offsite
from tests.unit.backup.builders import DAY, dump


@pytest.mark.parametrize(
    ("repository", "expected"),
    [
        ("sftp:phoenix@backup.example:/srv/phoenix", ["-l", "phoenix", "backup.example"]),
        ("sftp:backup.example:relative", ["backup.example"]),
        ("sftp://phoenix@backup.example:2222//srv/phoenix", ["-p", "2222", "-l", "phoenix", "backup.example"]),
        ("sftp://[2001:db8::1]:22//srv", ["-p", "22", "2001:db8::1"]),
        ("sftp:phoenix@192.0.2.7:/phoenix", ["-l", "phoenix", "192.0.2.7"]),
    ],
)
def test_the_way_to_an_sftp_server(repository: str, expected: list[str]) -> None:
    words = offsite.ssh_command(repository, Path("/f")).split()
    assert words[-len(expected) - 2 :] == [*expected, "-s", "sftp"]
    assert {"StrictHostKeyChecking=yes", "UserKnownHostsFile=/f/known_hosts", "/f/key"} <= set(words)
    assert ("-l" in words) == ("-l" in expected) and ("-p" in words) == ("-p" in expected)


@pytest.mark.parametrize("repository", ["s3:https://s3.example/bucket", "rest:https://b.example/", "/srv/phoenix"])
def test_other_storages_need_no_ssh(repository: str) -> None:
    assert offsite.ssh_command(repository, Path("/f")) == ""


def test_what_a_failure_means() -> None:
    def said(text: str) -> str:
        return offsite.complaint(subprocess.CompletedProcess([], 1, "", text))

    assert "backup_offsite_password does not open" in said("Fatal: wrong password or no key found\n")
    missing = "Fatal: unable to open config file: stat /x/config: no such file\nIs there a repository at the following"
    assert "there is no repository in backup_offsite_repository" in said(missing)
    assert said("a\nb\n\nc\nd\n") == "b; c; d"
    assert said("") == "restic ended with 1"


def test_good_dumps_belong_off_site_but_not_those_brought_back() -> None:
    known = [dump(1), dump(2, "bad"), dump(3, "shrunken"), dump(4, kind="returned"), dump(5, "failed"), dump(6)]
    assert [one.number for one in offsite.wanted(known)] == [1, 6]


def test_it_is_verified_once_a_day() -> None:
    assert offsite.check_due(0, 20 * DAY)
    assert not offsite.check_due(20 * DAY, 20.5 * DAY)
    assert offsite.check_due(20 * DAY, 21 * DAY)
    assert offsite.check_due(20 * DAY, 19 * DAY), "the clock was set back"
