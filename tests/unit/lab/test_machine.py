"""The virtual machine of the lab: who reaches it, whom it trusts, and which processes it takes for its own."""

from __future__ import annotations

import ipaddress
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import fleet, machine, proxy, settings
from lab.machine import Machine

PORTS = {"ssh": 40022, "https": 40443}


@pytest.fixture
def vm(tmp_path: Path) -> Machine:
    host = fleet.Host("vm1", "10.186.1.10", "debian", "bookworm", ("app",))
    return Machine(host, ipaddress.IPv4Network("10.186.1.0/24"), tmp_path)


@pytest.fixture
def emulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program in the emulator's place, which a test writes."""
    program = tmp_path / "bin" / "qemu-system-x86_64"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(machine, "PROBE_SECONDS", 0.5)
    # There is a /dev/kvm that may be used: whether it works is the question.
    monkeypatch.setattr(os, "access", lambda *_: True)
    return program


@pytest.fixture
def another() -> Iterator[int]:
    """A process that does not belong to the lab."""
    process = subprocess.Popen(["sleep", "60"])
    yield process.pid
    process.kill()
    process.wait()


def test_only_the_loopback_address_leads_to_it(vm: Machine) -> None:
    words = machine.command(vm, "tcg,thread=multi", PORTS)
    uplink = words[words.index("-netdev") + 1].split(",")
    assert [part for part in uplink if part.startswith("hostfwd=")] == [
        "hostfwd=tcp:127.0.0.1:40022-10.186.1.10:22",
        "hostfwd=tcp:127.0.0.1:40443-10.186.1.10:443",
    ]


def test_the_hosts_private_key_is_roots_alone(vm: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("host_key", "host_key.pub", "id_ed25519.pub"):
        (vm.folder / name).write_text(name)
    monkeypatch.setattr(proxy, "apt_conf", lambda _: "")
    monkeypatch.setattr(settings, "registry_settings", lambda _: {})
    files = machine.first_files(vm)
    assert files["etc/ssh/ssh_host_ed25519_key"] == (b"host_key", 0o600)
    assert not [name for name, (data, _) in files.items() if data == b"id_ed25519"]


def test_a_proxy_of_this_machines_loopback_address_is_reached_by_the_gateway(
    vm: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("host_key", "host_key.pub", "id_ed25519.pub"):
        (vm.folder / name).touch()
    monkeypatch.setattr(proxy, "apt_conf", lambda at: f'acquire::http::proxy "http://{at}:3128";\n')
    monkeypatch.setattr(
        settings, "registry_settings", lambda at: {"etc/npmrc": (f"proxy=http://{at}:3128\n".encode(), 0o644)}
    )
    files = machine.first_files(vm)
    assert files["etc/apt/apt.conf.d/90lab"][0] == b'acquire::http::proxy "http://10.186.1.1:3128";\n'
    assert files["etc/npmrc"][0] == b"proxy=http://10.186.1.1:3128\n"
    assert b"127.0.0.1 localhost" in files["etc/hosts"][0]


@pytest.mark.parametrize(
    ("body", "expected"),
    [("exit 0", "kvm"), ("exit 134", "tcg,thread=multi"), ("exec sleep 60", "tcg,thread=multi")],
)
def test_kvm_counts_only_where_a_kernel_starts_under_it(vm: Machine, emulator: Path, body: str, expected: str) -> None:
    emulator.write_text(f"#!/bin/sh\n{body}\n")
    assert machine.accelerator(vm) == expected


def test_a_foreign_process_with_the_recorded_number_is_not_the_machine(vm: Machine, another: int) -> None:
    (vm.folder / "pid").write_text(str(another))
    assert vm.running() == 0
    assert machine.stop(vm)
    assert Path(f"/proc/{another}").exists()


def test_a_machine_that_does_not_shut_down_is_ended_and_reported(
    vm: Machine, emulator: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The name of a file of the machine in its arguments makes it the machine's, as with the emulator.
    emulator.write_text("#!/usr/bin/env python3\nimport time\ntime.sleep(60)\n")
    monkeypatch.setattr(machine, "accelerator", lambda _: "tcg")
    monkeypatch.setattr(machine, "HALT_SECONDS", 0.1)
    monkeypatch.setattr(Machine, "ssh", lambda *_: None)
    machine.start(vm)
    process = vm.running()
    assert process
    assert machine.start(vm) == "tcg"
    assert vm.running() == process
    assert not machine.stop(vm)
    os.waitpid(process, 0)
    assert vm.running() == 0


def test_its_key_is_known_before_the_first_connection(
    vm: Machine, emulator: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    emulator.write_text("#!/bin/sh\nexit 1\n")
    monkeypatch.setattr(machine, "accelerator", lambda _: "tcg")
    machine.start(vm)
    config = subprocess.run(
        ["ssh", "-F", vm.ssh_config, "-G", "10.186.1.10"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    ports = json.loads((vm.folder / "ports.json").read_text())
    assert {
        "hostname 127.0.0.1",
        f"port {ports['ssh']}",
        "hostkeyalias 10.186.1.10",
        "stricthostkeychecking true",
        f"userknownhostsfile {vm.folder / 'known_hosts'}",
    } <= set(config)
