"""What the bootstrap installs, refuses and reports, on a machine whose programs only record their arguments."""

from __future__ import annotations

import hashlib
import os
import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.unit.shared import TOP

ACCOUNT = "ann:word"
NOBODY = 65534
SBIN = ":/usr/local/sbin:/usr/sbin:/sbin"
NOTE = 'echo "$(basename "$0") $* $http_proxy" >>"$(dirname "$0")/../calls"'
# Takes sudo's own options away and runs the rest, as sudo does for a user who may.
SUDO = f'{NOTE}\nwhile :; do case $1 in -p) shift 2 ;; -*) shift ;; *) break ;; esac; done\nexec "$@"'


class Machine:
    """A checkout whose .venv and collections are complete, and a user's machine with everything installed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "lab").mkdir()
        (folder / "sbin").mkdir()
        script = (TOP / "lab/bootstrap").read_text()
        assert SBIN in script
        # Without the real machine's: what is missing here must be missing.
        (folder / "lab/bootstrap").write_text(script.replace(SBIN, f":{folder}/sbin"))
        self.write("lab/with-docker", 'exec "$@"')
        requirements = (TOP / "requirements.txt").read_bytes()
        (folder / "requirements.txt").write_bytes(requirements)
        checksum = re.search(r"^checksum=(\w+)$", script, re.MULTILINE)
        assert checksum
        for mark, value in (
            (".venv", hashlib.sha256(requirements).hexdigest()),
            (".cache/collections", checksum[1]),
        ):
            (folder / mark).mkdir(parents=True)
            (folder / mark / ".complete").write_text(f"{value}\n")
        for name in ("java", "node", "npm", "ssh", "docker", "apt-get", "systemd-analyze"):
            self.write(f"bin/{name}", NOTE)
        for name in ("dockerd", "debootstrap", "iptables"):
            self.write(f"sbin/{name}", "")
        self.write("bin/dpkg", "echo amd64")
        self.write("bin/id", "[ $1 = -u ] && echo 1000 || echo ann")
        self.write("bin/sudo", SUDO)
        for name in (
            "bash",
            "basename",
            "cat",
            "cut",
            "dirname",
            "echo",
            "env",
            "python3",
            "sha256sum",
            "sleep",
            "true",
        ):
            (folder / "bin" / name).symlink_to(f"/usr/bin/{name}")

    def write(self, path: str, body: str) -> None:
        program = self.folder / path
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/bash\n{body}\n")
        program.chmod(0o755)

    def bootstrap(self, *arguments: str, **environment: str) -> tuple[int, list[str]]:
        """Return the exit status and the lines of output."""
        done = subprocess.run(
            ["/bin/bash", "lab/bootstrap", *arguments],
            cwd=self.folder,
            env={"PATH": f"{self.folder}/bin", **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout == ""
        return done.returncode, done.stderr.splitlines()

    @property
    def calls(self) -> list[str]:
        calls = self.folder / "calls"
        return [line.strip() for line in calls.read_text().splitlines()] if calls.exists() else []


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_complete_machine_is_left_unchanged(machine: Machine) -> None:
    assert machine.bootstrap() == (0, [])
    assert machine.calls == ["docker info"]


def test_checks_need_neither_engine_nor_root(machine: Machine) -> None:
    for name in ("bin/docker", "sbin/dockerd", "sbin/debootstrap", "sbin/iptables"):
        (machine.folder / name).unlink()
    assert machine.bootstrap("checks") == (0, [])
    assert machine.calls == []


def test_the_tests_of_providers_get_libvirt(machine: Machine) -> None:
    status, said = machine.bootstrap("providers")
    assert status == 0
    wanted = {"libvirt-clients", "libvirt-daemon", "xorriso"}
    assert {line.split()[2].rstrip(":") for line in said} == wanted
    assert wanted < set(" ".join(machine.calls).split())
    for name in ("virsh", "libvirtd", "xorriso"):
        machine.write(f"bin/{name}", "")
    assert machine.bootstrap("providers") == (0, [])


def test_other_architecture_is_refused_before_anything_is_fetched(machine: Machine) -> None:
    machine.write("bin/dpkg", "echo arm64")
    (machine.folder / ".venv/.complete").unlink()
    (machine.folder / "sbin/debootstrap").unlink()
    status, said = machine.bootstrap()
    assert status == 1
    assert len(said) == 1
    assert said[0].startswith("bootstrap: this machine is arm64: the lab needs amd64")
    assert machine.calls == []


def test_what_is_missing_is_installed_through_sudo_and_the_proxy(machine: Machine) -> None:
    (machine.folder / "sbin/debootstrap").unlink()
    proxy = f"http://{ACCOUNT}@proxy:3128"
    status, said = machine.bootstrap(HTTP_PROXY=proxy)
    assert (status, said) == (0, ["bootstrap: installing debootstrap: makes the base image of the lab's hosts"])
    apt = [call for call in machine.calls if call.startswith("apt-get")]
    assert [call.split()[-2:] for call in apt] == [["update", proxy], ["debootstrap", proxy]]
    by_sudo = [call.removesuffix(proxy) for call in machine.calls if call.startswith("sudo") and "apt-get" in call]
    assert [call.split()[1] for call in by_sudo] == ["--preserve-env=http_proxy"] * 2
    assert "word" not in "".join(by_sudo)


@pytest.mark.parametrize("sudo", ["refuses", "is not there"])
def test_without_root_the_remedy_is_one_sentence(machine: Machine, sudo: str) -> None:
    (machine.folder / "sbin/debootstrap").unlink()
    if sudo == "refuses":
        machine.write("bin/sudo", "exit 1")
    else:
        (machine.folder / "bin/sudo").unlink()
    status, said = machine.bootstrap()
    assert status == 1
    assert len(said) == 2  # what is missing, and this
    assert said[1].startswith(
        "bootstrap: root is needed to install packages, and sudo is refused to ann or not installed"
    )
    assert "adduser ann sudo" in said[1]
    assert machine.calls == []


def test_failing_apt_ends_with_one_sentence(machine: Machine) -> None:
    (machine.folder / "sbin/iptables").unlink()
    machine.write("bin/apt-get", "exit 100")
    status, said = machine.bootstrap()
    assert status == 1
    assert said[-1].startswith("bootstrap: apt could not install iptables: ")
    assert "behind a proxy: set http_proxy" in said[-1]


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that other users can enter."""
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def with_docker(folder: Path, mode: int, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command with a socket of this mode, as a user to whom modes mean something."""
    script = (TOP / "lab/with-docker").read_text()
    assert "socket=/var/run/docker.sock\n" in script
    (folder / "with-docker").write_text(script.replace("/var/run/docker.sock", str(folder / "socket")))
    (folder / "with-docker").chmod(0o755)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "socket"))
        (folder / "socket").chmod(mode)
        other = NOBODY if os.geteuid() == 0 else None
        return subprocess.run(
            ["/bin/bash", folder / "with-docker", *command],
            cwd=folder,
            env={"PATH": f"{folder}:/usr/bin:/bin", "HOME": "/home/ann"},
            capture_output=True,
            text=True,
            check=False,
            user=other,
            group=other,
            extra_groups=None if other is None else [],
        )


def fake_sudo(folder: Path, body: str) -> None:
    (folder / "sudo").write_text(f"#!/bin/sh\n{body}\n")
    (folder / "sudo").chmod(0o755)


def test_members_of_the_group_use_the_engine_directly(shared: Path) -> None:
    fake_sudo(shared, "echo sudo")
    assert with_docker(shared, 0o666, "echo", "as it is").stdout == "as it is\n"


def test_other_users_are_given_the_sockets_group_for_the_command(shared: Path) -> None:
    fake_sudo(shared, '[ "$1" = -p ] || printf "%s\\n" "$@"')
    seen = with_docker(shared, 0o000, "make", "sense of it").stdout.splitlines()
    uid = NOBODY if os.geteuid() == 0 else os.getuid()
    assert seen[:3] == ["-E", "setpriv", "--reuid"]
    assert seen[3] == str(uid)
    groups = seen[seen.index("--groups") + 1].split(",")
    assert str((shared / "socket").stat().st_gid) in groups
    assert f"PATH={shared}:/usr/bin:/bin" in seen
    assert "HOME=/home/ann" in seen
    assert seen[-2:] == ["make", "sense of it"]


def test_without_sudo_the_group_is_the_remedy(shared: Path) -> None:
    fake_sudo(shared, "exit 1")
    done = with_docker(shared, 0o000, "echo")
    assert done.returncode == 1
    assert done.stdout == ""
    assert re.fullmatch(r"\S+ is not in the group docker .*'adduser \S+ docker', then log in again\n", done.stderr)


def make(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run make as a person does: not as a part of the make that may run the tests."""
    own = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    return subprocess.run(["make", *words], env=own, capture_output=True, text=True, check=False)


def test_help_lists_every_target() -> None:
    makefile = (TOP / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert phony
    shown = make("-C", TOP, "help").stdout
    listed = re.findall(r"^  make (\S+) +\S", shown, re.MULTILINE)
    assert sorted(listed) == sorted(phony[1].split())
    # A variable of one target has a line of its own.
    assert sorted(listed) == sorted(re.findall(r"^([a-z-]+):(?!=| [A-Z_]+ =)", makefile, re.MULTILINE))


def test_targets_that_need_a_fleet_explain_how_to_start_one(tmp_path: Path) -> None:
    (tmp_path / "Makefile").write_bytes((TOP / "Makefile").read_bytes())
    for target in (
        "status",
        "url",
        "bench",
        "verify",
        "backup",
        "restore",
        "deploy",
        "rollback",
        "ci-local",
        "alert-test",
    ):
        done = make("-s", "-C", tmp_path, target)
        assert done.returncode == 2, target
        assert done.stderr.splitlines()[0] == "This checkout has no fleet: run make up first.", target
