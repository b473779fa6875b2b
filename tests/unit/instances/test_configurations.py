"""Configurations of a host's instances: side by side, named by content, each instance with its own."""

from __future__ import annotations

import io
import json
import os
import pwd
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from phoenix.common import files, systemd
from phoenix.instances import cli, configurations, paths, units
from tests.unit.shared import TOP, read_yaml, rendered

UNIT = "[Service]\nEnvironment=PATH={node}/bin:/usr/bin\nMemoryMax={memory}\n"


@pytest.fixture
def configure(host: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run the verb as the role does, and return what it printed."""

    def run(memory: str = "256M", environment: str = 'A="1"\n', template: str = "[Unit]\n", *words: str) -> Any:
        given = {
            "template": template,
            "unit": UNIT.format(node=host / "nodejs" / "current", memory=memory),
            "environment": environment,
        }
        monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(given)))
        capsys.readouterr()
        assert cli.main(["configure", *words]) == 0
        return json.loads(capsys.readouterr().out)

    return run


def test_a_new_configuration_is_beside_the_others_and_changes_no_instance(host: Path, configure: Any) -> None:
    old = configure()["configuration"]
    configurations.accept(old)
    units.link([3000], str(host / "releases" / "1"), old)
    new = configure("512M")["configuration"]
    assert new != old
    assert configurations.names() == sorted([old, new])
    assert (configurations.accepted(), configurations.of(3000)) == (old, old)
    assert "MemoryMax=256M" in (host / "units" / "phoenix@3000.service.d" / "unit.conf").read_text()


def test_systemd_reads_what_an_instance_is_given_also_where_it_is_older(
    host: Path, configure: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = (configure(memory)["configuration"] for memory in ("1M", "2M"))
    ran: list[tuple[str, ...]] = []
    monkeypatch.setattr(systemd, "systemctl", lambda *words: ran.append(words))
    for configuration, reads in ((old, 1), (old, 0), (new, 1), (old, 1)):
        ran.clear()
        units.link([3000, 3001], str(host / "releases" / "1"), configuration)
        assert ran == [("daemon-reload",)] * reads
        assert {configurations.of(port) for port in (3000, 3001)} == {configuration}


@pytest.mark.parametrize("one", [("512M",), ("256M", 'A="2"\n'), ("256M", 'A="1"\n', "[Unit]\n#\n")])
def test_a_name_is_one_content(configure: Any, one: tuple[str, ...]) -> None:
    first = configure()
    assert configure() == {**first, "changed": []}
    assert configure(*one)["configuration"] != first["configuration"]


def test_another_nodejs_is_another_configuration_and_the_older_keeps_its_own(host: Path, configure: Any) -> None:
    old = configure()["configuration"]
    files.point(host / "nodejs" / "current", "20.1.0")
    new = configure()["configuration"]
    for name, version in ((old, "8.11.1"), (new, "20.1.0")):
        assert f"{host}/nodejs/{version}/bin" in (host / "configurations" / name / "unit.conf").read_text()


def test_secrets_are_roots_and_are_in_no_report(host: Path, configure: Any) -> None:
    first = configure(environment='PASSWORD="one\nabcd="\nKEPT="k"\n')
    assert (host / "configurations" / first["configuration"] / "environment").stat().st_mode & 0o777 == 0o600
    configurations.accept(first["configuration"])
    seen = configure("512M", 'PASSWORD="two\nefgh="\nKEPT="k"\n')
    assert seen["differs"] == ["- MemoryMax=256M", "+ MemoryMax=512M", "environment: PASSWORD"]


def test_a_damaged_revision_is_written_again(host: Path, configure: Any) -> None:
    name = configure()["configuration"]
    (host / "configurations" / name / "environment").write_text('A="9"\n')
    configure()
    assert (host / "configurations" / name / "environment").read_text() == 'A="1"\n'


def test_a_rehearsal_writes_nothing(host: Path, configure: Any) -> None:
    seen = configure("256M", 'A="1"\n', "[Unit]\n", "--check")
    assert seen["changed"] == [{"action": "write", "configuration": seen["configuration"]}]
    assert not (host / "configurations").exists()
    assert not (host / "units" / "phoenix@.service").exists()


def test_what_nothing_uses_is_removed_and_what_is_used_stays(host: Path, configure: Any) -> None:
    accepted, used, unused = (configure(memory)["configuration"] for memory in ("1M", "2M", "3M"))
    units.link([3000], str(host / "releases" / "1"), used)
    assert cli.main(["activate", "--release", "1", "--configuration", accepted]) == 0
    assert configurations.names() == sorted([accepted, used])
    assert unused not in configurations.names()


def test_one_that_is_not_there_is_refused_before_anything_is_touched(
    host: Path, configure: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    configurations.accept(configure()["configuration"])
    monkeypatch.setattr(units, "reload_changed", lambda: pytest.fail("units were touched"))
    for verb in ("switch", "start"):
        assert cli.main([verb, "--release", "1", "--configuration", "0" * 12, "3000"]) == 1
        assert "is not on this host: site.yml has to write it first" in capsys.readouterr().err
    assert configurations.of(3000) == ""


def test_a_folder_of_systemctl_edit_is_named_and_kept(
    host: Path, configure: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    configurations.accept(configure()["configuration"])
    (host / "units" / "phoenix@3000.service.d").mkdir()
    assert cli.main(["start", "--release", "1", "3000"]) == 1
    assert "made by systemctl edit" in capsys.readouterr().err
    assert (host / "units" / "phoenix@3000.service.d").is_dir()


def test_instances_of_version_0_9_keep_what_they_run_with(host: Path, configure: Any) -> None:
    """They shared an environment and a unit, which are their first revision, before the template replaces the unit."""
    (host / "phoenix.env").write_text('A="old"\n')
    (host / "units" / "phoenix@.service").write_text(
        f"[Unit]\nA=b\n[Service]\nType=simple\nUser=phoenix\nEnvironment=PATH={host}/nodejs/current/bin\n"
        "EnvironmentFile=/etc/phoenix/phoenix.env\nExecStart=/x\nMemoryMax=128M\n\n[Install]\nWantedBy=c\n"
    )
    files.point(host / "instances" / "3000", str(host / "releases" / "1"))
    new = configure()["configuration"]
    adopted = configurations.of(3000)
    assert adopted not in ("", new)
    assert configurations.accepted() == adopted
    folder = host / "configurations" / adopted
    assert (folder / "environment").read_text() == 'A="old"\n'
    assert (folder / "unit.conf").read_text().split("\n") == [
        "[Service]", f"Environment=PATH={host}/nodejs/8.11.1/bin", "MemoryMax=128M", "",
    ]  # fmt: skip
    assert not (host / "phoenix.env").exists()
    assert configure()["changed"] == []


def test_a_new_host_begins_with_what_another_one_serves_with(
    host: Path, configure: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (host / "nodejs" / "8.11.1").mkdir()
    old = configure()["configuration"]
    assert cli.main(["export", "--configuration", old]) == 0
    exported = capsys.readouterr().out
    # Another host, which has the new configuration only, beside none that is accepted.
    monkeypatch.setattr(paths, "CONFIGURATIONS", host / "other")
    new = configure("512M")["configuration"]
    for expected in ([{"action": "write", "configuration": old}, {"action": "current", "configuration": old}], []):
        monkeypatch.setattr("sys.stdin", io.StringIO(exported))
        assert cli.main(["take-over"]) == 0
        assert json.loads(capsys.readouterr().out) == {"changed": expected}
    assert (configurations.accepted(), configurations.names()) == (old, sorted([old, new]))
    assert "MemoryMax=256M" in (host / "other" / old / "unit.conf").read_text()
    assert cli.main(["export", "--configuration", "0" * 12]) == 1


def test_a_new_host_without_that_nodejs_does_not_begin_with_it(
    host: Path, configure: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    old = configure()["configuration"]
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(configurations.export(old))))
    assert cli.main(["take-over"]) == 0
    assert configurations.accepted() == ""


def test_what_another_host_sends_has_the_folders_that_it_writes_to(
    host: Path, configure: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without them every start fails (226/NAMESPACE): a host that was away has missed what site.yml created."""
    role = TOP / "roles" / "phoenix"
    (create,) = [task for task in read_yaml(role / "tasks" / "install.yml") if "phoenix_writable_paths" in str(task)]
    assert {"owner": "phoenix", "mode": "0750"}.items() <= create["ansible.builtin.file"].items()
    new, known = host / "data" / "uploads", host / "known"
    known.mkdir(mode=0o700)
    unit = rendered(
        role / "templates" / "phoenix@.service.d.conf.j2", {"phoenix_writable_paths": [str(new), str(known)]}
    )
    given = {"name": "0123456789ab", "files": {"environment": "", "unit.conf": unit.replace("/opt/nodejs/current", "")}}
    owned: list[tuple[str, int, int]] = []
    monkeypatch.setattr(
        os, "fchown", lambda fd, *ids: owned.append((str(Path(f"/proc/self/fd/{fd}").readlink()), *ids))
    )
    monkeypatch.setattr(pwd, "getpwnam", {"phoenix": SimpleNamespace(pw_uid=61, pw_gid=62)}.__getitem__)

    def receive() -> int:
        monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(given)))
        return cli.main(["receive"])

    (host / "data").write_text("no folder")
    assert receive() == 1
    error = capsys.readouterr().err
    assert str(new) in error and "run site.yml, which creates it" in error
    assert configurations.names() == [] and owned == []
    (host / "data").unlink()
    before = os.umask(0o077)
    try:
        assert receive() == 0
    finally:
        os.umask(before)
    assert owned == [(str(new.parent), 61, 62), (str(new), 61, 62)]
    assert new.stat().st_mode & 0o777 == 0o750
    assert known.stat().st_mode & 0o777 == 0o700, "what is there stays as it is"
    assert configurations.names() == ["0123456789ab"]
