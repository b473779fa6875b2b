"""The lab's fleet: one systemd container for each host of an inventory, reached over SSH as a VM would be.

The inventory is the one definition of the fleet. Of each host the lab reads `ansible_host`, `ansible_user`, the groups,
and the variables `lab_debian` (release of its image) and `lab_network` (CIDR of the network).
"""

from __future__ import annotations

import io
import ipaddress
import json
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import docker
from docker.errors import APIError, NotFound
from docker.models.containers import Container

from lab import image, proxy

LABEL = "org.phoenix.lab"
CHECKOUT_LABEL = "org.phoenix.checkout"
CHECKOUT = str(Path(__file__).resolve().parents[1])
BOOT_SECONDS = 60
SSH_SECONDS = 60
# Path on a host, without its first slash -> contents and mode.
Files = dict[str, tuple[bytes, int]]


@dataclass(frozen=True)
class Host:
    """A host of the inventory, as far as the lab needs it."""

    name: str
    address: str
    user: str
    debian: str
    groups: tuple[str, ...]

    @property
    def container(self) -> str:
        """The name of its container."""
        return f"phoenix-{self.name}"


@dataclass(frozen=True)
class Fleet:
    """A fleet as an inventory describes it."""

    inventory: Path
    network: ipaddress.IPv4Network
    hosts: tuple[Host, ...]
    url: str
    engine_port: int = 0  # where the provider is offered to control; 0: no hosts on demand
    demand_image: str = ""

    @property
    def gateway(self) -> str:
        """The address of this machine in the hosts' network."""
        return str(next(self.network.hosts()))

    def members(self, group: str) -> list[Host]:
        return [host for host in self.hosts if group in host.groups]


def read(inventory: Path) -> Fleet:
    """Read the fleet that an inventory describes.

    Raises:
        RuntimeError: the inventory can't be read, or it is not one of the lab's.
    """
    command = [str(Path(sys.executable).with_name("ansible-inventory")), "-i", str(inventory), "--list"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{inventory} can't be read:\n{done.stderr}")
    data = json.loads(done.stdout)
    variables = data["_meta"]["hostvars"]
    members: dict[str, list[str]] = {name: [] for name in variables}

    def collect(group: str, via: tuple[str, ...]) -> None:
        for name in data.get(group, {}).get("hosts", []):
            members[name] += [g for g in (*via, group) if g not in ("all", *members[name])]
        for child in data.get(group, {}).get("children", []):
            collect(child, (*via, group))

    collect("all", ())
    networks = {values.get("lab_network") for values in variables.values()}
    if len(networks) != 1 or None in networks:
        raise RuntimeError(f"{inventory} is not an inventory of the lab: its hosts have no lab_network in common")
    hosts = tuple(
        Host(name, v["ansible_host"], v["ansible_user"], v["lab_debian"], tuple(members[name]))
        for name, v in sorted(variables.items())
    )
    url = next((str(v["phoenix_url"]) for v in variables.values() if "phoenix_url" in v), "")
    shared = next(iter(variables.values()))
    return Fleet(
        inventory,
        ipaddress.IPv4Network(networks.pop()),
        hosts,
        url,
        int(shared.get("lab_engine_port", 0)),
        str(shared.get("demand_image", "")),
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
    network = _network(client, fleet)
    apt_conf = proxy.apt_conf(fleet.gateway)
    for host in fleet.hosts:
        container = _container(client, fleet, host, images[host.debian], network)
        if container.status != "running":
            report(f"starting {host.container} ({host.address}, Debian {host.debian})")
            container.start()
    for host in fleet.hosts:
        container = client.containers.get(host.container)
        _wait_for_boot(container)
        files = {
            f"home/{host.user}/.ssh/authorized_keys": (key.encode(), 0o600),
            "etc/apt/apt.conf.d/90lab": (apt_conf.encode(), 0o644),
        }
        _copy_files(container, host, files | registry_settings(fleet.gateway) if "control" in host.groups else files)
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


def in_the_way(network: ipaddress.IPv4Network, routes: str) -> str:
    """What this machine already reaches in the lab's network, of `ip -json -4 route`, or "". Docker knows its own only.

    A wider route by a gateway, such as 10.0.0.0/8 of a VPN, is not in the way: the lab's is more specific.
    """
    for route in json.loads(routes):
        if route["dst"] == "default":
            continue
        there = ipaddress.IPv4Network(route["dst"])
        if there.subnet_of(network) or ("gateway" not in route and there.overlaps(network)):
            return f"{there} on {route.get('dev', 'no interface')}"
    return ""


def _network(client: docker.DockerClient, fleet: Fleet) -> str:
    name = f"phoenix-{fleet.inventory.name}"
    try:
        client.networks.get(name)
    except NotFound:
        shown = subprocess.run(["ip", "-json", "-4", "route"], capture_output=True, text=True, check=True).stdout
        if other := in_the_way(fleet.network, shown):
            raise RuntimeError(
                f"this machine reaches {other}, which the lab's network {fleet.network} would hide: "
                f"give {fleet.inventory} another lab_network and addresses"
            ) from None
        pool = docker.types.IPAMPool(subnet=str(fleet.network), gateway=fleet.gateway)
        try:
            client.networks.create(
                name,
                driver="bridge",
                ipam=docker.types.IPAMConfig(pool_configs=[pool]),
                labels={LABEL: fleet.inventory.name, CHECKOUT_LABEL: CHECKOUT},
            )
        except APIError as error:
            raise RuntimeError(
                f"Docker can't make the network {fleet.network} ({error.explanation}): remove the network in its way "
                f"(docker network ls), or give {fleet.inventory} another lab_network and addresses"
            ) from error
    return name


def _container(client: docker.DockerClient, fleet: Fleet, host: Host, tag: str, network: str) -> Container:
    try:
        container = client.containers.get(host.container)
    except NotFound:
        return _create(client, fleet, host, tag, network)
    if LABEL not in container.labels:
        raise RuntimeError(
            f"a container that the lab did not create has the name {host.container}: "
            f"remove it (docker rm -f {host.container})"
        )
    return container


def _create(client: docker.DockerClient, fleet: Fleet, host: Host, tag: str, network: str) -> Container:
    labels = {LABEL: fleet.inventory.name, CHECKOUT_LABEL: CHECKOUT}
    return create_container(client, tag, host.name, labels, network, host.address)


def create_container(
    client: docker.DockerClient, tag: str, hostname: str, labels: Mapping[str, str], network: str, address: str
) -> Container:
    """Create the container that stands for a host, not started yet; address: "" for any of the network's.

    Raises:
        APIError: the name or the address is taken, or the image or the network does not exist.
    """
    api = client.api
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
            sysctls={"net.core.somaxconn": "4096"},
            # A machine that is rebooted comes back; one that the engine stopped or killed stays off.
            restart_policy={"Name": "unless-stopped"},
        )
        | {"CgroupnsMode": "private"},
        networking_config=api.create_networking_config(
            {network: api.create_endpoint_config(ipv4_address=address or None, aliases=[hostname])}
        ),
    )
    return client.containers.get(made["Id"])


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
    command = [sys.executable, "-m", "pip", "config", "get"]
    lines = ["[global]", "cert = /etc/ssl/certs/ca-certificates.crt"]
    index = "https:"  # pip's own default, somewhere
    for name in ("index-url", "trusted-host"):
        for section in (":env:", "install", "global"):
            done = subprocess.run([*command, f"{section}.{name}"], capture_output=True, text=True, check=False)
            if done.returncode == 0 and done.stdout.strip() and not done.stdout.startswith("file:"):
                lines.append(f"{name} = {done.stdout.strip()}")
                if name == "index-url":
                    index = done.stdout.strip()
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
        lines.append(f"{host.address} {kind} {key}\n")
    (state / "known_hosts").write_text("".join(lines))
    (state / "ssh_config").write_text("".join(_ssh_config(host, state) for host in fleet.hosts))


def _ssh_config(host: Host, state: Path) -> str:
    """Return the SSH configuration of a host, for people and tests: ssh -F .lab/ssh_config app1."""
    return (
        f"Host {host.name}\n"
        f"  HostName {host.address}\n"
        f"  User {host.user}\n"
        f"  IdentityFile {state / 'id_ed25519'}\n"
        f"  UserKnownHostsFile {state / 'known_hosts'}\n"
        "  StrictHostKeyChecking yes\n"
        "  LogLevel ERROR\n"
    )
