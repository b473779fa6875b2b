"""The provider `docker`: containers of the lab as hosts. python -m lab.provider speaks docs/provider.schema.json."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import docker
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from docker.models.containers import Container

from lab import containers, proxy, settings
from phoenix.provider.contract import Conflict, Failed, Foreign, Host, Invalid, Spec, Unavailable
from phoenix.provider.serve import serve

FLEET_LABEL = "org.phoenix.fleet"
KEY_LABEL = "org.phoenix.host-key"
USER, UID = "debian", 1000  # of the lab's images
ID = re.compile(r"[0-9a-f]{64}")
STATES = {
    "created": "creating",
    "running": "running",
    "restarting": "creating",
    "removing": "deleting",
    "dead": "error",
}


class Docker:
    """Hosts of this machine's Docker engine. Methods raise contract.Error."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        unknown = sorted(set(settings) - {"max_hosts"})
        if unknown:
            raise ValueError(f"docker has no setting {', '.join(unknown)}: use max_hosts")
        self.max_hosts = settings.get("max_hosts")
        try:
            self.client = docker.from_env()
        except DockerException as error:
            raise Unavailable(f"the Docker engine does not answer: {error}") from error

    def limit(self) -> int | None:
        return None if self.max_hosts is None else int(self.max_hosts)

    def list(self, fleet: str) -> Sequence[Host]:
        filters = {"label": f"{FLEET_LABEL}={fleet}"}
        return [_host(one) for one in self.client.containers.list(all=True, filters=filters, ignore_removed=True)]

    def create(self, fleet: str, name: str, spec: Spec) -> Host:
        if spec.user != USER or spec.size:
            raise Invalid(
                f"the lab's containers have the user {USER} and this machine's size: {spec.user}, {spec.size}"
            )
        try:
            container = self._existing(fleet, name)
            if container is not None and container.status == "created":
                container.remove(force=True, v=True)  # interrupted: it was never started
                container = None
            if container is None:
                container = self._create(fleet, name, spec)
            if container.status != "running":
                container.start()
                container.reload()
            return _host(container)
        except APIError as error:
            refused = isinstance(error, (ImageNotFound, NotFound)) or error.is_client_error()
            raise (Invalid if refused else Failed)(f"Docker refuses {name}: {error.explanation}") from error

    def delete(self, fleet: str, identity: str) -> bool:
        # Not by anything else: the engine would take a name or the beginning of an ID as well.
        if not ID.fullmatch(identity):
            return False
        try:
            container = self.client.containers.get(identity)
            if container.labels.get(FLEET_LABEL) != fleet:
                raise Foreign(f"the container {container.name} has not got the label {FLEET_LABEL}={fleet}")
            container.remove(force=True, v=True)
        except NotFound:
            return False
        except APIError as error:
            raise Failed(f"Docker does not remove {identity[:12]}: {error.explanation}") from error
        return True

    def _existing(self, fleet: str, name: str) -> Container | None:
        try:
            container = self.client.containers.get(f"phoenix-{name}")
        except NotFound:
            return None
        if container.labels.get(FLEET_LABEL) != fleet:
            raise Conflict(
                f"a container without the label {FLEET_LABEL}={fleet} has the name {container.name}: remove it"
            )
        return container

    def _create(self, fleet: str, name: str, spec: Spec) -> Container:
        labels = {
            FLEET_LABEL: fleet,
            KEY_LABEL: spec.host_key["public"],
            containers.CHECKOUT_LABEL: containers.CHECKOUT,
        }
        network = spec.network or "bridge"
        attached = {network: [spec.address] if spec.address else []}
        container = containers.create_container(self.client, spec.image, name, labels, attached)
        gateway = self.client.networks.get(network).attrs["IPAM"]["Config"][0].get("Gateway")
        files: settings.Files = {
            "etc/ssh/ssh_host_ed25519_key": (spec.host_key["private"].encode(), 0o600),
            "etc/ssh/ssh_host_ed25519_key.pub": (f"{spec.host_key['public']}\n".encode(), 0o644),
            "etc/apt/apt.conf.d/90lab": (
                proxy.apt_conf(gateway or containers.default_gateway(self.client)).encode(),
                0o644,
            ),
        }
        container.put_archive("/", settings.tar(files))
        keys = "".join(f"{key}\n" for key in spec.authorized_keys)
        home = f"home/{USER}/.ssh/"
        container.put_archive(
            "/", settings.tar({home: (b"", 0o700), f"{home}authorized_keys": (keys.encode(), 0o600)}, UID)
        )
        return container


def _host(container: Container) -> Host:
    attached = container.attrs["NetworkSettings"]["Networks"].values()
    # A container that does not run has the address that it asked for, if any.
    address = next(
        (found for one in attached if (found := one["IPAddress"] or (one.get("IPAMConfig") or {}).get("IPv4Address"))),
        "",
    )
    return Host(
        container.id,
        container.attrs["Config"]["Hostname"],
        address,
        STATES.get(container.status, "stopped"),
        container.labels.get(KEY_LABEL, ""),
    )


if __name__ == "__main__":
    sys.exit(serve(Docker))
