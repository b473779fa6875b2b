"""What a release's start script holds, and which archives stay."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from phoenix.build import archive, start


@pytest.mark.parametrize(
    ("command", "last"),
    [
        ("node server.js", "exec node server.js"),
        ("NODE_ENV=production node --max-old-space-size=128 index.js", "exec node --max-old-space-size=128 index.js"),
        ("node server.js --port $PORT", 'exec node server.js --port "$PORT"'),
        ("node 'a b.js'", "exec node 'a b.js'"),
    ],
)
def test_node_takes_the_shells_place(command: str, last: str) -> None:
    script = start.start_script({"scripts": {"start": command}}, False)
    assert script.splitlines()[-1] == last


@pytest.mark.parametrize(
    ("package", "words"),
    [
        ({"scripts": {"start": "node a.js && node b.js"}}, "'&&'"),
        ({"scripts": {"start": "node $(which a)"}}, "can be used, not"),
        ({"scripts": {"start": "npm run serve"}}, "'npm'"),
        ({"scripts": {"start": "node 'a"}}, "can't be read"),
        ({"scripts": {"prestart": "x", "start": "node a.js"}}, "prestart"),
        ({}, "nothing to run"),
    ],
)
def test_a_start_command_that_needs_a_shell_is_refused(package: dict[str, object], words: str) -> None:
    with pytest.raises(start.BuildError, match=words.replace("$", r"\$")):
        start.start_script(package, False)


def test_without_a_start_script_server_js_runs_as_npm_does() -> None:
    assert start.start_script({}, True).endswith("exec node server.js\n")


def test_five_newest_archives_stay(tmp_path: Path) -> None:
    for number in range(8):
        for name in (f"1.0.{number}.tar.gz", f"1.0.{number}.tar.gz.sha256"):
            (tmp_path / name).touch()
            os.utime(tmp_path / name, (number, number))
    archive.prune(tmp_path, 5, {"1.0.0", ""})
    archives = sorted(path.name for path in tmp_path.glob("*.tar.gz"))
    # The one that was just built counts, however its clock stood.
    assert archives == [f"1.0.{number}.tar.gz" for number in (0, 4, 5, 6, 7)]
    assert len(list(tmp_path.glob("*.sha256"))) == 8, "a name keeps its content's checksum"


def test_the_serving_release_outlives_any_number_of_failed_ones(tmp_path: Path) -> None:
    for number in range(8):
        (tmp_path / f"1.0.{number}.tar.gz").touch()
        os.utime(tmp_path / f"1.0.{number}.tar.gz", (number, number))
    archive.prune(tmp_path, 5, {"1.0.7", "1.0.0"})
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"1.0.{number}.tar.gz" for number in (0, 4, 5, 6, 7)]
