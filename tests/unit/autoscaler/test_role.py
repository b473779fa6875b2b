"""The role in a dry run on a host that has none of it yet."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from tests.harness.plays import PLAYBOOK
from tests.unit.shared import SAMPLES, run_ansible

FOLDERS = ("/etc/phoenix", "/opt/phoenix", "/var/lib/phoenix")


def tasks(shown: str) -> dict[str, str]:
    """What a play shows of each task and handler."""
    parts = re.split(r"^(?:TASK|RUNNING HANDLER) \[(.+)\] \*+$", shown, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.skipif(any(Path(folder).exists() for folder in FOLDERS), reason="this machine is a host of Phoenix")
@pytest.mark.parametrize("enabled", [True, False])
def test_a_dry_run_on_a_bare_host_goes_through_and_leaves_it_bare(tmp_path: Path, enabled: bool) -> None:
    shown = "Id=x\\nActiveState=inactive\\nUnitFileState=\\n"
    (tmp_path / "systemctl").write_text(f"#!/bin/sh\nprintf '{shown}'\n")
    (tmp_path / "systemctl").chmod(0o755)
    play = {
        "hosts": "localhost",
        "connection": "local",
        "become": False,
        "gather_facts": False,
        "roles": ["autoscaler"],
        "vars": {**SAMPLES["roles"]["autoscaler"], "autoscaler_enabled": enabled},
    }
    (tmp_path / "play.json").write_text(json.dumps([play]))
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = run_ansible(PLAYBOOK, "-i", "localhost,", "--check", "--diff", tmp_path / "play.json", PATH=path)
    assert done.returncode == 0, done.stdout + done.stderr
    seen = tasks(done.stdout)
    assert "+  long_seconds: 600\n" in seen["autoscaler : Write the configuration"], "what a run would write"
    # What is not there can't be reloaded, and without libraries there is nothing to install.
    assert "changed:" not in seen.get("autoscaler : Reload the autoscaler", "")
    assert "skipping:" in seen["runner : Install the packages into a virtual environment"]
    for unit in ("Start its socket", "Start the autoscaler"):
        assert ("changed:" in seen[f"autoscaler : {unit}"]) is enabled
    assert not any(Path(folder).exists() for folder in FOLDERS)
