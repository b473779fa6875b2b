"""What a host sends of its state, its names in the store, and what may be written back from there."""

from __future__ import annotations

import contextlib
import io
import json
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest

from phoenix.backup import sealed, sender, state
from phoenix.backup.intake_logs import LOG_NAME, stream_of

PART = state.Part("state", ["/var/lib/x", "/etc/*.key"], ["/var/lib/x/*lock*", "/var/lib/x/runs"])


@pytest.fixture
def top(tmp_path: Path) -> Path:
    for name in (
        "var/lib/x/capacity",
        "var/lib/x/lock",
        "var/lib/x/.lock.guard",
        "var/lib/x/runs/1",
        "etc/a.key",
        "etc/b",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "var/lib/x/link").symlink_to("capacity")
    return tmp_path


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without age: what is sealed is as it is, and opens with any key but "wrong"."""

    @contextlib.contextmanager
    def sealing(target: Path, _: Path) -> Iterator[IO[bytes]]:
        with target.open("wb") as stream:
            yield stream

    @contextlib.contextmanager
    def opened(source: Path, _: str) -> Iterator[tarfile.TarFile]:
        with tarfile.open(source) as archive:
            yield archive

    (tmp_path / "to").write_text("age1operator\n")
    monkeypatch.setattr(sealed, "RECIPIENTS", tmp_path / "to")
    monkeypatch.setattr(sealed, "sealing", sealing)
    monkeypatch.setattr(sealed, "opened", opened)


def test_a_part_is_its_paths_without_what_is_excluded(top: Path) -> None:
    found = [str(path.relative_to(top)) for path in state.listing(PART, top)]
    assert found == ["etc/a.key", "var/lib/x", "var/lib/x/capacity", "var/lib/x/link"]
    assert state.listing(state.Part("none", ["/nowhere"]), top) == []


def test_a_name_changes_with_what_a_part_holds_and_else_stays(top: Path) -> None:
    def name() -> str:
        return state.name_of(PART, state.listing(PART, top), b"")

    first = name()
    assert state.NAME.fullmatch(first) and LOG_NAME.fullmatch(first)
    assert stream_of(first) == "state.state", "retention keeps the last of each part"
    (top / "var/lib/x/runs/1").write_text("other")
    assert name() == first
    (top / "var/lib/x/capacity").write_text("longer than before")
    second = name()
    assert second != first
    (top / "var/lib/x/more").touch()
    (top / "var/lib/x/more").unlink()
    assert name() == second, "a folder in which locks come and go"
    (top / "var/lib/x/sub").mkdir()
    third = name()
    (top / "var/lib/x/sub/more").touch()
    (top / "var/lib/x/sub/more").unlink()
    assert len({first, second, third, name()}) == 4, "what was there in between is not taken for what is there now"


def test_other_recipients_have_it_sent_again(top: Path) -> None:
    found = state.listing(PART, top)
    assert len({state.name_of(PART, found, recipients) for recipients in (b"one", b"one\ntwo", b"two")}) == 3


def test_whom_an_archive_is_for_is_in_its_header(tmp_path: Path) -> None:
    """As the real program writes it: tests/database/test_recovery.py."""
    keys = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIM5kkPjoBLrkDE0P0RdY44WHJ5Ak21BXwBtdeSkzFY4D one", "", "age1xyz"]
    marks = sealed.marks(keys)
    assert len(marks) == 2 and marks[0] == "X25519" and marks[1].startswith("ssh-ed25519 ")
    source = tmp_path / "state.tar.age"
    source.write_bytes(f"age-encryption.org/v1\n-> {marks[1]} x\nbody\n-> X25519 y\nbody\n--- mac\n-> z".encode())
    assert sealed.sealed_for(source) == marks
    source.write_bytes(b"anything else")
    with pytest.raises(sealed.Unsealed, match="not an archive"):
        sealed.sealed_for(source)


def test_what_changes_while_it_is_read_is_read_again(
    top: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine, reads = state.listing, 0

    def listing(part: state.Part, below: Path) -> list[Path]:
        nonlocal reads
        reads += 1
        if reads == 2 or changing:
            (top / "var/lib/x/capacity").write_text("x" * reads)
        return genuine(part, below)

    monkeypatch.setattr(state, "listing", listing)
    changing = False
    name = state.pack(PART, tmp_path / "out", tmp_path / "to", top)
    assert reads == 4 and name == state.name_of(PART, genuine(PART, top), b"age1operator\n")
    with tarfile.open(tmp_path / "out") as archive:
        member = archive.extractfile("var/lib/x/capacity")
        assert member and member.read() == b"xx"
    changing = True
    with pytest.raises(sender.Failed, match="changed each time"):
        state.pack(PART, tmp_path / "out", tmp_path / "to", top)


def test_it_is_written_back_over_what_is_there(top: Path, tmp_path: Path) -> None:
    (top / "var/lib/x/capacity").chmod(0o640)
    state.pack(PART, tmp_path / "out", tmp_path / "to", top)
    new = tmp_path / "new"
    (new / "etc").mkdir(parents=True)
    (new / "etc" / "a.key").symlink_to(tmp_path / "elsewhere")
    done = state.unpack(tmp_path / "out", "key", PART.paths, new)
    assert done == ["/etc/a.key", "/var/lib/x", "/var/lib/x/capacity", "/var/lib/x/link"]
    assert (new / "etc/a.key").read_text() == "etc/a.key" and not (tmp_path / "elsewhere").exists()
    assert (new / "var/lib/x/capacity").stat().st_mode & 0o777 == 0o640
    assert (new / "var/lib/x/link").readlink() == Path("capacity")


def archive(path: Path, *members: tuple[str, bytes, str]) -> Path:
    with tarfile.open(path, "w") as made:
        for name, kind, target in members:
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname, entry.uname = kind, target, "root"
            made.addfile(entry, io.BytesIO())
    return path


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ([("etc/passwd", tarfile.REGTYPE, "")], "not of this host's state"),
        ([("var/lib/x/../../../etc/passwd", tarfile.REGTYPE, "")], "not of this host's state"),
        ([("var/lib/x/a", tarfile.SYMTYPE, "/etc"), ("var/lib/x/a/passwd", tarfile.REGTYPE, "")], "not of this"),
        ([("var/lib/x/device", tarfile.CHRTYPE, "")], "neither file"),
        ([("var/lib/x/hard", tarfile.LNKTYPE, "etc/shadow")], "neither file"),
    ],
)
def test_nothing_else_is_written(members: list[tuple[str, bytes, str]], reason: str, tmp_path: Path) -> None:
    source = archive(tmp_path / "state.tar.age", *members)
    with pytest.raises(sealed.Unsealed, match=reason):
        state.unpack(source, "key", PART.paths, tmp_path / "new")
    assert not list((tmp_path / "new").rglob("passwd"))


def test_the_newest_of_a_part_is_the_last_received(tmp_path: Path) -> None:
    names = [f"state.state-2026112{day}T000000Z-{'0' * 11}{day}.tar.age" for day in (1, 2)]
    for name in (*names, "state.releases-20261101T000000Z-000000000000.tar.age", "access.log-20261101"):
        (tmp_path / name).touch()
    assert state.newest(tmp_path).keys() == {"releases", "state"}
    assert state.newest(tmp_path)["state"].name == names[1]
    notes = {names[0]: {"number": 7}, names[1]: {"number": 3}}
    (tmp_path / ".received.json").write_text(json.dumps(notes))
    assert state.newest(tmp_path)["state"].name == names[0]


def test_the_name_of_a_part_is_plain() -> None:
    with pytest.raises(ValueError, match="lower-case"):
        state.parts([{"name": "state-2", "paths": ["/x"]}])


def test_what_is_gone_by_the_time_it_is_named_is_no_failure(
    top: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record is written beside its place and renamed, and each such change starts the program."""
    parts = [{"name": "state", "paths": [f"{top}/var/lib/x/*"]}]
    config = sender.Config("control1", "store", "f", "r", "", [], 0, "", 0, 0, [], [], state=parts)
    genuine, partial, sent = state.listing, top / "var/lib/x/.capacity.new", list[str]()

    def listing(part: state.Part) -> list[Path]:
        partial.touch()
        found = genuine(part)
        if vanishing:
            vanishing.pop()
            partial.unlink()
        return found

    def send_files(_: sender.Config, due: list[tuple[str, Callable[[], Path]]]) -> list[str]:
        sent.extend(name for name, _ in due)
        return sent

    monkeypatch.setattr(state, "listing", listing)
    monkeypatch.setattr(sender, "send_files", send_files)
    vanishing = [True, True]
    assert state.run(config, tmp_path) == 0 and len(sent) == 1 and state.NAME.fullmatch(sent[0])
    vanishing = [True] * 9
    with pytest.raises(sender.Failed, match="changed each time"):
        state.run(config, tmp_path)


def test_only_what_the_store_lacks_is_packed_and_nothing_is_left(
    top: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = [
        {"name": "state", "paths": [f"{top}/var/lib/x/capacity"]},
        {"name": "keys", "paths": [f"{top}/etc/*.key"]},
        {"name": "none", "paths": [f"{top}/nowhere"]},
    ]
    config = sender.Config("control1", "store", "f", "r", "", [], 0, "", 0, 0, [], [], state=parts)
    offered: list[str] = []

    def send_files(_: sender.Config, due: list[tuple[str, Callable[[], Path]]]) -> list[str]:
        if not offered:
            offered.append("busy")
            raise sender.Failed("this host is sending logs already")
        for name, made in due:
            offered.append(name.partition("-")[0])
            if "keys" in name:
                with tarfile.open(made()) as sent:
                    assert [Path(one).name for one in sent.getnames()] == ["a.key"]
        return [name for name, _ in due]

    monkeypatch.setattr(sender, "send_files", send_files)
    monkeypatch.setattr(state, "PATIENCE", 0.0)
    own = tmp_path / "own"
    own.mkdir()
    (own / "state.tar.age").touch()
    assert state.run(config, own) == 0
    assert offered == ["busy", "state.state", "state.keys"]
    assert list(own.iterdir()) == [], "neither of this run nor of one that was cut short"
    assert "the store holds 2 of 2 parts" in capsys.readouterr().out
