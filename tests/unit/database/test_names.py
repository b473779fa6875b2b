"""The block of /etc/hosts with the names of the database's members."""

from __future__ import annotations

from pathlib import Path

import pytest

from phoenix.database import names

OWN = "127.0.0.1 localhost\n127.0.1.1 db1\n"
WANTED = "# Ansible managed\n2001:db8::31 db1.phoenix.internal\n2001:db8::32 db2.phoenix.internal\n"
BLOCK = "# BEGIN Phoenix\n2001:db8::31 db1.phoenix.internal\n2001:db8::32 db2.phoenix.internal\n# END Phoenix\n"


@pytest.mark.parametrize(
    "found",
    [
        OWN,
        OWN.rstrip(),
        OWN + BLOCK,
        BLOCK + OWN,
        OWN + BLOCK.replace("::32", "::99"),
        OWN + "# BEGIN Phoenix\n2001:db8::31 db1.phoenix.internal\n",
    ],
    ids=["none", "no newline", "the same", "before the rest", "another address", "cut"],
)
def test_the_block_is_the_last_and_the_only_one(found: str) -> None:
    assert names.with_block(found, WANTED) == OWN + BLOCK
    assert names.with_block(found, "# Ansible managed\n").rstrip() == OWN.rstrip()


def test_the_file_stays_the_same_one(tmp_path: Path) -> None:
    """As it may be a mount, which nothing can replace."""
    hosts = tmp_path / "hosts"
    hosts.write_text(OWN + BLOCK + "2001:db8::33 db3.phoenix.internal\n" * 9)
    before, text = hosts.stat().st_ino, hosts.read_text()
    assert names.keep(hosts, WANTED, check=True) and hosts.read_text() == text
    assert names.keep(hosts, WANTED)
    assert hosts.stat().st_ino == before and hosts.read_text().endswith("db3.phoenix.internal\n" + BLOCK)
    assert not names.keep(hosts, WANTED)
    hosts.write_bytes(b"192.0.2.1 h\xf6st\n" + BLOCK.encode())
    assert names.keep(hosts, "") and hosts.read_bytes() == b"192.0.2.1 h\xf6st\n"


def test_the_command_says_what_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for attribute, text in (("HOSTS", OWN), ("WANTED", WANTED)):
        (tmp_path / attribute).write_text(text)
        monkeypatch.setattr(names, attribute, tmp_path / attribute)
    assert names.main(["keep", "--check"]) == names.main(["keep"]) == names.main(["keep"]) == 0
    assert (tmp_path / "HOSTS").read_text() == OWN + BLOCK
    assert [line.split(": ")[1] for line in capsys.readouterr().out.splitlines()] == [
        "the block of Phoenix would be written",
        "the block of Phoenix was written",
    ]
