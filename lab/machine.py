"""A virtual machine with a kernel of its own, from a plain Debian of debootstrap: no hypervisor's service is needed.

Its network is the emulator's own ("user networking"), so only this machine reaches it, by two ports of the loopback
address that are forwarded to it. The host of the inventory keeps its address: an SSH configuration leads there.
"""

from __future__ import annotations

import ipaddress
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lab import fleet, image, proxy, settings
from lab.ports import free_ports

# A provider's plain image, which brings its kernel.
PACKAGES = (*image.PACKAGES, "linux-image-cloud-amd64")
LOOPBACK = "127.0.0.1"
CPUS, MEMORY_MB, DISK = 2, 3072, "20G"
# Emulated, a boot takes a minute on a machine without other work.
BOOT_SECONDS = 900
HALT_SECONDS = 300
PROBE_SECONDS = 20


@dataclass(frozen=True)
class Machine:
    """The machine that stands for a host of an inventory, and the folder that holds all of it."""

    host: fleet.Host
    network: ipaddress.IPv4Network
    folder: Path

    @property
    def ssh_config(self) -> Path:
        return self.folder / "ssh_config"

    @property
    def console(self) -> Path:
        return self.folder / "console.log"

    @property
    def gateway(self) -> str:
        """The address under which it reaches this machine's loopback address."""
        return str(self.network[1])

    @property
    def nameserver(self) -> str:
        return str(self.network[3])

    def running(self) -> int:
        """The process that start() recorded, as long as it is this machine's emulator; else 0."""
        try:
            process = int((self.folder / "pid").read_text())
            command = Path(f"/proc/{process}/cmdline").read_bytes()
        except (OSError, ValueError):
            return 0
        return process if str(self.folder).encode() in command else 0

    def ports(self) -> dict[str, int]:
        """The ports of the loopback address that lead to it."""
        found: dict[str, int] = json.loads((self.folder / "ports.json").read_text())
        return found

    def ssh(self, command: str, seconds: float = 120) -> subprocess.CompletedProcess[str]:
        """Run a command there as its user.

        Raises:
            subprocess.TimeoutExpired: it took longer.
        """
        words = ["ssh", "-F", str(self.ssh_config), "-o", "ConnectTimeout=20", "-o", "BatchMode=yes", self.host.name]
        return subprocess.run([*words, command], capture_output=True, text=True, check=False, timeout=seconds)


def make(machine: Machine, report: Callable[[str], None]) -> None:
    """Make the disk, and take out of it the kernel that the emulator boots.

    Raises:
        RuntimeError: a step failed; the message holds its output.
    """
    folder, host = machine.folder, machine.host
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in ("id_ed25519", "host_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(folder / name)], check=True)
    kind, public = (folder / "host_key.pub").read_text().split()
    (folder / "known_hosts").write_text(f"{host.address} {kind} {public}\n")

    report(f"making the disk of {host.name} (Debian {host.debian}, a few minutes)")
    root = folder / "root"
    image.bootstrap(host.debian, root, PACKAGES)
    files = folder / "files.tar"
    files.touch(0o600)
    files.write_bytes(settings.tar(first_files(machine)))
    image.as_root(["tar", "-x", "-f", str(files), "--no-same-owner", "-C", str(root)])
    image.as_root(["chroot", str(root), "sh", "-euc", _setup(host.user)])
    disk = folder / "disk.img"
    image.as_root(["mkfs.ext4", "-q", "-L", "root", "-d", str(root), str(disk), DISK])
    for name in ("vmlinuz", "initrd.img"):
        image.as_root(["cp", "--dereference", str(root / name), str(folder / name)])
    image.as_root(
        ["chown", f"{os.getuid()}:{os.getgid()}", str(disk), *(str(folder / n) for n in ("vmlinuz", "initrd.img"))]
    )
    image.remove_tree(root)
    files.unlink()


def first_files(machine: Machine) -> settings.Files:
    """What a provider's first configuration writes: name, network, user, keys; and this machine's package sources."""
    host, folder = machine.host, machine.folder
    network = (
        f"[Match]\nName=e*\n[Network]\nAddress={host.address}/{machine.network.prefixlen}\nGateway={machine.gateway}\n"
    )
    texts = {
        "etc/hostname": f"{host.name}\n",
        "etc/hosts": f"127.0.0.1 localhost\n127.0.1.1 {host.name}\n::1 localhost\n",
        "etc/fstab": "LABEL=root / ext4 errors=remount-ro 0 1\n",
        "etc/resolv.conf": f"nameserver {machine.nameserver}\n",
        "etc/systemd/network/uplink.network": network,
    }
    # The settings of clients whose proxy listens on the loopback address here: there it is the gateway's.
    clients = {
        "etc/apt/apt.conf.d/90lab": (proxy.apt_conf(LOOPBACK).encode(), 0o644),
        **settings.registry_settings(LOOPBACK),
    }
    return {
        **{name: (text.encode(), 0o644) for name, text in texts.items()},
        f"etc/sudoers.d/{host.user}": (f"{host.user} ALL=(ALL) NOPASSWD: ALL\n".encode(), 0o440),
        "etc/ssh/ssh_host_ed25519_key": ((folder / "host_key").read_bytes(), 0o600),
        "etc/ssh/ssh_host_ed25519_key.pub": ((folder / "host_key.pub").read_bytes(), 0o644),
        "root/authorized_keys": ((folder / "id_ed25519.pub").read_bytes(), 0o600),
        **{
            name: (data.replace(LOOPBACK.encode(), machine.gateway.encode()), mode)
            for name, (data, mode) in clients.items()
        },
        **settings.certificates(),
    }


def _setup(user: str) -> str:
    return f"""
        rm -f /etc/ssh/ssh_host_rsa_key* /etc/ssh/ssh_host_ecdsa_key*
        : > /etc/machine-id
        useradd --create-home --shell /bin/bash {user}
        install -d -m 0700 -o {user} -g {user} /home/{user}/.ssh
        install -m 0600 -o {user} -g {user} /root/authorized_keys /home/{user}/.ssh/authorized_keys
        rm /root/authorized_keys
        apt-get clean
        update-ca-certificates
        systemctl enable systemd-networkd.service
    """


def accelerator(machine: Machine) -> str:
    """`kvm` where a kernel really starts under it, which /dev/kvm alone does not say; else `tcg,thread=multi`."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg,thread=multi"
    # Without a disk the kernel gives up, and with panic=-1 restarts, which ends the emulator.
    probe = [
        "-kernel",
        str(machine.folder / "vmlinuz"),
        "-append",
        "panic=-1",
        "-m",
        "512",
        "-no-reboot",
        "-nodefaults",
    ]
    try:
        subprocess.run(
            ["qemu-system-x86_64", "-accel", "kvm", "-cpu", "max", "-display", "none", *probe],
            check=True, timeout=PROBE_SECONDS, stdin=subprocess.DEVNULL, capture_output=True,
        )  # fmt: skip
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError):
        return "tcg,thread=multi"
    return "kvm"


def command(machine: Machine, accelerated: str, ports: dict[str, int]) -> list[str]:
    """The emulator's command line; `ports` are this machine's, by the name of what they lead to."""
    folder, address = machine.folder, machine.host.address
    uplink = [
        "user", "id=uplink", f"net={machine.network}", f"host={machine.gateway}", f"dns={machine.nameserver}",
        f"hostfwd=tcp:{LOOPBACK}:{ports['ssh']}-{address}:22",
        f"hostfwd=tcp:{LOOPBACK}:{ports['https']}-{address}:443",
    ]  # fmt: skip
    return [
        "qemu-system-x86_64", "-name", machine.host.name, "-machine", "q35", "-accel", accelerated, "-cpu", "max",
        "-smp", str(CPUS), "-m", str(MEMORY_MB), "-nodefaults", "-display", "none",
        "-serial", f"file:{machine.console}",
        "-kernel", str(folder / "vmlinuz"), "-initrd", str(folder / "initrd.img"),
        "-append", "root=LABEL=root rw console=ttyS0",
        "-drive", f"file={folder / 'disk.img'},format=raw,if=virtio,discard=unmap",
        "-netdev", ",".join(uplink), "-device", "virtio-net-pci,netdev=uplink", "-device", "virtio-rng-pci",
    ]  # fmt: skip


def start(machine: Machine) -> str:
    """Switch it on, unless it runs, and return how it is accelerated. It outlives this process."""
    if machine.running():
        return (machine.folder / "accelerator").read_text()
    accelerated = accelerator(machine)
    names = ("ssh", "https")
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    (machine.folder / "ports.json").write_text(json.dumps(ports))
    (machine.folder / "accelerator").write_text(accelerated)
    machine.ssh_config.write_text(
        f"Host {machine.host.name} {machine.host.address}\n"
        f"  HostName {LOOPBACK}\n"
        f"  Port {ports['ssh']}\n"
        f"  HostKeyAlias {machine.host.address}\n"
        f"  User {machine.host.user}\n"
        f"  IdentityFile {machine.folder / 'id_ed25519'}\n"
        f"  UserKnownHostsFile {machine.folder / 'known_hosts'}\n"
        "  StrictHostKeyChecking yes\n"
        "  LogLevel ERROR\n"
    )
    log = (machine.folder / "qemu.log").open("a")
    process = subprocess.Popen(
        command(machine, accelerated, ports), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
    )
    (machine.folder / "pid").write_text(str(process.pid))
    # Its command line can be read a moment later than it was started.
    while process.poll() is None and not machine.running():
        time.sleep(0.01)
    return accelerated


def wait(machine: Machine, after: str = "") -> str:
    """Wait until it answers by SSH with another boot than `after`, and return the boot's ID.

    Raises:
        RuntimeError: it stopped, or did not answer in time.
    """
    deadline = time.monotonic() + BOOT_SECONDS
    while time.monotonic() < deadline:
        if not machine.running():
            raise RuntimeError(
                f"{machine.host.name} has stopped: see {machine.console} and {machine.folder / 'qemu.log'}"
            )
        try:
            done = machine.ssh("cat /proc/sys/kernel/random/boot_id", 60)
        except subprocess.TimeoutExpired:
            continue
        if done.returncode == 0 and (boot := done.stdout.strip()) != after:
            return boot
        time.sleep(1)
    raise RuntimeError(f"{machine.host.name} did not answer by SSH in {BOOT_SECONDS} s: see {machine.console}")


def stop(machine: Machine) -> bool:
    """Shut it down, and return whether it went by itself; after a while its emulator is ended."""
    process = machine.running()
    if not process:
        return True
    machine.ssh("sudo systemctl poweroff", 60)
    deadline = time.monotonic() + HALT_SECONDS
    while machine.running():
        if time.monotonic() > deadline:
            os.kill(process, signal.SIGTERM)
            return False
        time.sleep(0.5)
    return True


def remove(machine: Machine) -> None:
    """Remove everything that was made for it; it must be off."""
    image.remove_tree(machine.folder / "root")
    shutil.rmtree(machine.folder, ignore_errors=True)
