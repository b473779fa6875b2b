"""The role `hardening`: what it may not take away from Ansible, from operators and from the other roles."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

from tests.unit.shared import SAMPLES, TOP, inputs, read_yaml, rendered, trusted

TEMPLATES = TOP / "roles" / "hardening" / "templates"
DEFAULTS = read_yaml(TOP / "roles" / "hardening" / "defaults" / "main.yml")


def settings(text: str) -> dict[str, str]:
    """The words of a file that has one setting in a line."""
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line and not line.startswith("#")]
    return dict(lines)


def shell(script: Path, *options: str, before: str = "umask 022") -> list[str]:
    """What a login shell of an operator has after this script: umask, and seconds until it ends. before: run first."""
    command = f"{before}; id() {{ echo 1000; }}; . {script}; umask; echo ${{TMOUT:-}}"
    done = subprocess.run(
        ["bash", "--norc", "--noprofile", *options, "-c", command], capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def test_sshd_reads_each_setting_once() -> None:
    """The first value wins, so that a setting of the role base would have no effect here."""
    base = settings(rendered(TOP / "roles" / "base" / "templates" / "sshd.conf.j2"))
    own = settings(rendered(TEMPLATES / "sshd.conf.j2"))
    assert own["AllowTcpForwarding"] == "local"
    assert base.keys() & own.keys() == set()


@pytest.mark.parametrize("setting", ["MaxSessions", "MaxStartups", "AllowUsers", "AllowGroups"])
def test_sshd_lets_in_who_came_in_before(setting: str) -> None:
    assert setting not in settings(rendered(TEMPLATES / "sshd.conf.j2"))


@pytest.mark.parametrize(("banner", "shown"), [("", False), ("Mind the step.\n", True)])
def test_sshd_shows_a_banner_where_there_is_one(banner: str, shown: bool) -> None:
    assert ("Banner" in settings(rendered(TEMPLATES / "sshd.conf.j2", {"hardening_banner": banner}))) is shown


def test_kernel_settings_are_those_of_one_role_and_name_every_interface() -> None:
    own = DEFAULTS["hardening_sysctl"]
    assert own.keys() & read_yaml(TOP / "roles/base/defaults/main.yml")["base_sysctl"].keys() == set()
    assert {name.split(".")[3] for name in own if ".conf." in name} == {"*"}


def test_a_packet_may_come_in_where_the_answer_does_not_leave() -> None:
    """As on hosts with several interfaces, or with a floating address."""
    assert DEFAULTS["hardening_sysctl"]["net.ipv4.conf.*.rp_filter"] == "2"


def test_no_module_is_forbidden_that_hosts_start_or_serve_with() -> None:
    text = rendered(TEMPLATES / "modprobe.conf.j2")
    assert text.count("install ") == text.count("blacklist ") == len(DEFAULTS["hardening_modules"])
    # The EFI partition, a cloud's configuration drive, and what the firewall and Docker load.
    needed = {"vfat", "iso9660", "udf", "squashfs", "overlay", "nf_tables", "ext4", "xfs", "virtio_blk"}
    assert needed & set(DEFAULTS["hardening_modules"]) == set()


@pytest.mark.parametrize(("seconds", "ends"), [(600, ["600"]), (0, [])])
def test_a_shell_at_a_prompt_keeps_new_files_from_others_and_ends(
    tmp_path: Path, seconds: int, ends: list[str]
) -> None:
    script = tmp_path / "phoenix-hardening.sh"
    script.write_text(rendered(TEMPLATES / "profile.sh.j2", {"hardening_shell_timeout": seconds}))
    assert shell(script, "-i") == ["0027", *ends]


def test_what_is_stricter_already_stays(tmp_path: Path) -> None:
    script = tmp_path / "phoenix-hardening.sh"
    script.write_text(rendered(TEMPLATES / "profile.sh.j2", {"hardening_shell_timeout": 3600}))
    assert shell(script, "-i", before="umask 077; readonly TMOUT=60") == ["0077", "60"]


def test_a_shell_that_runs_a_script_is_as_before(tmp_path: Path) -> None:
    """Ansible's, and those of units."""
    script = tmp_path / "phoenix-hardening.sh"
    script.write_text(rendered(TEMPLATES / "profile.sh.j2"))
    assert shell(script) == ["0022"]


def test_what_root_creates_by_sudo_is_readable_on_a_host_with_a_strict_umask() -> None:
    text = rendered(TOP / "roles" / "base" / "templates" / "sudoers.j2")
    assert "\nDefaults umask=0022, umask_override\n" in text


@pytest.mark.parametrize(("dumps", "limit"), [(False, "0"), (True, "infinity")])
def test_core_dumps_come_back_where_they_are_wanted(dumps: bool, limit: str) -> None:
    own = {"hardening_core_dumps": dumps}
    assert f"DefaultLimitCORE={limit}" in rendered(TEMPLATES / "system.conf.j2", own)
    assert ("hard core 0" in rendered(TEMPLATES / "limits.conf.j2", own)) is not dumps
    assert ("Storage=none" in rendered(TEMPLATES / "coredump.conf.j2", own)) is not dumps


@pytest.mark.usefixtures("ansible_plugins")
@pytest.mark.parametrize(
    ("kind", "wanted", "audited"), [("kvm", True, True), ("docker", True, False), ("kvm", False, False)]
)
def test_the_audit_is_that_of_a_kernel_of_its_own(kind: str, wanted: bool, audited: bool) -> None:
    facts = {**SAMPLES["common"]["ansible_facts"], "virtualization_type": kind}
    variables: dict[str, Any] = {**inputs("hardening"), "ansible_facts": facts, "hardening_audit": wanted}
    templar = Templar(loader=DataLoader(), variables=trusted(variables))
    assert templar.template(trusted("{{ __hardening_audited }}")) is audited


def test_another_firewall_that_drops_is_named_and_one_that_accepts_is_not(tmp_path: Path) -> None:
    tasks = read_yaml(TOP / "roles" / "firewall" / "tasks" / "preflight.yml")
    (read,) = [one["ansible.builtin.shell"]["cmd"] for one in tasks if one.get("register") == "__firewall_state"]
    chains = "".join(
        f"table {table} {{\n\tchain {chain} {{\n"
        f"\t\ttype filter hook {chain} priority filter; policy {policy};\n\t}}\n}}\n"
        for table, chain, policy in (
            ("ip filter", "input", "drop"),
            ("ip6 filter", "output", "drop"),
            ("inet filter", "input", "accept"),
            ("inet phoenix", "input", "drop"),
        )
    )
    (tmp_path / "chains").write_text(chains)
    nft = tmp_path / "nft"
    nft.write_text(f'#!/bin/sh\n[ "$*" != "list chains" ] || cat {tmp_path}/chains\n')
    nft.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    done = subprocess.run(["bash", "-c", read], env=environment, capture_output=True, text=True, check=True)
    variables = {**inputs("firewall"), "__firewall_state": {"stdout_lines": done.stdout.splitlines()}}
    templar = Templar(loader=DataLoader(), variables=trusted(variables))
    assert templar.template(trusted("{{ __firewall_others }}")) == ["ip filter"]
