"""A fork of the process that has imported Ansible is, to a program, as if Python had been started for it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.unit.shared import CLEAN, run_ansible

PROGRAM = """
import json, os, sys
import beside
try:
    import evaluate
    sys.exit("what lies beside the server is found")
except ImportError:
    pass
words = [*sys.argv[1:], beside.NAME, sys.stdin.read(), os.environ["OWN"], __name__]
print(json.dumps({"words": words, "more": sorted(os.environ.keys() - set(sys.argv[1:]))}))
print("an error", file=sys.stderr)
if "fail" in sys.argv:
    raise SystemExit(7)
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    (tmp_path / "program").write_text(PROGRAM)
    (tmp_path / "beside.py").write_text("NAME = 'its folder'")
    return tmp_path / "program"


def test_words_files_environment_and_status_are_the_programs_own(program: Path) -> None:
    for _ in range(2):  # the second finds nothing of the first
        done = run_ansible(program, *CLEAN, given="given", OWN="its own", PYTHONPATH="")
        assert (done.returncode, done.stderr) == (0, "an error\n")
        assert json.loads(done.stdout) == {
            "words": [*CLEAN, "its folder", "given", "its own", "__main__"],
            "more": sorted({"OWN", "PYTHONPATH"} - set(CLEAN)),
        }
    assert run_ansible(program, "fail", OWN="", PYTHONPATH="").returncode == 7


def test_a_program_that_does_not_end_by_itself_fails(program: Path) -> None:
    program.write_text("raise KeyError('a cause')")
    done = run_ansible(program)
    assert done.returncode == 1 and "KeyError: 'a cause'" in done.stderr
    program.write_text("import os\nos.kill(os.getpid(), 9)")
    assert run_ansible(program).returncode == -9


def test_what_ansible_has_read_already_can_not_be_asked_for(program: Path) -> None:
    with pytest.raises(AssertionError, match="start a process"):
        run_ansible(program, ANSIBLE_PRECEDENCE="all_inventory")
