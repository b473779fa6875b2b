"""The lab's fleet: one systemd container for each host of an inventory, reached over SSH as a VM would be.

The inventory is the one definition of the fleet. Of each host the lab reads `ansible_host`, `ansible_user`,
`ansible_port` (sshd listens there), the bastion of `ansible_ssh_common_args` (-o ProxyJump=NAME), the groups, and

lab_debian      release of its image
lab_network     CIDR of the network, where there is one
lab_networks    name -> CIDRs of each network, one of IPv4 and perhaps one of IPv6, where there are several
lab_addresses   where there are several, the host's addresses: it is in the networks that these belong to
"""

from __future__ import annotations

import ast
import io
import ipaddress
import json
import re
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
from docker.errors import APIError, NotFound
from docker.models.containers import Container

from lab import image, proxy

LABEL = "org.phoenix.lab"
CHECKOUT_LABEL = "org.phoenix.checkout"
CHECKOUT = str(Path(__file__).resolve().parents[1])
IPV4 = 4
BOOT_SECONDS = 60
SSH_SECONDS = 60
SSH_PORT = 22
JUMP = re.compile(r"-o ?ProxyJump=(\S+)")
# Path on a host, without its first slash -> contents and mode.
Files = dict[str, tuple[bytes, int]]
Subnet = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True)
class Host:
    """A host of the inventory, as far as the lab needs it."""

    name: str
    address: str  # by which this machine reaches it, or its bastion does
    user: str
    debian: str
    groups: tuple[str, ...]
    port: int = SSH_PORT
    jump: str = ""  # the host through which it is reached; "" for none
    more: tuple[str, ...] = ()  # its other addresses

    @property
    def container(self) -> str:
        """The name of its container."""
        return f"phoenix-{self.name}"

    @property
    def addresses(self) -> tuple[str, ...]:
        return (self.address, *self.more)


@dataclass(frozen=True)
class Network:
    """A network of the engine: one of IPv4, and perhaps one of IPv6 as well."""

    name: str
    subnets: tuple[Subnet, ...]

    @property
    def gateway(self) -> str:
        """The IPv4 address of this machine in it: the engine forwards IPv4 alone beyond this machine."""
        return next(first(subnet) for subnet in self.subnets if subnet.version == IPV4)

    @property
    def dual(self) -> bool:
        return any(subnet.version != IPV4 for subnet in self.subnets)

    def among(self, addresses: Iterable[str]) -> list[str]:
        """Those of the addresses that belong to it."""
        return [one for one in addresses if any(ipaddress.ip_address(one) in subnet for subnet in self.subnets)]


@dataclass(frozen=True)
class Fleet:
    """A fleet as an inventory describes it."""

    inventory: Path
    networks: tuple[Network, ...]  # by name
    hosts: tuple[Host, ...]
    url: str
    engine_port: int = 0  # where the provider is offered to control; 0: no hosts on demand
    demand_image: str = ""

    def members(self, group: str) -> list[Host]:
        return [host for host in self.hosts if group in host.groups]

    def attached(self, host: Host) -> dict[str, list[str]]:
        """The networks that a host is in, by their names, with its addresses there."""
        return {network.name: own for network in self.networks if (own := network.among(host.addresses))}

    def gateway(self, host: Host) -> str:
        """The address of this machine to which the host sends what leaves its networks: the engine takes the first."""
        return next(network.gateway for network in self.networks if network.among(host.addresses))


def first(subnet: Subnet) -> str:
    """The first address for a host of a network: that of this machine."""
    return str(next(iter(subnet.hosts())))


def read(inventory: Path) -> Fleet:
    """Read the fleet that an inventory describes.

    Raises:
        RuntimeError: the inventory can't be read, or it is not one of the lab's.
    """
    command = [str(Path(sys.executable).with_name("ansible-inventory")), "-i", str(inventory), "--list"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{inventory} can't be read:\n{done.stderr}")
    return described(inventory, json.loads(done.stdout))


def described(inventory: Path, data: Mapping[str, Any]) -> Fleet:
    """The fleet of an inventory, as `ansible-inventory --list` prints it.

    Raises:
        RuntimeError: it is none of the lab's.
    """
    variables = data["_meta"]["hostvars"]
    members: dict[str, list[str]] = {name: [] for name in variables}

    def collect(group: str, via: tuple[str, ...]) -> None:
        for name in data.get(group, {}).get("hosts", []):
            members[name] += [g for g in (*via, group) if g not in ("all", *members[name])]
        for child in data.get(group, {}).get("children", []):
            collect(child, (*via, group))

    collect("all", ())
    networks = _networks(inventory, variables)
    hosts = tuple(_host(name, values, members[name]) for name, values in sorted(variables.items()))
    url = next((str(v["phoenix_url"]) for v in variables.values() if "phoenix_url" in v), "")
    shared = next(iter(variables.values()))
    fleet = Fleet(
        inventory, networks, hosts, url, int(shared.get("lab_engine_port", 0)), str(shared.get("demand_image", ""))
    )
    for host in hosts:
        if strange := [one for one in host.addresses if not any(network.among([one]) for network in networks)]:
            raise RuntimeError(f"{inventory}: {', '.join(strange)} of {host.name} is in no network of the lab's")
    return fleet


def _networks(inventory: Path, variables: Mapping[str, Mapping[str, Any]]) -> tuple[Network, ...]:
    """The networks that all hosts have in common, by name: the engine gives a host the gateway of its first.

    Raises:
        RuntimeError: the inventory has none, or one without IPv4, through which hosts reach package sources.
    """
    name = f"phoenix-{inventory.name}"
    wanted = [
        {f"{name}-{own}": cidrs for own, cidrs in values["lab_networks"].items()}
        if "lab_networks" in values
        else {name: [values.get("lab_network")]}
        for values in variables.values()
    ]
    if not wanted or any(one != wanted[0] for one in wanted) or [None] in wanted[0].values():
        raise RuntimeError(f"{inventory} is not an inventory of the lab: its hosts have no lab_network in common")
    networks = tuple(Network(own, tuple(map(ipaddress.ip_network, cidrs))) for own, cidrs in sorted(wanted[0].items()))
    for network in networks:
        if [subnet.version for subnet in network.subnets] not in ([IPV4], [IPV4, 6]):
            shown = ", ".join(map(str, network.subnets))
            raise RuntimeError(
                f"{inventory}: {network.name} is {shown}; give one of IPv4, and then one of IPv6 or none"
            )
    return networks


def _host(name: str, values: Mapping[str, Any], groups: Iterable[str]) -> Host:
    jump = JUMP.search(str(values.get("ansible_ssh_common_args", "")))
    return Host(
        name,
        str(values["ansible_host"]),
        values["ansible_user"],
        values["lab_debian"],
        tuple(groups),
        int(values.get("ansible_port", SSH_PORT)),
        jump[1] if jump else "",
        tuple(one for one in values.get("lab_addresses", []) if one != values["ansible_host"]),
    )


def up(client: docker.DockerClient, fleet: Fleet, state: Path, cache: Path, report: Callable[[str], None]) -> None:
    """Start every host of the fleet until it answers over SSH; running hosts are left as they are.

    Raises:
        RuntimeError: another fleet exists, or a step failed; the message contains the remedy.
    """
    refuse_others(client, fleet.inventory.name)
    key = _ssh_key(state)
    images = {
        suite: image.ensure(client, suite, cache, report) for suite in sorted({host.debian for host in fleet.hosts})
    }
    for network in fleet.networks:
        _network(client, fleet, network)
    for host in fleet.hosts:
        container = _container(client, fleet, host, images[host.debian])
        if container.status != "running":
            report(f"starting {host.container} ({host.address}, Debian {host.debian})")
            container.start()
    settings = {gateway: proxy.apt_conf(gateway) for gateway in set(map(fleet.gateway, fleet.hosts))}
    for host in fleet.hosts:
        container = client.containers.get(host.container)
        _wait_for_boot(container)
        gateway = fleet.gateway(host)
        files = {
            f"home/{host.user}/.ssh/authorized_keys": (key.encode(), 0o600),
            "etc/apt/apt.conf.d/90lab": (apt_conf(host, settings[gateway]).encode(), 0o644),
        }
        _copy_files(container, host, files | registry_settings(gateway) if "control" in host.groups else files)
    _write_known_hosts(client, fleet, state)


def down(client: docker.DockerClient, generated: Iterable[Path], report: Callable[[str], None]) -> None:
    """Remove the containers and networks of this checkout and the folders generated for them, and nothing else."""
    ours = {"label": f"{CHECKOUT_LABEL}={CHECKOUT}"}
    for container in client.containers.list(all=True, filters=ours):
        report(f"removing {container.name}")
        container.remove(force=True, v=True)
    for network in client.networks.list(filters=ours):
        network.remove()
    for folder in generated:
        shutil.rmtree(folder, ignore_errors=True)


def hosts(client: docker.DockerClient) -> list[Container]:
    """List the containers of this checkout's fleet, running or not."""
    ours = {"label": [LABEL, f"{CHECKOUT_LABEL}={CHECKOUT}"]}
    return client.containers.list(all=True, filters=ours)  # type: ignore[no-any-return]


def refuse_others(client: docker.DockerClient, inventory: str) -> None:
    """Refuse a second fleet on this machine: names and addresses are fixed, and a checkout has one set of keys.

    Raises:
        RuntimeError: another checkout has a fleet, or this one has a fleet of another inventory.
    """
    found = [container.labels for container in client.containers.list(all=True, filters={"label": LABEL})]
    found += [network.attrs["Labels"] for network in client.networks.list(filters={"label": LABEL})]
    for checkout in sorted({labels.get(CHECKOUT_LABEL, CHECKOUT) for labels in found} - {CHECKOUT}):
        end = f"make -C {checkout} down"
        if not Path(checkout).is_dir():
            label = f"label={CHECKOUT_LABEL}={checkout}"
            end = f"docker rm -fv $(docker ps -aqf {label}); docker network rm $(docker network ls -qf {label})"
        raise RuntimeError(
            f"the fleet of {checkout} is on this machine, and this one would have the same addresses: "
            f"end that one first ({end})"
        )
    for other in sorted({str(labels[LABEL]) for labels in found} - {inventory}):
        raise RuntimeError(
            f"the fleet of inventories/{other} is there, and one runs at a time: end it first (make down)"
        )


def default_gateway(client: docker.DockerClient) -> str:
    """Return the address of this machine in Docker's default network."""
    (config, *_) = client.networks.get("bridge").attrs["IPAM"]["Config"]
    # Not every engine records a gateway that it chose itself: it is the first address.
    return str(config.get("Gateway") or next(ipaddress.IPv4Network(config["Subnet"]).hosts()))


def _ssh_key(state: Path) -> str:
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    private = state / "id_ed25519"
    if not private.exists():
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "phoenix-lab", "-f", str(private)], check=True
        )
    return private.with_suffix(".pub").read_text()


def in_the_way(network: Subnet, routes: str) -> str:
    """What this machine already reaches in the lab's network, of `ip -json route`, or "". Docker knows its own only.

    A wider route by a gateway, such as 10.0.0.0/8 of a VPN, is not in the way: the lab's is more specific.
    """
    for route in json.loads(routes):
        if route["dst"] == "default":
            continue
        there = ipaddress.ip_network(route["dst"])
        # Of one version, as the routes are asked for by it; the type checker can't know.
        if there.subnet_of(network) or ("gateway" not in route and there.overlaps(network)):  # type: ignore[arg-type]
            return f"{there} on {route.get('dev', 'no interface')}"
    return ""


def _network(client: docker.DockerClient, fleet: Fleet, network: Network) -> None:
    """Make a network of the fleet, unless it is there."""
    with suppress(NotFound):
        client.networks.get(network.name)
        return
    for subnet in network.subnets:
        command = ["ip", "-json", f"-{subnet.version}", "route"]
        shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        if other := in_the_way(subnet, shown):
            raise RuntimeError(
                f"this machine reaches {other}, which the lab's network {subnet} would hide: "
                f"give {fleet.inventory} another network and addresses"
            )
    pools = [docker.types.IPAMPool(subnet=str(subnet), gateway=first(subnet)) for subnet in network.subnets]
    shown = " and ".join(map(str, network.subnets))
    try:
        client.networks.create(
            network.name,
            driver="bridge",
            ipam=docker.types.IPAMConfig(pool_configs=pools),
            enable_ipv6=network.dual,
            labels={LABEL: fleet.inventory.name, CHECKOUT_LABEL: CHECKOUT},
        )
    except APIError as error:
        raise RuntimeError(
            f"Docker can't make the network {shown} ({error.explanation}): remove the network in its way "
            f"(docker network ls), or give {fleet.inventory} another network and addresses"
        ) from error


def _container(client: docker.DockerClient, fleet: Fleet, host: Host, tag: str) -> Container:
    try:
        container = client.containers.get(host.container)
    except NotFound:
        return _create(client, fleet, host, tag)
    if LABEL not in container.labels:
        raise RuntimeError(
            f"a container that the lab did not create has the name {host.container}: "
            f"remove it (docker rm -f {host.container})"
        )
    if container.status == "created":  # interrupted: it may not be in all its networks yet
        container.remove(force=True, v=True)
        return _create(client, fleet, host, tag)
    return container


def _create(client: docker.DockerClient, fleet: Fleet, host: Host, tag: str) -> Container:
    labels = {LABEL: fleet.inventory.name, CHECKOUT_LABEL: CHECKOUT}
    container = create_container(client, tag, host.name, labels, fleet.attached(host))
    if host.port != SSH_PORT:
        # Before its first boot, so that sshd never listens at the usual one.
        port = {"etc/ssh/sshd_config.d/10-lab.conf": (f"Port {host.port}\n".encode(), 0o644)}
        container.put_archive("/", tar(port))
    return container


def create_container(
    client: docker.DockerClient,
    tag: str,
    hostname: str,
    labels: Mapping[str, str],
    attached: Mapping[str, Sequence[str]],
) -> Container:
    """Create the container that stands for a host, not started yet.

    attached: by the name of each network, the host's addresses there; none for any of the network's.

    Raises:
        APIError: the name or an address is taken, or the image or a network does not exist.
    """
    api = client.api
    network, *others = attached
    sysctls = {"net.core.somaxconn": "4096"}
    if any(":" in one for own in attached.values() for one in own):
        # Not every engine lets the loopback interface have IPv6 in a container.
        sysctls["net.ipv6.conf.all.disable_ipv6"] = "0"
    made = api.create_container(
        tag,
        name=f"phoenix-{hostname}",
        hostname=hostname,
        labels=dict(labels),
        stop_signal="SIGRTMIN+3",
        # Debian 11 does not see by itself that it is a container when it reboots, and would hang.
        environment={"container": "docker"},
        host_config=api.create_host_config(
            cap_add=["SYS_ADMIN", "NET_ADMIN"],
            security_opt=["seccomp=unconfined", "apparmor=unconfined"],
            tmpfs={"/run": "", "/run/lock": "", "/tmp": "exec"},
            sysctls=sysctls,
            # A machine that is rebooted comes back; one that the engine stopped or killed stays off.
            restart_policy={"Name": "unless-stopped"},
        )
        | {"CgroupnsMode": "private"},
        networking_config=api.create_networking_config(
            {network: api.create_endpoint_config(aliases=[hostname], **_own(attached[network]))}
        ),
    )
    # Engines before API 1.44 take one network at the creation.
    for other in others:
        client.networks.get(other).connect(made["Id"], aliases=[hostname], **_own(attached[other]))
    return client.containers.get(made["Id"])


def _own(addresses: Sequence[str]) -> dict[str, str]:
    """A host's addresses in a network as the engine takes them."""
    return {f"ipv{ipaddress.ip_address(one).version}_address": one for one in addresses}


def _wait_for_boot(container: Container) -> None:
    deadline = time.monotonic() + BOOT_SECONDS
    # Until systemd listens, the command fails at once instead of waiting.
    while "running" not in (seen := container.exec_run("systemctl is-system-running --wait").output.decode()):
        if "degraded" in seen:
            return  # the host is up; verify.yml reports failed units to the operator
        if time.monotonic() > deadline:
            raise RuntimeError(
                f"{container.name} did not boot in {BOOT_SECONDS} s ({seen.strip()}): docker logs {container.name}"
            )
        time.sleep(0.2)


def apt_conf(host: Host, settings: str) -> str:
    """The configuration of apt for a host: this machine's, and IPv4 alone, as IPv6 leads to no mirror from the lab."""
    return settings + ('Acquire::ForceIPv4 "true";\n' if any(":" in one for one in host.addresses) else "")


def registry_settings(gateway: str) -> Files:
    """Return this machine's registries and proxy as settings for npm and pip on the host that builds."""
    registry = subprocess.run(["npm", "config", "get", "registry"], capture_output=True, text=True, check=True)
    npmrc = f"registry={registry.stdout.strip()}\ncafile=/etc/ssl/certs/ca-certificates.crt\n" + proxy.npmrc(gateway)
    return {"etc/npmrc": (npmrc.encode(), 0o644), "etc/pip.conf": (_pip_settings(gateway).encode(), 0o644)}


def certificates() -> Files:
    """Return the certificates that this machine trusts beyond Debian's."""
    found = sorted(Path("/usr/local/share/ca-certificates").glob("*.crt"))
    return {str(certificate).lstrip("/"): (certificate.read_bytes(), 0o644) for certificate in found}


def _copy_files(container: Container, host: Host, files: Files) -> None:
    """Copy files to a host, and the certificates that this machine trusts."""
    container.put_archive("/", tar(files | certificates()))
    script = (
        f"chown -R {host.user}: /home/{host.user}/.ssh && chmod 0700 /home/{host.user}/.ssh && update-ca-certificates"
    )
    code, output = container.exec_run(["sh", "-c", script])
    if code:
        raise RuntimeError(f"{host.container}: {output.decode()}")


def _pip_settings(gateway: str) -> str:
    """Return this machine's settings for pip, without registries on its own disk, which hosts cannot reach."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    )
    found = dict(line.split("=", 1) for line in listed.stdout.splitlines() if "=" in line)
    lines = ["[global]", "cert = /etc/ssl/certs/ca-certificates.crt"]
    index = "https:"  # pip's own default, somewhere
    for name in ("index-url", "trusted-host"):
        for section in (":env:", "install", "global"):
            value = ast.literal_eval(found.get(f"{section}.{name}", "''")).strip()
            if value and not value.startswith("file:"):
                lines.append(f"{name} = {value}")
                if name == "index-url":
                    index = value
                break
    return "\n".join(lines) + "\n" + proxy.pip_conf(index, gateway)


def tar(files: Files, owner: int = 0) -> bytes:
    """Pack files that belong to this user; a path that ends in a slash is a folder."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, (data, mode) in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.uid, entry.gid = len(data), mode, owner, owner
            entry.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def _write_known_hosts(client: docker.DockerClient, fleet: Fleet, state: Path) -> None:
    """Record each host's key, read from the host itself, so that Ansible need not trust the first answer."""
    lines = []
    deadline = time.monotonic() + SSH_SECONDS
    for host in fleet.hosts:
        container = client.containers.get(host.container)
        while True:
            code, output = container.exec_run(
                ["sh", "-c", "systemctl is-active -q ssh && cat /etc/ssh/ssh_host_ed25519_key.pub"]
            )
            if code == 0:
                break
            if time.monotonic() > deadline:
                raise RuntimeError(f"{host.container}: no SSH after {SSH_SECONDS} s: docker logs {host.container}")
            time.sleep(0.2)
        kind, key, *_ = output.decode().split()
        # By each address; ssh finds it here at any port.
        lines += [f"{address} {kind} {key}\n" for address in host.addresses]
    (state / "known_hosts").write_text("".join(lines))
    (state / "ssh_config").write_text("".join(_ssh_config(host, state) for host in fleet.hosts))


def _ssh_config(host: Host, state: Path) -> str:
    """Return the SSH configuration of a host, for people and tests: ssh -F .lab/ssh_config app1."""
    return (
        f"Host {host.name}\n"
        f"  HostName {host.address}\n"
        f"  Port {host.port}\n" + (f"  ProxyJump {host.jump}\n" if host.jump else "") + f"  User {host.user}\n"
        f"  IdentityFile {state / 'id_ed25519'}\n"
        f"  UserKnownHostsFile {state / 'known_hosts'}\n"
        "  StrictHostKeyChecking yes\n"
        "  LogLevel ERROR\n"
    )
