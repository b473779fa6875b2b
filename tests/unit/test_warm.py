"""Filters are loaded once a play, in the process that Ansible forks its workers from."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.unit.shared import CLEAN, TOP

FILTER = """
import os
LOADED_BY = os.getpid()
class FilterModule:
    def filters(self):
        return {"processes": lambda _: "loaded by the worker itself" if os.getpid() == LOADED_BY else "loaded before"}
"""
PLAY = """
- hosts: localhost
  gather_facts: false
  tasks:
    - ansible.builtin.debug: {msg: "{{ 0 | processes }}"}
"""


def test_workers_find_the_filters_loaded(tmp_path: Path) -> None:
    (tmp_path / "filters").mkdir()
    (tmp_path / "filters" / "processes.py").write_text(FILTER)
    (tmp_path / "play.yml").write_text(PLAY)
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("ansible-playbook")),
            "-i",
            "localhost,",
            "-c",
            "local",
            str(tmp_path / "play.yml"),
        ],
        cwd=TOP,  # so that its ansible.cfg counts
        env={**CLEAN, "ANSIBLE_FILTER_PLUGINS": str(tmp_path / "filters")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "loaded before" in done.stdout, done.stdout
