"""The fleet's containers and networks on this machine's engine: started, found, and removed."""

from __future__ import annotations

import ipaddress
import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import docker
from docker.errors import APIError, NotFound
from docker.models.containers import Container

from lab import image, proxy
from lab.fleet import SSH_PORT, Fleet, Host, Network, Subnet, first
from lab.settings import Files, apt_conf, certificates, registry_settings, tar

LABEL = "org.phoenix.lab"
CHECKOUT_LABEL = "org.phoenix.checkout"
CHECKOUT = str(Path(__file__).resolve().parents[1])
BOOT_SECONDS = 60
SSH_SECONDS = 60


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


def _copy_files(container: Container, host: Host, files: Files) -> None:
    """Copy files to a host, and the certificates that this machine trusts."""
    container.put_archive("/", tar(files | certificates()))
    script = (
        f"chown -R {host.user}: /home/{host.user}/.ssh && chmod 0700 /home/{host.user}/.ssh && update-ca-certificates"
    )
    code, output = container.exec_run(["sh", "-c", script])
    if code:
        raise RuntimeError(f"{host.container}: {output.decode()}")


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
