"""The provider `libvirt`: virtual machines of a libvirt daemon on this machine, through virsh.

A host is a domain with the fleet's tag in its metadata, a copy-on-write volume over a base image, and a NoCloud seed.
The domain is the first to come and the last to go, so that an interrupted creation or deletion is always in the list.
https://libvirt.org/formatdomain.html, https://cloudinit.readthedocs.io/en/22.4.2/topics/datasources/nocloud.html
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from phoenix.provider import cloud_config
from phoenix.provider.contract import Conflict, Failed, Foreign, Host, Invalid, Spec, Unavailable

NAMESPACE = "urn:phoenix:host"
DEFAULTS: Mapping[str, Any] = {
    "uri": "qemu:///system",
    "pool": "default",
    "seeds": "/var/lib/libvirt/phoenix-seeds",
    "gateway": "",
    "nameservers": [],
    "max_hosts": None,
}
SIZE: Mapping[str, int] = {"cpus": 1, "memory_mb": 1024, "disk_gb": 10}
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
VOLUME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
ABSENT = re.compile(r"[Nn]o domain with matching|[Dd]omain not found|failed to get domain")
# The best that the daemon offers; `test` is libvirt's own stand-in, which keeps everything in memory.
TYPES = ("kvm", "qemu", "test")


class Libvirt:
    """Hosts of one libvirt daemon. Methods raise contract.Error."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        unknown = sorted(set(settings) - set(DEFAULTS))
        if unknown:
            raise ValueError(f"libvirt has no setting {', '.join(unknown)}: use {', '.join(DEFAULTS)}")
        values = {**DEFAULTS, **settings}
        self.uri, self.pool = str(values["uri"]), str(values["pool"])
        self.seeds = Path(values["seeds"])
        self.max_hosts = values["max_hosts"]
        self.gateway = _gateway(str(values["gateway"]))
        self.nameservers = [str(ipaddress.ip_address(one)) for one in values["nameservers"]]

    def limit(self) -> int | None:
        return None if self.max_hosts is None else int(self.max_hosts)

    def list(self, fleet: str) -> Sequence[Host]:
        domains = [self._domain(name) for name in self._virsh("list", "--all", "--name").split()]
        return [_host(one) for one in domains if one is not None and _tag(one).get("fleet") == fleet]

    def create(self, fleet: str, name: str, spec: Spec) -> Host:
        wanted = size(spec.size)
        if not spec.address or self.gateway is None:
            raise Invalid("libvirt needs the host's address, and gateway in the settings (192.0.2.1/24)")
        image = self._image(spec.image)
        domain = self._domain(name)
        if domain is not None and _tag(domain).get("fleet") != fleet:
            raise Conflict(f"libvirt has a domain {name} without the tag of the fleet {fleet}: give one another name")
        if domain is not None and not self._complete(domain):
            self._remove(domain)
            domain = None
        if domain is None:
            if _volume(name) in self._volumes():
                raise Conflict(f"the pool {self.pool} has a volume {_volume(name)} of no domain: remove it")
            self._virsh("define", "/dev/stdin", text=self._xml(fleet, name, spec, wanted))
            self._write_seed(name, spec)
            backing = ("--backing-vol", spec.image, "--backing-vol-format", image)
            self._virsh(
                "vol-create-as", self.pool, _volume(name), f"{wanted['disk_gb']}G", "--format", "qcow2", *backing
            )
            self._virsh("autostart", name)
        made = self._found(name)
        if not _active(made):
            self._virsh("start", name)
        return _host(self._found(name))

    def delete(self, fleet: str, identity: str) -> bool:
        # Not by anything else: virsh would take a number or a name for a domain as well.
        domain = self._domain(identity) if UUID.fullmatch(identity) else None
        if domain is None:
            return False
        if _tag(domain).get("fleet") != fleet:
            raise Foreign(f"the domain {_name(domain)} has not got the tag of the fleet {fleet}: nothing was deleted")
        self._remove(domain)
        return True

    def _complete(self, domain: ET.Element) -> bool:
        """Whether everything was made of it; what makes it start comes last."""
        if _active(domain):
            return True
        return self._seed(_name(domain)).exists() and _volume(_name(domain)) in self._volumes()

    def _remove(self, domain: ET.Element) -> None:
        name = _name(domain)
        if _active(domain):
            self._virsh("destroy", name)
        if _volume(name) in self._volumes():
            self._virsh("vol-delete", "--pool", self.pool, _volume(name))
        shutil.rmtree(self._work(name), ignore_errors=True)
        self._seed(name).unlink(missing_ok=True)
        self._virsh("undefine", name)

    def _volumes(self) -> set[str]:
        return {line.split()[0] for line in self._virsh("vol-list", self.pool).splitlines() if line.strip()}

    def _image(self, name: str) -> str:
        """The format of the base image."""
        if not VOLUME.fullmatch(name) or name not in self._volumes():
            there = ", ".join(sorted(self._volumes()))
            raise Invalid(f"the pool {self.pool} has no volume {name}: name one of {there}")
        found = ET.fromstring(self._virsh("vol-dumpxml", "--pool", self.pool, name)).find("target/format")
        return found.get("type", "raw") if found is not None else "raw"

    def _seed(self, name: str) -> Path:
        return self.seeds / f"{name}.iso"

    def _write_seed(self, name: str, spec: Spec) -> None:
        assert self.gateway is not None
        self.seeds.mkdir(mode=0o711, parents=True, exist_ok=True)
        network = cloud_config.network_config(
            spec.address,
            str(self.gateway.ip),
            self.gateway.network.prefixlen,
            self.nameservers or [str(self.gateway.ip)],
        )
        meta = {"instance-id": f"{name}-{spec.host_key['public'][-12:]}", "local-hostname": name}
        contents = {"user-data": spec.user_data, "meta-data": json.dumps(meta) + "\n", "network-config": network}
        # It holds the host's private key: only root and the machine itself may read it.
        work = self._work(name)
        shutil.rmtree(work, ignore_errors=True)  # of an interrupted creation
        work.mkdir(mode=0o700)
        for file, content in contents.items():
            Path(work, file).write_text(content)
        image = Path(work, "seed.iso")
        command = ["xorriso", "-as", "mkisofs", "-quiet", "-V", "cidata", "-J", "-r", "-o", str(image)]
        try:
            done = subprocess.run(
                [*command, *(str(Path(work, file)) for file in contents)], capture_output=True, text=True, check=False
            )
        except FileNotFoundError as error:
            raise Invalid("xorriso is not installed: install the package of this name") from error
        if done.returncode:
            raise Failed(f"xorriso could not make the seed of {name}: {done.stderr.strip()}")
        image.chmod(0o600)
        image.replace(self._seed(name))
        shutil.rmtree(work)

    def _work(self, name: str) -> Path:
        return self.seeds / f"{name}.new"

    def _xml(self, fleet: str, name: str, spec: Spec, wanted: Mapping[str, int]) -> str:
        ET.register_namespace("phoenix", NAMESPACE)
        kind = self._type()
        domain = ET.Element("domain", type=kind)
        _add(domain, "name", name)
        tag = {"fleet": fleet, "address": spec.address, "host-key": spec.host_key["public"]}
        ET.SubElement(ET.SubElement(domain, "metadata"), f"{{{NAMESPACE}}}host", tag)
        _add(domain, "memory", str(wanted["memory_mb"]), unit="MiB")
        _add(domain, "vcpu", str(wanted["cpus"]))
        if kind == "kvm":
            _add(domain, "cpu", mode="host-passthrough")
        _add(_add(domain, "os"), "type", "hvm")
        features = _add(domain, "features")
        _add(features, "acpi")
        _add(features, "apic")
        devices = _add(domain, "devices")
        disk = _add(devices, "disk", type="volume", device="disk")
        _add(disk, "driver", name="qemu", type="qcow2")
        _add(disk, "source", pool=self.pool, volume=_volume(name))
        _add(disk, "target", dev="vda", bus="virtio")
        seed = _add(devices, "disk", type="file", device="disk")
        _add(seed, "driver", name="qemu", type="raw")
        _add(seed, "source", file=str(self._seed(name)))
        _add(seed, "target", dev="vdb", bus="virtio")
        _add(seed, "readonly")
        interface = _add(devices, "interface", type="network")
        _add(interface, "source", network=spec.network or "default")
        _add(interface, "model", type="virtio")
        _add(_add(devices, "serial", type="pty"), "target", port="0")
        _add(_add(devices, "rng", model="virtio"), "backend", "/dev/urandom", model="random")
        return ET.tostring(domain, encoding="unicode")

    def _type(self) -> str:
        """The kind of machine: accelerated where the hardware can, emulated where not."""
        offered = {found.get("type") for found in ET.fromstring(self._virsh("capabilities")).iter("domain")}
        for kind in TYPES:
            if kind in offered:
                return kind
        raise Invalid(f"{self.uri} runs {', '.join(sorted(map(str, offered)))}: {' or '.join(TYPES)} is needed")

    def _domain(self, name: str) -> ET.Element | None:
        try:
            return ET.fromstring(self._virsh("dumpxml", name))
        except Failed as error:
            if ABSENT.search(str(error)):
                return None
            raise

    def _found(self, name: str) -> ET.Element:
        domain = self._domain(name)
        if domain is None:
            raise Failed(f"the domain {name} was removed while it was being made")
        return domain

    def _virsh(self, *arguments: str, text: str = "") -> str:
        try:
            done = subprocess.run(
                ["virsh", "--quiet", "--connect", self.uri, *arguments],
                input=text,
                capture_output=True,
                text=True,
                check=False,
                env={**os.environ, "LC_ALL": "C"},
            )
        except FileNotFoundError as error:
            raise Invalid("virsh is not installed: install libvirt-clients") from error
        if done.returncode == 0:
            return done.stdout
        message = " ".join(done.stderr.split())
        if "failed to connect to the hypervisor" in message:
            raise Unavailable(f"{self.uri} does not answer: {message}")
        raise Failed(f"virsh {arguments[0]}: {message}")


def _gateway(text: str) -> ipaddress.IPv4Interface | ipaddress.IPv6Interface | None:
    try:
        return ipaddress.ip_interface(text) if text else None
    except ValueError:
        raise ValueError(f"gateway = {text!r} is no address with a prefix length, such as 192.0.2.1/24") from None


def size(wanted: Mapping[str, Any]) -> dict[str, int]:
    """The machine's size, with defaults for what is not given. Raises Invalid."""
    values = {**SIZE, **wanted}
    wrong = {name: value for name, value in values.items() if name not in SIZE or type(value) is not int or value < 1}
    if wrong:
        raise Invalid(f"size has {wrong}: give whole numbers for {', '.join(SIZE)}")
    return values


def _add(parent: ET.Element, tag: str, content: str = "", /, **attributes: str) -> ET.Element:
    element = ET.SubElement(parent, tag, attributes)
    element.text = content or None
    return element


def _volume(name: str) -> str:
    return f"phoenix-{name}"


def _name(domain: ET.Element) -> str:
    return domain.findtext("name") or ""


def _active(domain: ET.Element) -> bool:
    """libvirt numbers the domains that run."""
    return domain.get("id") is not None


def _tag(domain: ET.Element) -> Mapping[str, str]:
    found = domain.find(f"metadata/{{{NAMESPACE}}}host")
    return {} if found is None else found.attrib


def _host(domain: ET.Element) -> Host:
    tag = _tag(domain)
    state = "running" if _active(domain) else "stopped"
    return Host(domain.findtext("uuid") or "", _name(domain), tag["address"], state, tag.get("host-key", ""))
