"""One name, one content: what a host has unpacked is compared with control's archive of that name."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from phoenix.common import files
from phoenix.instances import cli, releases
from tests.harness.plays import PLAYBOOK, environment
from tests.unit.shared import TOP, run_ansible

OWN, OTHER = f"sha256:{'a1' * 32}", f"sha256:{'b2' * 32}"


def printed(capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert cli.main(["status"]) == 0
    return capsys.readouterr().out


def test_the_checksum_of_what_was_unpacked_is_reported_and_compared(
    host: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (host / "releases/2/.phoenix-checksum").write_text(f"{OWN}\n")
    seen = printed(capsys)
    assert json.loads(seen)["checksums"] == {"2": OWN}
    same, other = {"there": True, "differs": False, "refusal": ""}, {"there": False, "differs": True, "refusal": ""}
    assert releases.compare(seen, "app1", "2", OWN) == same
    assert releases.compare(seen, "app1", "2", OTHER) == other, "nothing runs it: control's takes its place"
    assert releases.compare(seen, "app1", "2", releases.UNBUILT) == same, "a rehearsal knows no checksum"
    assert releases.compare(seen, "app1", "1", OTHER) == same, "unpacked by an earlier version"
    assert not releases.compare(seen, "app1", "3", OTHER)["there"]
    assert not releases.compare("skipped, since it is not installed", "app1", "2", OWN)["there"]


@pytest.mark.parametrize("use", ["current", "instances/3000"])
def test_what_runs_or_would_after_a_restart_is_not_replaced(
    host: Path, capsys: pytest.CaptureFixture[str], use: str
) -> None:
    (host / "releases/2/.phoenix-checksum").write_text(f"{OWN}\n")
    files.point(host / use, str(host / "releases" / "2"))
    found = releases.compare(printed(capsys), "app1", "2", OTHER)
    assert found["differs"]
    for words in ("release 2 on app1", "sha256:a1a1a1a1", "sha256:b2b2b2b2", "phoenix_build_as", "drop --force"):
        assert words in found["refusal"]


def test_what_is_no_checksum_is_not_compared(host: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (host / "releases/1/.phoenix-checksum").write_bytes(b"\xff of an application")
    assert json.loads(printed(capsys))["checksums"] == {}


# Instead of the installed program: this checkout's, with a folder of its own for each host.
PROGRAM = """#!{python}
import sys
from pathlib import Path
sys.path.insert(0, {source!r})
from phoenix.common import systemd
from phoenix.instances import cli, paths
systemd.systemctl = lambda *arguments: ""
top = Path(__file__).parent
paths.RELEASES, paths.LINKS, paths.CURRENT = top / "releases", top / "instances", top / "current"
paths.PROCESSES, paths.STATE, paths.CONFIGURATION = top / "target.json", top / "state", top / "configuration"
sys.exit(cli.main(sys.argv[2:]))
"""
PLUGIN = """
import importlib.util
spec = importlib.util.spec_from_file_location("real", {plugin!r})
real = importlib.util.module_from_spec(spec)
spec.loader.exec_module(real)

class ActionModule(real.ActionModule):
    def run(self, tmp=None, task_vars=None):
        real.PROGRAM = {folder!r} + "/" + task_vars["inventory_hostname"] + "/phoenixctl"
        return super().run(tmp, task_vars)
"""


class Fleet:
    """Application hosts on this machine, on which the tasks that unpack a release run as they do in a deploy."""

    def __init__(self, folder: Path, *hosts: str) -> None:
        self.folder, self.hosts = folder, hosts
        (folder / "action_plugins").mkdir()
        plugin = PLUGIN.format(plugin=str(TOP / "action_plugins" / "phoenixctl.py"), folder=str(folder))
        (folder / "action_plugins" / "phoenixctl.py").write_text(plugin)
        for host in hosts:
            for name in ("releases", "instances", "state"):
                (folder / host / name).mkdir(parents=True)
            (folder / host / "phoenixctl").write_text(PROGRAM.format(python=sys.executable, source=str(TOP / "src")))
            (folder / host / "phoenixctl").chmod(0o755)

    def archive(self, text: str) -> str:
        """Control's archive of the release 1.0.0, which holds this; its checksum."""
        (self.folder / "server.js").write_text(text)
        with tarfile.open(self.folder / "1.0.0.tar.gz", "w:gz") as archive:
            for name in ("server.js", ".phoenix-start"):
                archive.add(self.folder / "server.js", name)
        return f"sha256:{files.sha256(self.folder / '1.0.0.tar.gz')}"

    def install(self, checksum: str, *options: str) -> tuple[int, str]:
        role = {"name": str(TOP / "roles" / "phoenix"), "tasks_from": "release"}
        play = {"hosts": "all", "gather_facts": False, "any_errors_fatal": True}
        playbook = self.folder / "play.yml"
        playbook.write_text(json.dumps([{**play, "tasks": [{"ansible.builtin.include_role": role}]}]))
        given: dict[str, Any] = {
            "phoenix_version": "1.0.0",
            "phoenix_release_archive": str(self.folder / "1.0.0.tar.gz"),
            "phoenix_release_checksum": checksum,
            "__phoenix_releases": f"{self.folder}/{{{{ inventory_hostname }}}}/releases",
            "ansible_become": False,
        }
        hosts = ",".join(self.hosts) + ","
        words = ["-i", hosts, "-c", "local", "-e", json.dumps(given), *options, str(playbook)]
        if os.getuid():  # what is unpacked belongs to root
            command = ["unshare", "--map-root-user", PLAYBOOK, *words]
            done = subprocess.run(command, env=environment(), cwd=TOP, capture_output=True, text=True, check=False)
        else:
            done = run_ansible(PLAYBOOK, *words)
        return done.returncode, " ".join((done.stdout + done.stderr).split())

    def release(self, host: str) -> Path:
        return self.folder / host / "releases" / "1.0.0"

    def content(self, host: str) -> str:
        return (self.release(host) / "server.js").read_text()


def test_what_nothing_runs_gets_controls_content_and_what_runs_keeps_its_own(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, "app1", "app2")
    first = fleet.archive("first")
    status, output = fleet.install(first, "--limit=app1")
    assert status == 0, output
    assert fleet.content("app1") == "first"
    assert (fleet.release("app1") / ".phoenix-checksum").read_text() == f"{first}\n"
    assert sorted(path.name for path in (tmp_path / "app1/releases").iterdir()) == ["1.0.0"]

    # Refused on the one that runs it, before anything changes on the other, which has the same.
    shutil.copytree(fleet.release("app1"), fleet.release("app2"))
    second = fleet.archive("second")
    (tmp_path / "app1/current").symlink_to(fleet.release("app1"))
    status, output = fleet.install(second)
    assert status != 0
    assert f"on app1 was unpacked from {first[:19]}…, but control's archive of that name is {second[:19]}…" in output
    assert "on app2 was unpacked" not in output
    assert {fleet.content(host) for host in fleet.hosts} == {"first"}

    # Where nothing runs it, it is unpacked again; a rehearsal says so.
    status, output = fleet.install(second, "--check", "--limit=app2")
    assert status == 0 and output.count("changed=0") == 0, output
    assert fleet.content("app2") == "first"
    status, output = fleet.install(second, "--limit=app2")
    assert status == 0 and output.count("changed=0") == 0, output
    assert [fleet.content(host) for host in fleet.hosts] == ["first", "second"]

    # A second run changes nothing, and what an earlier version of Phoenix unpacked is left as it is.
    (fleet.release("app1") / ".phoenix-checksum").unlink()
    status, output = fleet.install(second)
    assert status == 0 and output.count("changed=0") == 2, output
    assert [fleet.content(host) for host in fleet.hosts] == ["first", "second"]
