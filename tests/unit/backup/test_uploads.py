"""Archives of what an application writes: one that has shrunk is noted, reported, and lets no older one go."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from phoenix.backup import cli, clock, intake_logs, store, uploads, watch
from phoenix.backup.uploads import Archive, shrunken
from tests.unit.backup.builders import DAY, config

MIB = 1024 * 1024
Night = Callable[[int, int], list[str]]


@pytest.fixture
def held(tmp_path: Path) -> store.Store:
    found = store.Store(replace(config(tmp_path), hosts=("app1", "app2")))
    found.prepare()
    return found


@pytest.fixture
def night(held: store.Store, monkeypatch: pytest.MonkeyPatch) -> Night:
    """Receive app1's archive of a day with so many bytes; returns the names that retention let go."""

    def receive(day: int, size: int) -> list[str]:
        monkeypatch.setattr(clock, "read", lambda path, floor=0.0: day * DAY)
        folder = held.root / "logs" / "app1"
        with (folder / ".part").open("wb") as partial:
            partial.truncate(size)
        intake_logs.book(held, folder, folder / ".part", name(day))
        return [one.name for one in intake_logs.prune(held, folder)]

    return receive


def name(day: int) -> str:
    return f"files-202611{day:02}.tar.gz"


def result(held: store.Store) -> tuple[float, float]:
    found = watch.look(held).metrics
    return found["phoenix_backup_last_result"], found["phoenix_backup_files_shrunken_hosts"]


def test_emptied_uploads_are_reported_and_outlive_their_retention(held: store.Store, night: Night) -> None:
    for day in (1, 2, 3):
        assert night(day, 20 * MIB) == []
    assert result(held) == (0, 0)
    for day in range(4, 20):
        assert night(day, 300) == [], "the full ones are the only ones"
    assert result(held) == (3, 1)
    seen = watch.look(held)
    assert any(f"app1/{name(19)} holds 300 bytes, less than half of the {20 * MIB}" in one for one in seen.problems)
    assert f"phoenixctl backup accept app1/{name(19)}" in seen.line
    listed = watch.table(held)
    assert f"app1/{name(3)}" in listed and "shrunken" in listed and listed.splitlines()[1] == ""


def test_an_archive_of_the_former_size_ends_it(held: store.Store, night: Night) -> None:
    night(1, 20 * MIB)
    night(2, 300)
    assert result(held) == (3, 1)
    night(3, 18 * MIB)
    assert result(held) == (0, 0)
    assert night(15, 18 * MIB) == [name(1), name(2), name(3)]


def test_one_that_is_accepted_is_the_first_to_measure_against(held: store.Store, night: Night) -> None:
    night(1, 20 * MIB)
    night(2, 5 * MIB)
    path = held.root / "logs" / "app1" / ".received.json"
    os.utime(path, (1000, 1000))
    (held.root / "store.json").write_text(json.dumps(asdict(held.config)))
    assert cli.main(["--config", str(held.root), "accept", f"app1/{name(2)}"]) == 0
    assert result(held) == (0, 0)
    assert path.stat().st_mtime == 1000, "the host has sent nothing"
    night(3, 5 * MIB)
    assert result(held) == (0, 0)
    night(4, 2 * MIB)
    assert result(held) == (3, 1)


@pytest.mark.parametrize(
    "wrong", [f"app1/{name(1)}", f"app2/{name(2)}", "app1/access.log-1", f"../logs/app1/{name(2)}"]
)
def test_nothing_else_is_accepted(
    wrong: str, held: store.Store, night: Night, capsys: pytest.CaptureFixture[str]
) -> None:
    night(1, 20 * MIB)
    night(2, 300)
    assert uploads.accept(held, wrong) == 1
    assert wrong in capsys.readouterr().out and result(held) == (3, 1)


def test_a_result_of_the_dump_comes_first(held: store.Store, night: Night) -> None:
    night(1, 20 * MIB)
    night(2, 300)
    held.fail("20261102T010000Z-db2", "nightly", "db2", "", "failed", "no answer")
    assert result(held) == (1, 1)


def test_a_host_that_left_raises_nothing(held: store.Store, night: Night) -> None:
    night(1, 20 * MIB)
    night(2, 300)
    assert result(store.Store(replace(held.config, hosts=("app2",)))) == (0, 0)


def test_books_of_an_earlier_version_count(held: store.Store, night: Night) -> None:
    """Its notes have no state: the sizes are the files'. One that is gone, whose note has stayed, measures nothing."""
    folder = held.root / "logs" / "app1"
    notes = {one: {"number": index, "elapsed": 0.0, "received": 0.0} for index, one in enumerate((name(1), name(2)), 1)}
    (folder / ".received.json").write_text(json.dumps(notes))
    (folder / name(1)).write_bytes(b"x" * 3 * MIB)
    night(3, 300)
    assert result(held) == (3, 1)
    assert [one.bytes for one in uploads.held(held)] == [3 * MIB, 0, 300]


def test_logs_and_the_state_shrink_as_they_like(held: store.Store, night: Night) -> None:
    folder = held.root / "logs" / "app1"
    names = [
        f"{stem}{day}" for day in (1, 2) for stem in ("access.log-2026110", "state.control-2026110", "files-2026110")
    ]
    for one, size in zip(names, [9 * MIB] * 3 + [1] * 3, strict=True):
        (folder / ".part").write_bytes(b"x" * size)
        intake_logs.book(held, folder, folder / ".part", one)
    assert result(held) == (0, 0)


def archive(number: int, size: int, state: str = "good", accepted: bool = False) -> Archive:
    return Archive("app1", name(number), number, size, state, accepted=accepted)


@pytest.mark.parametrize(
    ("earlier", "size", "expected"),
    [
        ([], 1, False),
        ([archive(1, 10 * MIB)], 5 * MIB, False),
        ([archive(1, 10 * MIB)], 5 * MIB - 1, True),
        # A slow loss adds up.
        ([archive(1, 10 * MIB), archive(2, 6 * MIB)], 4 * MIB, True),
        # A shrunken one is no measure.
        ([archive(1, 10 * MIB), archive(2, 2, "shrunken")], 2, True),
        ([archive(1, 10 * MIB), archive(2, 3 * MIB, accepted=True)], 2 * MIB, False),
        ([archive(1, MIB)], 0, False),
        ([archive(1, MIB + 1)], 0, True),
    ],
)
def test_half_of_the_largest(earlier: list[Archive], size: int, expected: bool) -> None:
    assert bool(shrunken("app1", name(9), size, earlier)) is expected
