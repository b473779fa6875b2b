"""How the groups of an inventory become the lists that the roles take."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from phoenix.common import endpoint
from phoenix.database import names
from phoenix.fleet.hosts import site_names
from phoenix.fleet.inventory.model import PLAYBOOKS, Specs, boolean
from phoenix.rollout import reach

HostVars = Mapping[str, Mapping[str, Any]]
MISDIRECTED = 421  # nginx's own answer where it has no site of the name
AGAIN = "run site.yml --tags nginx again"


def members(hosts: Sequence[str], hostvars: HostVars) -> list[dict[str, Any]]:
    """The replica set's members, in the inventory's order, each with its name where clients do not know its address."""
    found = []
    for host in hosts:
        address = str(hostvars[host]["phoenix_address"])
        name = names.name(host, address, str(hostvars[host].get("phoenix_database_domain", "")))
        found.append({"host": host, "address": address, **({"name": name} if name != address else {})})
    return found


def addresses(hosts: Sequence[str], hostvars: HostVars, placement: Mapping[str, Sequence[int]]) -> list[dict[str, Any]]:
    """Each application host's name, the address by which others reach it, and its wanted ordinary instances."""
    return [
        {"name": host, "address": hostvars[host]["phoenix_address"], "ports": list(placement.get(host, []))}
        for host in hosts
    ]


def donor(hosts: Sequence[str], hostvars: HostVars, host: str, recorded: Mapping[str, str]) -> dict[str, str]:
    """Whose accepted configuration a new host begins with: {host, name}, or {}.

    recorded: the accepted configurations, by host. It has to be a host with the same settings: in this run both were
    given the same configuration, and that is not accepted yet.
    """
    given = hostvars[host].get("phoenix_configuration")
    if recorded.get(host) or not given:
        return {}
    alike = (one for one in hosts if hostvars[one].get("phoenix_configuration") == given)
    return next(({"host": one, "name": recorded[one]} for one in alike if recorded.get(one, given) != given), {})


def private_services(hosts: Sequence[str], hostvars: HostVars, sources: Sequence[str]) -> list[dict[str, Any]]:
    """Jenkins on each of the hosts, as nginx offers it to the operators' addresses."""
    return [
        {
            "path": hostvars[host]["jenkins_prefix"],
            "address": hostvars[host]["phoenix_address"],
            "port": int(hostvars[host]["jenkins_port"]),
            "sources": list(sources),
        }
        for host in hosts
    ]


def _urls(balancer: str, hostvars: HostVars, address: str) -> dict[str, str]:
    """By scheme, the URLs of the site that a load balancer serves: with its first name, or else this address."""
    variables = hostvars[balancer]
    host = str((list(variables["nginx_server_names"]) or [address])[0])
    ports = {"http": (int(variables["nginx_http_port"]), 80)}
    if boolean(variables["nginx_tls_enabled"]):
        ports["https"] = (int(variables["nginx_https_port"]), 443)
    return {
        scheme: f"{scheme}://{endpoint.bracketed(host)}" + ("" if port == usual else f":{port}")
        for scheme, (port, usual) in ports.items()
    }


def url(balancer: str, hostvars: HostVars) -> str:
    """The address of the site as clients write it: its first name, or else its floating address or the balancer's."""
    variables = hostvars[balancer]
    address = str((list(variables["phoenix_floating_addresses"]) or [variables["phoenix_address"]])[0])
    return list(_urls(balancer, hostvars, address).values())[-1]


def asked_name(balancer: str, hostvars: HostVars, balancers: Sequence[str], public: str) -> str:
    """The name by which a load balancer is asked for the site: that of its URL (public), as clients ask.

    Without nginx_server_names each serves by its own names only, so that it is not asked by another one's.
    """
    name = endpoint.bracketed(str(urlsplit(public).hostname))
    if list(hostvars[balancer]["nginx_server_names"]):
        return name
    others = [host for host in balancers if host != balancer]
    theirs = {one for host in others for one in _own_names(hostvars[host])}
    return "localhost" if name in theirs - _own_names(hostvars[balancer]) else name


def _own_names(variables: Mapping[str, Any]) -> set[str]:
    """The names of a load balancer without nginx_server_names, as far as they are known."""
    facts, floating = variables.get("ansible_facts") or {}, list(variables["phoenix_floating_addresses"])
    known = site_names(facts, floating, True) if "all_ipv4_addresses" in facts else floating
    return {*map(endpoint.bracketed, known), endpoint.bracketed(str(variables["phoenix_address"]))}


def balancer_error(own: Mapping[str, Any], site: Mapping[str, Any], name: str, proxies: str = "") -> str:
    """Why a load balancer does not serve the site to clients, or "".

    own, site: what nginx and what the site answered on this host, as Ansible's module `uri` returns it. proxies: what
    `phoenixctl proxies watch` printed, where the proxies in front are to speak the PROXY protocol.
    """
    if own.get("status") == MISDIRECTED:
        return (
            f"nginx answers {MISDIRECTED} to requests for {name}, the host of phoenix_url: it has no such site. "
            f"Correct nginx_server_names or phoenix_url, and {AGAIN}."
        )
    if own.get("failed"):
        return (
            f"nginx does not answer requests for {name}: {own.get('msg') or 'no reason given'}. "
            f"See /var/log/nginx/error.log there, correct what was changed, and {AGAIN}."
        )
    if site.get("failed"):
        status = int(site.get("status") or -1)
        said = f"status {status}" if status > 0 else site.get("msg") or "no answer"
        return (
            f"requests for {name} were answered before nginx was configured, and now there is {said}. "
            f"See /var/log/nginx/error.log there, correct what was changed, and {AGAIN}."
        )
    seen = json.loads(proxies) if proxies else {"closed": 0, "answered": 0}
    # A few may be something else's in their networks, where others are answered.
    if seen["closed"] and seen["closed"] >= seen["answered"]:
        return (
            f"nginx closed {seen['closed']} connections of proxies in front, the last from {seen['last']}, and "
            f"answered {seen['answered']} requests meanwhile: they do not speak the PROXY protocol. Have them do so, "
            f"or set nginx_proxy_protocol to false, and {AGAIN}."
        )
    return ""


def sites(
    balancers: Sequence[str], hostvars: HostVars, floating: Sequence[str] = (), public: str = ""
) -> list[dict[str, Any]]:
    """What is asked to see the site as clients do, for the role netdata: at each load balancer and floating address.

    public: the site's URL, asked as well where its host is none of those addresses: a name, which DNS resolves, or
    the address of what stands before the balancers.
    """
    owners = {balancer: balancer for balancer in balancers}
    addresses = {balancer: str(hostvars[balancer]["phoenix_address"]) for balancer in balancers}
    for number, address in enumerate(floating, 1):
        owners[f"floating{number}"], addresses[f"floating{number}"] = balancers[0], address
    found = [
        {
            "host": host,
            "address": address,
            "url": f"{url}/",
            "proxy_protocol": boolean(hostvars[owners[host]]["nginx_proxy_protocol"]),
        }
        for host, address in addresses.items()
        for url in _urls(owners[host], hostvars, address).values()
    ]
    host = urlsplit(public).hostname
    if host and host not in addresses.values():
        found.append({"host": "public", "address": host, "url": f"{public.rstrip('/')}/", "proxy_protocol": False})
    return found


def certificates(sites: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The certificates that are served there, for the role netdata."""
    secure = [(site, urlsplit(site["url"])) for site in sites if site["url"].startswith("https:")]
    return [
        {
            "host": site["host"],
            "address": site["address"],
            "port": url.port or 443,
            "name": url.hostname,
            "proxy_protocol": site["proxy_protocol"],
        }
        for site, url in secure
    ]


def upstreams(
    hosts: Sequence[str], hostvars: HostVars, placement: Mapping[str, Sequence[int]], spare_port: int
) -> list[dict[str, Any]]:
    """The hosts with ordinary instances, as nginx takes them; a standby host isn't among them."""
    return [
        {
            "name": host,
            "address": hostvars[host]["phoenix_address"],
            "ports": list(placement[host]),
            "spare_port": int(spare_port),
        }
        for host in hosts
        if placement.get(host)
    ]


def isolated(
    hosts: Sequence[str], hostvars: HostVars, placement: Mapping[str, Sequence[int]], ports: Sequence[int]
) -> list[dict[str, Any]]:
    """The sacrificial instances of the policy `isolate`: each port on each host that has ordinary instances."""
    return [
        {"address": hostvars[host]["phoenix_address"], "port": int(port)}
        for host in hosts
        if placement.get(host)
        for port in ports
    ]


def failed(hosts: Sequence[str], hostvars: HostVars, register: str) -> list[str]:
    """The hosts on which the task registered under this name was tried in vain, or not at all.

    Unreachable ones are among them, and those that had dropped out of the run before; where it was skipped, it was not
    needed.
    """
    results = {host: hostvars[host].get(register) or {"failed": True} for host in hosts}
    return [
        host
        for host, result in results.items()
        if result.get("unreachable") or result.get("failed") or (not result.get("skipped") and result.get("rc", 0) != 0)
    ]


def reason(result: Mapping[str, Any]) -> str:
    """Why a task failed, on one line: what the command printed, of whichever item of a loop."""
    printed = [str(one.get("stderr") or "") for one in (result, *result.get("results", []))]
    text = " ".join(printed).strip() or str(result.get("msg") or "no reason given")
    return " ".join(text.split())


def reasons(hosts: Sequence[str], hostvars: HostVars, register: str) -> dict[str, str]:
    """Why the task registered under this name failed, host by host."""
    return {host: reason(hostvars[host].get(register) or {}) for host in hosts}


def still_drained(drained: Iterable[str], hosts: Sequence[str], hostvars: HostVars, register: str) -> list[str]:
    """Servers that stay out of rotation: all but those that a task (register) started, which waits for health."""
    results = {host: hostvars[host].get(register) or {} for host in hosts}
    started = {
        endpoint.of(hostvars[host]["phoenix_address"], change["port"])
        for host, result in results.items()
        if result.get("rc") == 0
        for change in reach.changes(result)
    }
    return [server for server in drained if server not in started]


# Plays run from control use these roles; its inventory carries the values that differ from settings and wiring.
CONTROL_ROLES = (PLAYBOOKS, "deploy", "names", "nginx", "nodejs", "phoenix", "release", "state")
# Arguments of one run, which must not stay for the next, and a folder of the machine that runs Ansible.
NOT_FOR_CONTROL = frozenset(
    {"deploy_version", "deploy_what", "nginx_drained", "nginx_maintenance"}
    | {"phoenix_recorded", "phoenix_release_archive"}
    | {
        "deploy_configurations",
        "deploy_left_out",
        "deploy_silent",
        "nginx_lock",
        "phoenix_donor",
        "phoenix_lock",
        "phoenix_recorded_configuration",
        "phoenix_release_checksum",
        "phoenix_version",
    }
    | {"release_build_as", "release_local_directory", "release_serving", "release_source", "release_version"}
    | {"release_secrets_known"}
    | {"state_demand_hosts", "state_known_hosts", "state_values"}
)


def control_variables(specs: Specs) -> list[str]:
    """What control may know of the fleet: every option of the roles that its plays use, except secrets."""
    options = {name: option for role in CONTROL_ROLES for name, option in specs.get(role, {}).items()}
    return sorted(name for name in options if not options[name].get("no_log") and name not in NOT_FOR_CONTROL)


def control_hostvars(
    hosts: Sequence[str], hostvars: HostVars, written: HostVars, names: Sequence[str], shared: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """Return each host's address within the fleet, and the inventory's own values of the named variables.

    `written` are the hosts' variables with their templates unread, `shared` the settings and the wiring likewise:
    control has those itself, and a value that the wiring derives would no longer follow the capacity there.
    """
    return {
        host: {"ansible_host": hostvars[host]["phoenix_address"]}
        | {
            name: hostvars[host][name]
            for name in ("ansible_port", *names)
            if name in written[host] and not (name in shared and written[host][name] == shared[name])
        }
        for host in hosts
    }


def reached_at(hosts: Sequence[str], own: HostVars) -> dict[str, list[Any]]:
    """Where control reaches each of the hosts by SSH: its address and its port. own: what control_hostvars returns."""
    return {host: [own[host]["ansible_host"], int(own[host].get("ansible_port", 22))] for host in hosts}


# Of a host key, as Ansible reads it: without its type.
HOST_KEY = re.compile(r"[A-Za-z0-9+/]+={0,2}")


def host_keys(hosts: Iterable[str], hostvars: HostVars) -> dict[str, str]:
    """The public host keys of those hosts that this run has read, by address.

    Raises ValueError where one is no key: whatever else a host says would become lines of control's known_hosts.
    """
    found = {}
    for host in hosts:
        key = str(hostvars[host].get("ansible_facts", {}).get("ssh_host_key_ed25519_public", ""))
        if key and not HOST_KEY.fullmatch(key):
            raise ValueError(
                f"The SSH host key of {host} is not one ed25519 key: {key[:200]!r}. Find out who changed what Ansible "
                "reads there: /etc/ssh/ssh_host_ed25519_key.pub, and the facts of /etc/ansible/facts.d."
            )
        if key:
            found[str(hostvars[host]["phoenix_address"])] = key
    return found


# One line of a known shape: whatever else a host says is its key would become lines of the store's authorized_keys.
PUBLIC_KEY = re.compile(r"ssh-ed25519 [A-Za-z0-9+/]+={0,2}( [A-Za-z0-9._@-]+)?")


def senders(hosts: Sequence[str], hostvars: HostVars, members: Sequence[str]) -> list[dict[str, Any]]:
    """The hosts that send to the backup store; those whose addresses are members' send dumps as well.

    A host whose key is replaced has an entry for each of its keys (backup_public_keys). The key is empty until the role
    `backup` has made it there. Raises ValueError when it is no key.
    """
    found = []
    for host in hosts:
        address = str(hostvars[host]["phoenix_address"])
        for key in map(str, hostvars[host].get("backup_public_keys") or [hostvars[host].get("backup_public_key", "")]):
            if key and not PUBLIC_KEY.fullmatch(key):
                raise ValueError(
                    f"The backup key of {host} is not one line with one ssh-ed25519 key: {key[:200]!r}. Find out who "
                    "changed /etc/phoenix/backup/id_ed25519.pub there, remove both halves, and run site.yml "
                    "--tags backup."
                )
            found.append({"host": host, "address": address, "key": key, "dumps": address in members})
    return found


def scaling_lines(status: Mapping[str, Any]) -> list[str]:
    """The autoscaler's own status as lines for people."""
    rate, desired = status.get("requests_per_second"), status.get("desired")
    age = float(status.get("age", 0))
    lines = [
        "",
        f"AUTOSCALER {'' if age < 10 else f'(silent for {age:.0f} s) '}"
        f"capacity {status.get('capacity')}, desired {desired}, {rate}/s in "
        f"{status.get('stable_seconds', 60)} s, {status.get('panic_requests_per_second')}/s in "
        f"{status.get('panic_seconds', 6)} s, {status.get('open_requests', 0)} open requests"
        + (", at the maximum" if status.get("at_maximum") else "")
        + (f", scaling to {status['acting']}" if status.get("acting") else ""),
    ]
    lines += [f"  WARNING: {status['warning']}"] if status.get("warning") else []
    lines += [f"  {status['explanation']}"] if status.get("explanation") else []
    lines += [f"  minimum {status['minimum']} by {status['minimum_by']}"] if status.get("minimum_by") else []
    lines += [f"  {status['frozen']}"] if status.get("frozen") else []
    lines += [f"  no datagrams from {', '.join(status['silent'])}"] if status.get("silent") else []
    lines += [f"  left out: {host}: {why}" for host, why in (status.get("left_out") or {}).items()]
    for made in status.get("decisions") or []:
        again = f" (again {made['repeats']} times, until {made['until'][11:19]})" if made.get("repeats") else ""
        lines.append(f"  {made['time'][:19]} {made['action']:<4} {made['count']:>3}  {made['reason']}{again}")
    return lines
