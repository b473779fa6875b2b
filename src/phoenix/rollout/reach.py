"""Hosts that do not answer, or answer and are broken: which are left out of a roll-out, and when they are too many."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any


def lost(results: Sequence[Mapping[str, Any]], known: Sequence[str] = ()) -> list[str]:
    """The hosts (`item`) of a looped task that Ansible could not reach, after those that are known already."""
    return list(dict.fromkeys([*known, *(str(result["item"]) for result in results if result.get("unreachable"))]))


def left_out(named: str | Sequence[str], hosts: Sequence[str]) -> list[str]:
    """The hosts that a play is to do without: a list, or as -e gives it, with commas. Raises ValueError."""
    names = [name.strip() for name in (named.split(",") if isinstance(named, str) else named)]
    if unknown := [name for name in names if name and name not in hosts]:
        raise ValueError(
            f"deploy_left_out names {', '.join(unknown)}: give some of {', '.join(hosts)}, such as "
            f"""-e '{{"deploy_left_out": ["{hosts[-1] if hosts else ""}"]}}'."""
        )
    return [name for name in names if name]


def broken(results: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The hosts of a looped task that Ansible reached, and whose command failed there: why, in one line.

    As with a file system that has turned read-only. Of a traceback the last line says it.
    """
    found = {}
    for result in results:
        if not result.get("unreachable") and result.get("rc", 1) != 0:
            said = str(result.get("stderr") or result.get("msg") or "").strip()
            found[str(result["item"])] = said.rpartition("\n")[2] or f"exit status {result.get('rc', 'unknown')}"
    return found


def _faults(hosts: Collection[str], reasons: Mapping[str, str], unreached: str) -> list[str]:
    """What is wrong with hosts that are left out, in parts of a sentence: `unreached` of those without a reason."""
    silent = [host for host in hosts if host not in reasons]
    said = [f"{host} answers, but can't report its instances ({reasons[host]})" for host in hosts if host in reasons]
    return [*([f"{', '.join(silent)} {unreached}"] if silent else []), *said]


def refusal(
    wanted: Collection[str], without: Collection[str], minimum_share: float, reasons: Mapping[str, str] | None = None
) -> str:
    """Why it can't go on without some hosts; "" when it can.

    At least minimum_share of the wanted hosts has to answer, and one in any case. A host that is not wanted, such as an
    application host that no instance is placed on, never counts. reasons: of those that are broken.
    """
    missing = sorted(set(without) & set(wanted))
    answering, unreached = len(set(wanted)) - len(missing), "can't be reached by SSH"
    if not missing or (answering and answering >= minimum_share * len(set(wanted))):
        return ""
    return (
        f"{'; '.join(_faults(missing, reasons or {}, unreached))}: {answering} of {len(set(wanted))} hosts are too few "
        f"(deploy_minimum_share is {minimum_share:g}). Bring them back, then run the play again."
    )


# Runs of these tags alone concern only hosts that serve, and may go on without one.
SERVING_TAGS = frozenset({"phoenix", "nginx"})


def site_refusal(
    groups: Mapping[str, Sequence[str]],
    limited: Collection[str],
    answering: Collection[str],
    tags: Collection[str],
    minimum_share: float,
) -> str:
    """Why site.yml can't go on without the hosts (of those it is limited to) that do not answer; "" when it can.

    A complete run wants every host: it configures them for each other. One that brings load balancers or instances up
    to date must not be kept from it by a lost host. Application hosts get their release from control.
    """
    control, limit = groups["control"][0], ",".join(limited)
    if control not in limited and set(groups["app"]) & set(limited) and {"all", "phoenix"} & set(tags):
        return (
            f"--limit leaves out {control}, from which application hosts get their release: --limit {control},{limit}. "
            "Nothing was changed."
        )
    silent = [host for host in limited if host not in answering]
    if not silent:
        return ""
    if not set(tags) <= SERVING_TAGS:
        return (
            f"{', '.join(silent)} can't be reached by SSH, and a run with these tags ({', '.join(tags)}) wants every "
            "host. Bring them back; or run it with --tags phoenix,nginx, which goes on without them."
        )
    serving = [host for host in groups["app"] if host not in groups.get("app_standby", [])]
    for hosts in (serving, groups["lb"], groups["control"][:1]):
        if why := refusal([host for host in hosts if host in limited], silent, minimum_share):
            return why
    return ""


def served_ports(status: str, first_port: int, per_host: int, others: Collection[int]) -> list[int]:
    """Ports of running instances (as `instances status` printed them) besides those that are set now."""
    now = {*range(int(first_port), int(first_port) + int(per_host)), *map(int, others)}
    instances = json.loads(status)["instances"] if status.startswith("{") else []
    return [instance["port"] for instance in instances if instance["active"] and instance["port"] not in now]


def unserved(
    statuses: Mapping[str, Mapping[str, Any]], placement: Mapping[str, Sequence[int]], minimum_share: float
) -> str:
    """Why the upstreams can't lead to the wanted instances; "" when they can.

    Of those on the hosts that answered (`statuses`, by `instances status`), the share has to run, and one in any case:
    a run that leaves the instances alone must not move clients to ports where none listens.
    """
    asked = [(host, port) for host, status in statuses.items() if status for port in placement.get(host, [])]
    running = {
        (host, one["port"]) for host, status in statuses.items() for one in status.get("instances", ()) if one["active"]
    }
    missing = [f"{host}:{port}" for host, port in asked if (host, port) not in running]
    found = len(asked) - len(missing)
    if not missing or (found and found >= minimum_share * len(asked)):
        return ""
    return (
        f"{', '.join(missing)} do not run, so the load balancers would lead clients nowhere; they were not changed. "
        "Bring the instances up in the same run: --tags phoenix,nginx."
    )


def wanted(hosts: Sequence[Mapping[str, Any]]) -> list[str]:
    """The application hosts that ordinary instances are wanted on."""
    return [str(host["name"]) for host in hosts if host.get("ports")]


def left(hosts: Sequence[Any], without: Collection[str]) -> list[Any]:
    """Hosts, by name or as {name, ...}, that are not lost."""
    return [host for host in hosts if (host["name"] if isinstance(host, Mapping) else host) not in without]


def switch_errors(started: Sequence[Mapping[str, Any]], waited: Sequence[Mapping[str, Any]]) -> list[str]:
    """What is wrong with the parts of a step, from the results of their commands; [] where all are healthy.

    waited: the ends of those that were started in the background; each has that start's result as its `item`.
    """
    ends = {one["item"]["item"]["host"]: one for one in waited}
    wrong = []
    for result in started:
        name = result["item"]["host"]
        end = ends.get(name, result)
        if end.get("unreachable"):
            wrong.append(f"{name} can't be reached by SSH any more.")
        elif end.get("rc") != 0:
            reason = str(end.get("stderr") or end.get("msg") or "it left no result").strip()
            wrong.append(f"{name}: {reason}")
    return wrong


def answers(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The JSON output of each host that was reached and is not broken, by its name."""
    good = [result for result in results if result.get("stdout") and not result.get("rc")]
    return {str(result["item"]): json.loads(result["stdout"]) for result in good}


def outputs(results: Sequence[Mapping[str, Any]]) -> list[Any]:
    """All JSON outputs, without hosts that printed none."""
    return [json.loads(result["stdout"]) for result in results if result.get("stdout")]


def changes(result: Mapping[str, Any]) -> list[Any]:
    """The changes by `phoenixctl instances`, from a task's result; none where it did not run."""
    text = str(result.get("stdout") or "")
    return list(json.loads(text)["changed"]) if text.startswith("{") else []


def options(values: Sequence[Any], name: str) -> list[str]:
    """Words of a command line that give an option once for each value."""
    return [word for value in values for word in (name, str(value))]
