"""The program that counts what makes the sources hard to follow."""

from __future__ import annotations

import pytest

from tests.tools import structure

PROGRAM = "#!/usr/bin/python3\nprint()\n"
LINT = "mapfile -t python_paths < <(existing shared roles/a/files)\n"


@pytest.mark.parametrize(
    ("name", "text", "way"),
    [
        ("src/phoenix/cli.py", "", "the package"),
        ("library/one.py", "", "a module of Ansible"),
        ("roles/a/files/one.py", "", "a file of a role"),
        ("roles/a/files/one", PROGRAM, "a program of a role"),
        ("roles/a/files/package/one.py", "", "a package of a role"),
        ("roles/a/templates/one.j2", PROGRAM, "a template"),
        ("phoenix_core/one.py", "", "a folder that roles copy from"),
        ("roles/a/tasks/main.yml", "cmd: python3 -c 'print()'\n", "a string in a task"),
        ("roles/a/tasks/main.yml", "cmd: python3 one.py\n", ""),
        ("roles/a/files/one", "#!/bin/sh\n", ""),
        ("tests/unit/one.py", "", ""),
    ],
)
def test_each_way_to_a_host(name: str, text: str, way: str) -> None:
    known = {name: text, "roles/a/files/package/__init__.py": ""}
    assert structure.way(name, text, known) == way


def test_what_the_type_checker_is_not_given() -> None:
    sources = {"roles/a/files/one.py": "a\n" * 3, "roles/a/files/two": PROGRAM, "roles/b/templates/three": PROGRAM}
    assert structure.unchecked({**sources, "tests/lint": LINT}) == 4
    assert structure.unchecked({**sources, "tests/lint": "python_programs | xargs mypy\n"}) == 2


def test_expressions_and_long_files() -> None:
    known = {
        "roles/a/tasks/main.yml": 'a: "{{ b\n   | c }}"\n{% if d %}\n',
        "roles/a/README.md": "{{ " + "x" * 400 + " }}",
        "src/phoenix/one.py": "a\n" * 301,
        "tests/two.py": "a\n" * 300,
    }
    assert structure.expressions(known) == [5, 4]
    assert (structure.long_files(known, tests=False), structure.long_files(known, tests=True)) == (1, 0)


def test_the_table_has_a_column_for_each() -> None:
    lines = structure.table({"before": {}, "now": {"src/phoenix/one.py": "partial.replace(path)\n"}}).splitlines()
    assert {line.count(" | ") for line in lines} == {2}
    assert "atomic replacement 1, " in lines[3] and len(lines) == 2 + len(structure.ROWS)
