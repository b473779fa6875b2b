"""Checks across hosts and services: groups, voters, ports, recipients of alarms."""

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from phoenix.balancer import acme
from phoenix.common import endpoint
from phoenix.database import names
from phoenix.fleet import addresses, floating
from phoenix.fleet.inputs import port_errors, recipients_errors, voters_error
from phoenix.fleet.inventory.model import Finding, Inventory, boolean
from phoenix.fleet.uri import url_error

GROUPS = ("lb", "app", "db", "control")
SAME_EVERYWHERE = (
    "acme_certificates",
    "autoscaler_port",
    "demand_addresses",
    "demand_command",
    "mongodb_app_database",
    "mongodb_app_user",
    "mongodb_port",
    "mongodb_replica_set",
    "mongodb_tls",
    "mongodb_tls_ca",
    "netdata_stream_port",
    "nginx_unwanted_policy",
    "phoenix_database_domain",
    "phoenix_first_port",
    "phoenix_floating_addresses",
    "phoenix_instances_per_host",
    "phoenix_spare_port",
    "phoenix_url",
    "state_capacity_initial",
)
PLAY_SECONDS = 30  # of a run of scale.yml, besides its waits for instances


def empty_groups(inventory: Inventory) -> Iterator[Finding]:
    for group in GROUPS:
        if not inventory.members(group):
            yield "", f"group {group}: it has no host (hosts seen: []); add at least one host to it in the inventory"


def different_values(inventory: Inventory) -> Iterator[Finding]:
    """Settings that hosts read for each other: a value for one group would apply to only one side of a connection."""
    for name in SAME_EVERYWHERE:
        seen: dict[str, str] = {}
        for host in inventory.hostvars:
            value, reason = inventory.read(host, name)
            if not reason and name in inventory.hostvars[host]:
                seen.setdefault(repr(value), host)
        if len(seen) > 1:
            values = ", ".join(f"{value} on {host}" for value, host in seen.items())
            yield "", f"{name}: {values}; it must be the same on every host: set it for the group all"


def second_controls(inventory: Inventory) -> Iterator[Finding]:
    """One host has the records and decides; of a second one it would be unknown which of them is right."""
    first, *others = inventory.members("control") or [""]
    if others:
        yield (
            "",
            f"group control: {', '.join([first, *others])}; one host records and decides, and a second would not stand "
            f"in for it: leave {first} alone there; recover.yml -e phoenix_recover=control replaces it when it is lost",
        )


def unusable_addresses(inventory: Inventory) -> Iterator[Finding]:
    own = {host: inventory.value(host, "phoenix_address") for host in inventory.hostvars}
    yield from addresses.own_errors({host: str(address) for host, address in own.items() if address is not None})


def unusable_names(inventory: Inventory) -> Iterator[Finding]:
    """Members of the replica set whose name no host would resolve."""
    for host in inventory.members("db"):
        members = inventory.value(host, "mongodb_members") if host in inventory.hostvars else None
        for message in names.errors(members) if isinstance(members, list) else ():
            yield host, message


def even_voters(inventory: Inventory) -> Iterator[Finding]:
    for host in inventory.members("db"):
        members = inventory.value(host, "mongodb_members") if host in inventory.hostvars else None
        error = voters_error(members) if isinstance(members, list) else ""
        if error:
            yield host, error


def floating_addresses(inventory: Inventory) -> Iterator[Finding]:
    balancers = [host for host in inventory.members("lb") if host in inventory.hostvars]
    wanted = inventory.value(balancers[0], "phoenix_floating_addresses") if balancers else None
    if isinstance(wanted, list) and wanted:
        owners = {str(inventory.value(host, "phoenix_address")): host for host in inventory.hostvars}
        front = {host: _front(inventory, host) for host in balancers}
        for message in floating.errors(wanted, front, owners):
            yield "", message
        for host, own in front.items():
            for message in addresses.front_errors(own):
                yield host, message


def _front(inventory: Inventory, host: str) -> list[str]:
    """A load balancer's addresses in the network of the floating ones; unsupported_values reports what is no list."""
    value = inventory.value(host, "phoenix_front_addresses")
    return list(map(str, value)) if isinstance(value, list) else []


def unserved_url(inventory: Inventory) -> Iterator[Finding]:
    """An address of the site whose host load balancers do not serve: they would answer every client with 421.

    A balancer without names serves by its own ones, which are known once it is reached: the play asks it.
    """
    for host in inventory.members("lb"):
        url = inventory.value(host, "phoenix_url") if host in inventory.hostvars else None
        served = inventory.value(host, "nginx_server_names") if url else None
        if not isinstance(served, list) or not served or url_error(str(url)):
            continue
        # Names that have a certificate of their own, or are redirected, need not be there.
        for name in ("nginx_certificates", "nginx_acme_names", "nginx_redirects"):
            for one in inventory.value(host, name) or []:
                found = one.get("names") if isinstance(one, Mapping) else one
                served = [*served, *(found if isinstance(found, list) else [])]
        wanted = endpoint.bracketed(urlsplit(str(url)).hostname or "")
        if not any(serves(str(name), wanted) for name in served):
            yield (
                host,
                f"phoenix_url: {url!r} is not an address that load balancers serve: {wanted} is not among "
                f"nginx_server_names ({', '.join(map(str, served))}), and they would answer 421; add it there, or "
                "correct phoenix_url",
            )


def serves(name: str, host: str) -> bool:
    """Whether nginx serves a host, of a URL, by this `server_name`; of regular expressions it is not said that not."""
    name, host = name.lower(), host.lower()
    if name.startswith("~"):
        return True
    if name.startswith(("*.", ".")):
        suffix = name.lstrip("*")
        return host.endswith(suffix) or f".{host}" == name
    return host == name or (name.endswith(".*") and host.startswith(name[:-1]))


def unfit_certificates(inventory: Inventory) -> Iterator[Finding]:
    """Certificates that no CA would issue, or that nobody could serve."""
    for host in inventory.members("control")[:1]:
        names = ("certificates", "email", "directory", "dns_hook", "other_names", "tls_enabled")
        values = {name: inventory.value(host, f"acme_{name}") for name in names}
        if values["certificates"]:
            # Derived from other hosts' variables, which may not be known yet: the role checks them again.
            served, tls = values.pop("other_names") or [], values.pop("tls_enabled")
            for message in acme.errors(values, served, tls=tls is None or boolean(tls)):
                yield "", message


def _claims(inventory: Inventory, host: str) -> Iterator[tuple[str, Any]]:
    """Yield each setting with the port, or list of ports, that the host's services listen on because of it."""

    def default(name: str, fallback: Any) -> Any:
        value = inventory.value(host, name)
        return fallback if value is None else value

    yield "ansible_port", default("ansible_port", 22)
    if host in inventory.members("lb"):
        yield "nginx_http_port", default("nginx_http_port", 80)
        yield "nginx_https_port", default("nginx_https_port", 443)
        yield "nginx_status_port", default("nginx_status_port", 8089)
    if "netdata_parent_address" in inventory.hostvars[host]:
        yield "netdata_stream_port", default("netdata_stream_port", 19999)
    if host in inventory.members("db"):
        yield "mongodb_port", default("mongodb_port", 27017)
    if host in inventory.members("jenkins"):
        yield "jenkins_port", default("jenkins_port", 8080)
    if host in inventory.members("control"):
        opened = inventory.value(host, "ci_webhook_sources")
        yield "ci_webhook_port", default("ci_webhook_port", 8090) if opened else []
    if host in inventory.members("app"):
        ports = default("phoenix_ports", [])
        # The ports that this host gets when the capacity grows are taken as well.
        first, count = inventory.value(host, "phoenix_first_port"), inventory.value(host, "phoenix_instances_per_host")
        if isinstance(first, int) and isinstance(count, int) and isinstance(ports, list):
            ports = [*ports, *(port for port in range(first, first + count) if port not in ports)]
        yield "phoenix_ports", ports
        yield "phoenix_isolate_ports", default("phoenix_isolate_ports", [])
        # Standby hosts get the spare instance with their first ordinary one, so the port is theirs from the start.
        yield "phoenix_spare_port", default("phoenix_spare_port", 3900) or []


def _of_its_type(inventory: Inventory, name: str, value: Any) -> bool:
    """Whether the value has its option's type; unsupported_values reports the others."""
    kind = inventory.options.get(name, {}).get("type")
    if kind == "int":
        return str(value).strip().isdigit()
    return kind != "list" or isinstance(value, list)


def clashing_ports(inventory: Inventory) -> Iterator[Finding]:
    for host in inventory.hostvars:
        claims = {name: value for name, value in _claims(inventory, host) if _of_its_type(inventory, name, value)}
        for message in port_errors(claims):
            yield host, message


def hasty_autoscaler(inventory: Inventory) -> Iterator[Finding]:
    """Waits of scale.yml that together exceed the time after which the autoscaler stops it, half done."""
    controls = [host for host in inventory.members("control")[:1] if host in inventory.hostvars]
    for control in controls:
        if not boolean(inventory.value(control, "autoscaler_enabled")):
            continue
        for host in inventory.members("app"):
            try:
                limit = float(inventory.value(control, "autoscaler_action_timeout_seconds"))
                health = float(inventory.value(host, "phoenix_health_timeout"))
                drain = float(inventory.value(host, "phoenix_drain_timeout"))
            except (TypeError, ValueError):
                continue  # no host, or a value that unsupported_values or failing_templates reports
            needed = health + drain + PLAY_SECONDS
            if limit < needed:
                yield (
                    host,
                    f"autoscaler_action_timeout_seconds: {limit:g} on {control} is less than phoenix_health_timeout "
                    f"({health:g}) + phoenix_drain_timeout ({drain:g}) + {PLAY_SECONDS} for the play: scaling would "
                    f"be stopped half done; raise it to at least {needed:g}, or lower the other two",
                )


def alarms_without_recipients(inventory: Inventory) -> Iterator[Finding]:
    """Alarms that are enabled and have no usable recipient."""
    for host in inventory.members("control"):
        if host not in inventory.hostvars or "alerting_enabled" not in inventory.options:
            continue
        names = ("alerting_recipients", "alerting_channels", "alerting_enabled")
        read = [inventory.read(host, name) for name in names]
        if any(reason for _, reason in read):
            continue  # failing_templates reports it
        for message in recipients_errors(*(value for value, _ in read)):
            yield host, message
