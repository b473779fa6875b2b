"""Filters of Phoenix: a shim over phoenix.fleet, where the code and its tests are."""

import sys
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

# Ansible loads this file by its path, wherever it was started, and does not find the package by itself.
_SOURCES = str(Path(__file__).resolve().parent.parent / "src")
if _SOURCES not in sys.path:
    sys.path.insert(0, _SOURCES)

from ansible.errors import AnsibleFilterError  # noqa: E402
from ansible.vars.hostvars import HostVars, HostVarsVars  # noqa: E402

from phoenix.balancer import acme  # noqa: E402
from phoenix.build import plugins, toolkit  # noqa: E402
from phoenix.common import endpoint  # noqa: E402
from phoenix.database import clients, keys, names, replica_set, tls, upgrade  # noqa: E402
from phoenix.fleet import (  # noqa: E402
    addresses,
    certificate,
    command_line,
    environment,
    fitness,
    floating,
    hosts,
    inputs,
    inventory,
    package,
    placement,
    processes,
    programs,
    report,
    sandbox,
    service,
    sharing,
    state_parts,
    uri,
    wiring,
)
from phoenix.instances import health, logs, releases  # noqa: E402
from phoenix.monitoring import streaming  # noqa: E402
from phoenix.provider import settings as demand_settings  # noqa: E402
from phoenix.rollout import decisions, order, reach  # noqa: E402
from phoenix.rollout import plan as rollout  # noqa: E402
from phoenix.state import rebuild  # noqa: E402


def _reported(function: Callable[..., Any]) -> Callable[..., Any]:
    """Turn a ValueError of the package into Ansible's message, without a traceback."""

    def filtered(*arguments: Any, **options: Any) -> Any:
        try:
            return function(*arguments, **options)
        except ValueError as error:
            raise AnsibleFilterError(str(error)) from error

    return filtered


def mongodb_uri(password: str, user: str, *arguments: Any, **options: Any) -> str:
    """The password comes first, as the filtered value: `password | mongodb_uri(user, members, port, ...)`."""
    return uri.mongodb_uri(user, password, *arguments, **options)


def schedule_errors(entries: Any, zone: str, most: int) -> list[str]:
    """What is wrong with autoscaler_schedule. Its library is only needed here where there is a schedule."""
    if not entries and isinstance(entries, list) and zone == "UTC":
        return []
    from phoenix.autoscaler import schedule  # noqa: PLC0415

    return schedule.errors(entries, zone, most)


def written(hostvars: Any, hosts: Iterable[str] | None = None) -> dict[str, Any]:
    """Return the variables of all hosts, or of these, with their templates not evaluated."""
    names = hostvars if hosts is None else hosts
    return {host: hostvars.raw_get(host) if isinstance(hostvars, HostVars) else hostvars[host] for host in names}


def evaluated(hostvars: Any, unread: dict[str, Any]) -> dict[str, Any]:
    """Give variables access to hostvars: one read through hostvars lacks it, and the wiring uses it.

    What hosts share is evaluated once.
    """
    if not isinstance(hostvars, HostVars):
        return unread
    each = {
        host: HostVarsVars({**variables, "hostvars": hostvars}, loader=hostvars._loader, host=host)
        for host, variables in unread.items()
    }
    return sharing.shared(each, unread)


def inventory_errors(hostvars: Any, *arguments: Any, **options: Any) -> list[str]:
    return inventory.errors(evaluated(hostvars, written(hostvars)), *arguments, **options)


def control_hostvars(hosts: Sequence[str], hostvars: Any, playbook_dir: str) -> dict[str, dict[str, Any]]:
    unread = written(hostvars, hosts)
    names = wiring.control_variables(_known(str(Path(playbook_dir).parent / "roles"), playbook_dir))
    return wiring.control_hostvars(hosts, evaluated(hostvars, unread), unread, names, _shared(playbook_dir))


# Within one task they are read for every host.
_known = lru_cache(maxsize=1)(inventory.known_variables)
_shared = lru_cache(maxsize=1)(inventory.shared_variables)


def state_rebuilt(
    state: Any,
    results: Any,
    balancers: Any,
    hosts: Any,
    standby: Any,
    initial: int,
    first: int,
    count: int,
    demand: Any,
) -> dict[str, Any]:
    """What `state show` printed, with what is lost rebuilt from what the hosts and the load balancers printed."""
    seen, down = rebuild.statuses(results), rebuild.marked(balancers)
    return rebuild.rebuild(state, seen, hosts, standby, initial, first, count, demand, down)


def code(module: str, version: str = "") -> str:
    """Identify the code that runs this module: its digest, or the version of the toolkit that is rolled back to."""
    return version or toolkit.code_of(module)


def _registered(hosts: Any, hostvars: Any, name: str) -> dict[str, Any]:
    """What a task registered under this name, of each host."""
    return {host: hostvars[host].get(name) or {} for host in hosts}


def _printed(hosts: Any, hostvars: Any, name: str) -> dict[str, dict[str, Any]]:
    """The JSON that this task's command printed on each host; {} where it printed none."""
    return {host: report.read(result) for host, result in _registered(hosts, hostvars, name).items()}


def database_clients(hosts: Any, hostvars: Any, name: str) -> dict[str, Any]:
    """What the module database_clients returned on each host, registered under this name; None where it did not run."""
    found = _registered(hosts, hostvars, name)
    return {host: seen if "clients" in seen else None for host, seen in found.items()}


def configurations(hosts: Any, hostvars: Any) -> dict[str, str]:
    """The configuration that the role `phoenix` wrote on each host in this run."""
    return {host: name for host in hosts if (name := hostvars[host].get("phoenix_configuration"))}


def unserved(hosts: Any, hostvars: Any, name: str, placement: Any, minimum_share: Any) -> str:
    return reach.unserved(_printed(hosts, hostvars, name), placement, float(minimum_share))


def rollback_refusal(statuses: Any, release: str, hosts: Any) -> str:
    return decisions.rollback_refusal(decisions.placed(statuses, hosts), release)


def status_lines(hosts: Any, hostvars: Any, name: str) -> list[str]:
    groups = {host: hostvars[host]["group_names"] for host in hosts}
    return report.status(groups, _registered(hosts, hostvars, name))


def service_due(hosts: Any, hostvars: Any, groups: Any, status: str, updates: str, *more: Any) -> list[dict[str, str]]:
    """status, updates: the names under which what the hosts printed is registered."""
    return service.due(groups, _printed(hosts, hostvars, status), _printed(hosts, hostvars, updates), *more)


def service_turns(hosts: Any, hostvars: Any, groups: Any, status: str) -> list[str]:
    return service.turns(groups, _printed(hosts, hostvars, status), hosts)


def service_left_out(drained: Any, hosts: Any, hostvars: Any) -> list[str]:
    return service.left_out(drained, {host: hostvars[host]["phoenix_address"] for host in hosts})


def failed_units(hosts: Any, hostvars: Any, name: str) -> list[str]:
    return report.failed_units(_registered(hosts, hostvars, name))


def healthy_statuses(but: Sequence[int]) -> list[int]:
    """The statuses of a healthy answer, without these."""
    return [status for status in health.HEALTHY if status not in but]


def member_refusal(state: Any, host: str, own: str) -> str:
    return service.member_refusal(host, own, state)


def series_refusal(wanted: str, host: str, installed: str) -> str:
    return upgrade.series_refusal(host, installed, wanted)


def compatibility_refusal(wanted: str, hosts: Any, hostvars: Any) -> str:
    running = _registered(hosts, hostvars, "mongodb_running")
    return upgrade.compatibility_refusal(wanted, {host: seen["version"] for host, seen in running.items()})


def upgrade_turns(hosts: Any, hostvars: Any) -> list[str]:
    return upgrade.turns(_registered(hosts, hostvars, "mongodb_running"))


def keyfile_refusal(content: str, host: str, wanted: str) -> str:
    return keys.refusal(host, content, wanted)


def keyfile_unfit(content: str, host: str, wanted: str) -> str:
    return keys.unfit(host, content, wanted)


def floating_errors(addresses: Any, own: Any, peers: Any) -> list[str]:
    balancers = {"this host": list(own), **({"the others": list(peers)} if peers else {})}
    return list(floating.errors(addresses, balancers, {}))


def floating_refusal(wanted: Any, hosts: Any, hostvars: Any, name: str) -> str:
    return floating.refusal(wanted, _printed(hosts, hostvars, name))


def floating_leaving(wanted: Any, host: str, hosts: Any, hostvars: Any, name: str) -> list[str]:
    return floating.leaving(wanted, host, _printed(hosts, hostvars, name))


def failover(balancers: Any, hostvars: Any, name: str) -> dict[str, str]:
    return floating.failover(balancers, _printed(balancers, hostvars, name))


def floating_error(hosts: Any, hostvars: Any, name: str) -> str:
    return report.floating_error(_registered(hosts, hostvars, name))


def database_error(hosts: Any, hostvars: Any, name: str) -> str:
    return report.database_error(_registered(hosts, hostvars, name))


def demand_errors(values: Any) -> list[str]:
    """What is wrong with the configuration of hosts on demand; the daemon would refuse it."""
    try:
        demand_settings.parse(dict(values))
    except ValueError as error:
        return [str(error)]
    return []


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {
            "firewall_bad_addresses": addresses.bad_addresses,
            "firewall_contains": addresses.contains,
            "firewall_networks": addresses.networks,
            "jenkins_unmet": plugins.unmet,
            "jenkins_user_secrets": plugins.user_secrets,
            "phoenix_arguments": command_line.arguments,
            "phoenix_host_errors": fitness.errors,
            "phoenix_site_names": hosts.site_names,
            "phoenix_state_parts": state_parts.parts,
            "phoenix_state_triggers": state_parts.triggers,
            "phoenix_code": code,
            "phoenix_demand_errors": demand_errors,
            "phoenix_endpoint": endpoint.of,
            "phoenix_environment": environment.variables,
            "phoenix_environment_errors": environment.errors,
            "phoenix_environment_lines": environment.lines,
            "phoenix_environment_trusted": environment.trusted_file,
            "phoenix_failover": failover,
            "phoenix_floating_error": floating_error,
            "phoenix_floating_errors": floating_errors,
            "phoenix_floating_homes": floating.homes,
            "phoenix_floating_leaving": floating_leaving,
            "phoenix_floating_outside": floating.outside,
            "phoenix_floating_places": floating.places,
            "phoenix_floating_refusal": floating_refusal,
            "phoenix_in_container": hosts.in_container,
            "phoenix_compatibility_refusal": compatibility_refusal,
            "phoenix_upgrade_refusal": upgrade.refusal,
            "phoenix_upgrade_series_refusal": series_refusal,
            "phoenix_upgrade_turns": upgrade_turns,
            "phoenix_keyfile_beside": keys.beside,
            "phoenix_keyfile_former": keys.former,
            "phoenix_keyfile_keys": keys.keys,
            "phoenix_keyfile_refusal": keyfile_refusal,
            "phoenix_keyfile_spread": keys.spread,
            "phoenix_keyfile_unfit": keyfile_unfit,
            "phoenix_java": hosts.java,
            "phoenix_database_clients": database_clients,
            "phoenix_distrusting": clients.distrusting,
            "phoenix_trusted_bundles": clients.bundles,
            "phoenix_tls_step_refusal": clients.step_refusal,
            "phoenix_tls_used": _reported(tls.used),
            "phoenix_member_certificate_error": certificate.member_error,
            "phoenix_libcurl": hosts.libcurl,
            "phoenix_libraries": programs.libraries,
            "phoenix_program_errors": programs.errors,
            "phoenix_archives": programs.archives,
            "phoenix_archives_due": programs.due,
            "phoenix_package_refusal": package.refusal,
            "phoenix_path_errors": environment.path_errors,
            "phoenix_process_errors": processes.errors,
            "phoenix_process_files": processes.files,
            "phoenix_place": _reported(placement.place),
            "phoenix_place_around": _reported(placement.place_around),
            "phoenix_certificate_error": certificate.error,
            "phoenix_certificates_errors": certificate.errors,
            "phoenix_certificate_files": certificate.files,
            "phoenix_acme_errors": acme.errors,
            "mongodb_configured_members": replica_set.configured_members,
            "mongodb_former_hosts": replica_set.former_hosts,
            "mongodb_uri": _reported(mongodb_uri),
            "phoenix_is_checksum": inputs.is_checksum,
            "phoenix_source_error": uri.source_error,
            "phoenix_logs": logs.merged,
            "phoenix_mongodb_step_error": inputs.mongodb_step_error,
            "phoenix_mongodb_version_error": inputs.mongodb_version_error,
            "phoenix_voters_error": inputs.voters_error,
            "phoenix_port_errors": inputs.port_errors,
            "phoenix_recipients_errors": inputs.recipients_errors,
            "phoenix_inventory_errors": _reported(inventory_errors),
            "phoenix_known_variables": _reported(inventory.known_variables),
            "phoenix_schedule_errors": schedule_errors,
            "phoenix_sandbox": _reported(sandbox.lines),
            "phoenix_changes": reach.changes,
            "phoenix_options": reach.options,
            "phoenix_release_content": releases.compare,
            "phoenix_rollback_refusal": rollback_refusal,
            "phoenix_debian_step": service.debian_step,
            "phoenix_service_application_refusal": service.application_refusal,
            "phoenix_service_balancer_refusal": service.balancer_refusal,
            "phoenix_service_due": service_due,
            "phoenix_service_groups": _reported(service.services),
            "phoenix_service_left_out": service_left_out,
            "phoenix_service_member_refusal": member_refusal,
            "phoenix_service_reboots": _reported(service.reboots),
            "phoenix_service_servers": service.servers,
            "phoenix_service_stand_ins": service.stand_ins,
            "phoenix_service_turns": service_turns,
            "phoenix_service_without": service.without,
            "phoenix_rollout_accepted": decisions.accepted,
            "phoenix_rollout_announcement": decisions.announcement,
            "phoenix_rollout_answers": reach.answers,
            "phoenix_rollout_also_down": order.also_down,
            "phoenix_rollout_back": order.back,
            "phoenix_rollout_broken": reach.broken,
            "phoenix_rollout_canaries": decisions.canaries,
            "phoenix_rollout_capped": decisions.capped,
            "phoenix_rollout_changed": decisions.changed,
            "phoenix_rollout_command_due": decisions.command_due,
            "phoenix_rollout_down": order.down,
            "phoenix_rollout_ending": decisions.ending,
            "phoenix_rollout_estimate": order.estimate,
            "phoenix_rollout_forward": order.forward,
            "phoenix_rollout_holding": decisions.holding,
            "phoenix_rollout_left": reach.left,
            "phoenix_rollout_left_out": reach.left_out,
            "phoenix_rollout_lost": reach.lost,
            "phoenix_rollout_needed": decisions.needed,
            "phoenix_rollout_plan": rollout.plan,
            "phoenix_rollout_refusal": reach.refusal,
            "phoenix_rollout_processes": decisions.processes,
            "phoenix_rollout_rehearsal": rollout.rehearsal,
            "phoenix_rollout_result": decisions.result,
            "phoenix_rollout_silent": decisions.silent,
            "phoenix_rollout_slow": rollout.slow,
            "phoenix_rollout_switch_errors": reach.switch_errors,
            "phoenix_rollout_target": decisions.target,
            "phoenix_rollout_title": order.title,
            "phoenix_rollout_unserved": decisions.unserved,
            "phoenix_rollout_verdict": rollout.verdict,
            "phoenix_rollout_wanted": reach.wanted,
            "phoenix_served_ports": reach.served_ports,
            "phoenix_unserved": unserved,
            "phoenix_site_refusal": reach.site_refusal,
            "phoenix_state": rebuild.understand,
            "phoenix_state_rebuilt": _reported(state_rebuilt),
            "phoenix_addresses": wiring.addresses,
            "phoenix_misplaced": addresses.misplaced,
            "phoenix_configurations": configurations,
            "phoenix_donor": wiring.donor,
            "phoenix_private_services": wiring.private_services,
            "phoenix_certificates": wiring.certificates,
            "phoenix_sites": wiring.sites,
            "phoenix_asked_name": wiring.asked_name,
            "phoenix_balancer_error": wiring.balancer_error,
            "phoenix_url": wiring.url,
            "phoenix_members": wiring.members,
            "phoenix_member_addresses": names.addresses,
            "phoenix_upstreams": wiring.upstreams,
            "phoenix_isolated": wiring.isolated,
            "phoenix_database_error": database_error,
            "phoenix_failed_units": failed_units,
            "phoenix_healthy_statuses": healthy_statuses,
            "phoenix_status_lines": status_lines,
            "phoenix_control_hostvars": control_hostvars,
            "phoenix_failed": wiring.failed,
            "phoenix_reached_at": wiring.reached_at,
            "phoenix_reason": wiring.reason,
            "phoenix_reasons": wiring.reasons,
            "phoenix_stream_former": streaming.former,
            "phoenix_still_drained": wiring.still_drained,
            "phoenix_senders": wiring.senders,
            "phoenix_host_keys": wiring.host_keys,
        }
