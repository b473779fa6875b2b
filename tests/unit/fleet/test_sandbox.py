"""The sandbox of every unit: the baseline, and exactly the exceptions that are listed here."""

import subprocess
from pathlib import Path

import pytest

from phoenix.fleet import sandbox
from tests.harness import exposure
from tests.unit.shared import TOP, rendered

# Not a service of Phoenix's own, or one that exists to change what the sandbox protects.
MONGOD_HOST = TOP / "roles" / "mongodb" / "templates" / "mongod-host.service.j2"
WITHOUT = {MONGOD_HOST.name}
UNITS = sorted(
    path
    for pattern in ("*.service.j2", "*.service.d.conf.j2")
    for path in TOP.glob(f"roles/*/templates/{pattern}")
    if path.name not in WITHOUT
)

# What a unit gives up of the baseline; whatever is not here, it keeps. None: not set.
WEAKER: dict[str, dict[str, list[str] | None]] = {
    "jenkins.service": {"MemoryDenyWriteExecute": ["no"], "UMask": ["0027"]},
    "phoenix-drill@.service": {
        "CapabilityBoundingSet": ["CAP_SETUID CAP_SETGID CAP_DAC_OVERRIDE CAP_CHOWN CAP_FOWNER CAP_KILL"],
        "ProtectProc": ["default"],
        "MemoryDenyWriteExecute": ["no"],
        "UMask": ["0022"],
    },
    "phoenix-reconcile.service": {
        "CapabilityBoundingSet": ["CAP_SETUID CAP_SETGID CAP_DAC_OVERRIDE CAP_CHOWN CAP_FOWNER CAP_KILL"],
        "ProtectProc": ["default"],
        "MemoryDenyWriteExecute": ["no"],
        "UMask": ["0022"],
    },
    "keepalived.service.d.conf": {
        "CapabilityBoundingSet": [
            "CAP_NET_ADMIN CAP_NET_RAW CAP_SETUID CAP_SETGID CAP_IPC_LOCK CAP_SYS_NICE CAP_KILL",
        ],
        "AmbientCapabilities": None,
        "RestrictAddressFamilies": ["AF_INET AF_INET6 AF_UNIX AF_NETLINK AF_PACKET"],
        "RestrictRealtime": ["no"],
        "ProtectKernelTunables": ["no"],
    },
    "mongod.service": {
        "MemoryDenyWriteExecute": ["no"],
        "RestrictAddressFamilies": ["AF_INET AF_INET6 AF_UNIX AF_NETLINK"],
    },
    "netdata.service.d.conf": {
        "ProtectClock": ["no"],
        "ProtectHome": ["read-only"],
        "PrivateDevices": ["no"],
        "RestrictAddressFamilies": ["AF_INET AF_INET6 AF_UNIX AF_NETLINK"],
        "SystemCallFilter": ["@system-service adjtimex clock_adjtime"],
    },
    "nginx.service.d.conf": {
        "CapabilityBoundingSet": ["CAP_NET_BIND_SERVICE CAP_SETUID CAP_SETGID CAP_CHOWN CAP_DAC_OVERRIDE CAP_KILL"],
        "AmbientCapabilities": None,
        "UMask": ["0027"],
    },
    "phoenix-certificates.service": {"ProtectProc": ["default"], "MemoryDenyWriteExecute": ["no"]},
    "phoenix-demand.service": {"ProtectProc": ["default"], "MemoryDenyWriteExecute": ["no"], "UMask": ["0022"]},
    "phoenix-autoscaler.service": {"ProtectProc": ["default"], "MemoryDenyWriteExecute": ["no"], "UMask": ["0022"]},
    "phoenix-backup-logs.service": {
        "CapabilityBoundingSet": ["CAP_DAC_READ_SEARCH CAP_DAC_OVERRIDE"],
        "ProtectProc": ["default"],
        "UMask": ["0027"],
    },
    "phoenix-backup-state.service": {
        "CapabilityBoundingSet": ["CAP_DAC_READ_SEARCH CAP_DAC_OVERRIDE"],
        "ProtectProc": ["default"],
        "MemoryDenyWriteExecute": ["no"],
    },
    "phoenix-backup-offsite.service": {"MemoryDenyWriteExecute": ["no"], "UMask": ["0027"]},
    "phoenix-backup-prove.service": {"MemoryDenyWriteExecute": ["no"], "UMask": ["0027"]},
    "phoenix-backup-scratch@.service": {"MemoryDenyWriteExecute": ["no"], "UMask": ["0027"]},
    "phoenix-backup-watch.service": {"UMask": ["0027"]},
    "phoenix-ci.service": {
        "ProtectProc": ["default"],
        "MemoryDenyWriteExecute": ["no"],
        "RestrictAddressFamilies": None,
        "SystemCallFilter": None,
        "UMask": ["0022"],
    },
    "phoenix-ci-source.service": {"UMask": ["0022"]},
    "phoenix-deadman.service": {"UMask": ["0022"]},
    # It loads the rules at boot, before the host has made its mounts.
    "phoenix-firewall.service": {
        "CapabilityBoundingSet": ["CAP_NET_ADMIN"],
        "ProtectProc": ["default"],
        **{
            key: ["no"]
            for key in (
                "ProtectSystem",
                "ProtectHome",
                "PrivateTmp",
                "PrivateDevices",
                "ProtectControlGroups",
                "ProtectHostname",
                "ProtectKernelLogs",
                "ProtectKernelModules",
                "ProtectKernelTunables",
            )
        },
    },
    "phoenix-files-backup.service": {
        "CapabilityBoundingSet": ["CAP_DAC_READ_SEARCH CAP_DAC_OVERRIDE"],
        "ProtectProc": ["default"],
    },
    "phoenix-jenkins-backup.service": {
        "CapabilityBoundingSet": ["CAP_DAC_READ_SEARCH CAP_DAC_OVERRIDE"],
        "ProtectProc": ["default"],
    },
    "phoenix-notify.service": {"UMask": ["0022"]},
    "phoenix-probe.service": {"ProtectProc": ["default"]},
    "phoenix@.service.d.conf": {
        "MemoryDenyWriteExecute": ["no"],
        "RestrictAddressFamilies": ["AF_INET AF_INET6 AF_UNIX AF_NETLINK"],
    },
}
# Fewer families or calls than the baseline's, or a network of its own.
STRICTER = {
    "netdata.service.d.conf": {"DevicePolicy": ["closed"]},
    "jenkins.service": {"SystemCallFilter": ["@system-service", "~@privileged"], "PrivateUsers": ["yes"]},
    "phoenix-backup-prove.service": {"PrivateNetwork": ["yes"], "RestrictAddressFamilies": ["AF_INET AF_UNIX"]},
    "phoenix-backup-scratch@.service": {"PrivateNetwork": ["yes"], "RestrictAddressFamilies": ["AF_INET AF_UNIX"]},
    "phoenix-backup-watch.service": {"PrivateNetwork": ["yes"]},
    "phoenix-ci-hook@.service": {"PrivateNetwork": ["yes"], "RestrictAddressFamilies": ["none"]},
    "phoenix-firewall.service": {"RestrictAddressFamilies": ["AF_NETLINK AF_UNIX"]},
    "phoenix-files-backup.service": {"PrivateNetwork": ["yes"]},
    "phoenix-jenkins-backup.service": {"PrivateNetwork": ["yes"]},
    "phoenix-metering.service": {"RestrictAddressFamilies": ["AF_INET"], "IPAddressDeny": ["any"]},
    "phoenix-probe.service": {"RestrictAddressFamilies": ["AF_INET AF_UNIX"], "InaccessiblePaths": ["-/etc/phoenix"]},
    "phoenix@.service.d.conf": {
        "SystemCallFilter": ["@system-service", "~@privileged @resources"],
        "PrivateUsers": ["yes"],
        "InaccessiblePaths": ["-/etc/phoenix -/etc/ssh -/root"],
    },
}


def service_settings(text: str) -> dict[str, list[str]]:
    """What the section [Service] of a unit sets, each key with all of its values in order."""
    found: dict[str, list[str]] = {}
    section = ""
    for line in text.splitlines():
        if line.startswith("["):
            section = line
        elif section == "[Service]" and "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


@pytest.mark.usefixtures("ansible_plugins")
@pytest.mark.parametrize("path", UNITS, ids=lambda path: str(path.name))
def test_a_unit_keeps_the_baseline_but_for_its_listed_exceptions(path: Path) -> None:
    name = path.name.removesuffix(".j2")
    seen = service_settings(rendered(path))
    wanted: dict[str, list[str] | None] = {key: [str(value)] for key, value in sandbox.BASELINE.items()}
    wanted |= WEAKER.get(name, {}) | STRICTER.get(name, {})
    assert {key: seen.get(key) for key in wanted} == wanted


def whole(path: Path) -> str:
    """A unit with its drop-in at its end; of the distribution's own unit what counts here is the user."""
    text = rendered(path)
    if path.name.endswith(".d.conf.j2"):
        own = TOP / "roles" / path.parents[1].name / "files" / path.name.removesuffix(".d.conf.j2")
        start = "User=netdata" if path.name.startswith("netdata") else "User=root"
        text = (own.read_text() if own.exists() else f"[Service]\nExecStart=/bin/true\n{start}\n") + text
    # systemd itself has it so where a setting needs mounts of the unit's own, but not for files.
    return text if "ProtectSystem=no" in text else f"{text}\n[Service]\nPrivateMounts=yes\n"


@pytest.mark.usefixtures("ansible_plugins")
def test_no_unit_is_more_exposed_than_listed(tmp_path: Path) -> None:
    folder = tmp_path / "etc/systemd/system"
    folder.mkdir(parents=True)
    paths = {path.name.removesuffix(".j2").replace(".d.conf", ""): path for path in [*UNITS, MONGOD_HOST]}
    for name, path in paths.items():
        (folder / name).write_text(whole(path))
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", f"--root={tmp_path}"]
    names = [name.replace("@.", "@x.") for name in paths]
    shown = subprocess.run([*command, *names], capture_output=True, text=True, check=False)
    seen = exposure.of_units(shown.stdout)
    assert seen.keys() == paths.keys(), shown.stderr
    assert exposure.excess(seen) == {}
    assert [name for name in exposure.ABOVE if seen[name] <= exposure.LIMIT] == [], "no exceptions any more"


@pytest.mark.usefixtures("ansible_plugins")
def test_in_a_container_only_the_user_namespace_is_given_up() -> None:
    path = TOP / "roles" / "phoenix" / "templates" / "phoenix@.service.d.conf.j2"
    alone = service_settings(rendered(path))
    inside = service_settings(rendered(path, {"ansible_facts": {"virtualization_type": "docker"}}))
    assert inside == {**alone, "PrivateUsers": ["no"]}


def test_every_listed_unit_is_there() -> None:
    """So that the list above holds no exception for a unit that is gone."""
    names = {path.name.removesuffix(".j2") for path in UNITS}
    assert set(WEAKER) | set(STRICTER) <= names
    assert len(names) > 15


def test_exceptions_replace_and_follow_the_baseline() -> None:
    text = sandbox.lines(
        {"UMask": "0022", "SystemCallFilter": ["@system-service", "~@privileged"], "ProtectHome": None}
    )
    lines = text.splitlines()
    assert lines[0] == "NoNewPrivileges=yes"
    assert [line for line in lines if line.startswith("SystemCallFilter")] == [
        "SystemCallFilter=@system-service",
        "SystemCallFilter=~@privileged",
    ]
    assert "UMask=0022" in lines
    assert "UMask=0077" not in lines
    assert "ProtectHome" not in text


def test_an_exception_that_equals_the_baseline_is_refused() -> None:
    with pytest.raises(ValueError, match="ProtectHome"):
        sandbox.lines({"ProtectHome": "yes"})
