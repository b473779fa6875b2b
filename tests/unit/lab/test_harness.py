"""The harness of the end-to-end tests and the benchmark: who imports what, and its programs for hosts."""

from __future__ import annotations

import ast
import functools
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.harness import database, hosts, programs, writes
from tests.unit.shared import TOP

REMOTE = sorted(hosts.REMOTE.glob("*.py"))
SOURCES = [
    path for folder in ("bench", "drills", "lab", "soak", "tests") for path in sorted((TOP / folder).rglob("*.py"))
]


@functools.cache
def imported(path: Path) -> set[str]:
    """List the modules that a file imports, with names that may be modules of a package."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def test_no_test_is_a_library() -> None:
    for path in SOURCES:
        tests = [name for name in imported(path) if name.rpartition(".")[2].startswith("test_")]
        assert not tests, f"{path.relative_to(TOP)} imports {tests}: what others need belongs in tests/harness"


def test_only_the_end_to_end_tests_import_each_other() -> None:
    for path in SOURCES:
        if not path.is_relative_to(TOP / "tests" / "e2e"):
            assert not [name for name in imported(path) if name.startswith("tests.e2e")], path.relative_to(TOP)


def test_a_conftest_is_for_its_own_folder() -> None:
    for path in SOURCES:
        others = [
            name
            for name in imported(path)
            if name.endswith(".conftest") and TOP.joinpath(*name.split(".")).parent not in path.parents
        ]
        assert not others, f"{path.relative_to(TOP)} imports {others}: what others need belongs in tests/harness"


def test_one_module_names_phoenix_own_programs() -> None:
    named = {value.split()[0] if value.startswith("/") else value for value in commands().values()}
    assert len(named) > 5
    folders = ("bench", "tests/e2e", "tests/harness", *(str(p.relative_to(TOP)) for p in TOP.glob("molecule/*/tests")))
    for path in (path for folder in folders for path in (TOP / folder).rglob("*.py")):
        if path != Path(programs.__file__):
            text = path.read_text(encoding="utf-8")
            assert not [name for name in named if name in text], f"{path.relative_to(TOP)}: use tests.harness.programs"


def test_stopped_hosts_are_left_out_of_make_test() -> None:
    """Molecule names each file to pytest, which then collects it whatever a conftest.py ignores."""
    path = TOP / "tests" / "e2e" / "test_stopped_hosts.py"
    environment = {name: value for name, value in os.environ.items() if name != "PHOENIX_STOPPED"}
    asked = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--quiet", str(path)]
    done = subprocess.run(asked, check=False, cwd=TOP, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines()[-1].startswith("4 skipped"), done.stdout


def commands() -> dict[str, str]:
    """The commands of tests/harness/programs.py."""
    return {name: value for name, value in vars(programs).items() if name.isupper() and not name.startswith("_")}


@pytest.mark.parametrize("path", REMOTE, ids=lambda path: path.stem)
def test_programs_for_hosts_need_no_more_than_the_oldest_host_has(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    ast.parse(text, feature_version=(3, 9))  # Debian 11
    beside = {f"tests.harness.remote.{name}" for name in hosts.IMPORTED.findall(text)} | {"tests.harness.remote"}
    names = imported(path) - (beside if len(beside) > 1 else set())
    foreign = {name.partition(".")[0] for name in names} - set(sys.stdlib_module_names)
    assert foreign <= {"pymongo", "phoenix"}
    helpers = {name for other in REMOTE for name in hosts.IMPORTED.findall(other.read_text(encoding="utf-8"))}
    assert text.startswith("#!/usr/bin/python3\n") is (path.stem not in helpers)


def test_what_a_program_imports_goes_with_it_to_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pymongo.py").write_text(
        "class MongoClient:\n"
        "    def __init__(self, *words, **options): self.admin = self\n"
        "    def command(self, _): return {'isWritablePrimary': True}\n"
    )
    monkeypatch.setattr(hosts, "ON_HOST", str(tmp_path / "on host"))
    command = hosts.remote("primary", runner=f"PYTHONPATH={tmp_path} {sys.executable}")
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout == "True\n", done.stderr


def test_command_lines_are_seen() -> None:
    """Of two secrets, the one on a command line is found and cut out; the other is not found."""
    sampler = subprocess.Popen(
        [sys.executable, str(hosts.REMOTE / "command_lines.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert sampler.stdin and sampler.stdout
    sampler.stdin.write(json.dumps(["open-Kq3vZ", "hidden-Wm8xT"]) + "\n")
    sampler.stdin.flush()
    assert sampler.stdout.readline() == "sampling\n"
    process = subprocess.Popen(["sh", "-c", "read _", "open-Kq3vZ"], stdin=subprocess.PIPE)
    time.sleep(0.5)
    process.communicate(b"\n")
    result = json.loads(sampler.communicate()[0])
    assert result["found"] == {"0": ["sh -c read _ ***"]}
    assert result["samples"] > 1 and "sh" in result["programs"]


def test_members_are_asked_for_their_data_by_tls_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CAs that the connection string names are on the hosts alone."""
    orders: list[dict[str, object]] = []

    def ssh(_: str, __: str, ___: str, text: str) -> subprocess.CompletedProcess[str]:
        orders.append(json.loads(text))
        return subprocess.CompletedProcess([], 0, '{"md5": "1"}', "")

    uri = "mongodb://u:p%40@192.0.2.31:27017/phoenix?ssl=true&tlsCAFile=/nowhere/ca.pem"  # pragma: allowlist secret
    monkeypatch.setattr(writes, "connection_string", lambda _: uri)
    monkeypatch.setattr(writes, "hosts_of", lambda *_: {"db1": None, "db2": None})
    monkeypatch.setattr(database, "ssh", ssh)
    assert writes.data_equal("inventories/lab")
    seen = {(order["user"], order["password"], order["database"]) for order in orders}
    assert len(orders) == 2 and seen == {("u", "p@", "phoenix")}
