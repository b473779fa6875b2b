"""Decisions and reports of a roll-out: which release to roll out, whether there is anything to do, how it ended."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from phoenix.common import endpoint
from phoenix.instances import releases
from phoenix.rollout import order

Statuses = Mapping[str, Mapping[str, Any]]


def target(what: str, named: str, recorded: str, previous: str) -> str:
    """The release that is rolled out.

    what: deploy (the named one), rollback (the named one, or else the previous one) or roll (the recorded one).
    """
    if what == "roll":
        return recorded
    return named or (previous if what == "rollback" else "")


def common_releases(statuses: Statuses) -> list[str]:
    """The releases that served once and are kept on every host."""
    kept = [set(status["kept"]) for status in statuses.values()]
    return sorted(set.intersection(*kept)) if kept else []


def rollback_refusal(statuses: Statuses, release: str) -> str:
    """Why the fleet can't be rolled back to the release; "" when it can."""
    without = unserved(statuses, release)
    if release and not without:
        return _mixed(statuses, release)
    return (
        f"The release {release or '(none)'} did not serve on {', '.join(without) or 'this fleet'}, or is not kept "
        f"there. Kept everywhere: {', '.join(common_releases(statuses)) or 'none'}. A release that control still has "
        "is put there by deploy.yml -e phoenix_version=..."
    )


def _mixed(statuses: Statuses, release: str) -> str:
    """Why the release is not one; "" where all hosts that recorded its checksum have unpacked the same archive."""
    found = {host: own for host, status in statuses.items() if (own := status.get("checksums", {}).get(release))}
    if len(set(found.values())) < 2:
        return ""
    seen = ", ".join(f"{releases.short(own)} on {host}" for host, own in found.items())
    return (
        f"The release {release} has more than one content: {seen}. deploy.yml -e phoenix_version={release} unpacks "
        "control's wherever nothing runs another one; or roll back to another release."
    )


def unserved(statuses: Statuses, release: str) -> list[str]:
    """The hosts on which the release never served: when it fails, they must not be rolled back to it."""
    return [host for host, status in statuses.items() if release not in status["kept"]]


def command_due(what: str, statuses: Statuses, release: str, prepared: str) -> bool:
    """Whether the release command is due: before a release serves for the first time, and once only.

    prepared: `yes` where it was carried out for this release, in a deploy that failed later.
    """
    return what == "deploy" and prepared != "yes" and not any(release in one["kept"] for one in statuses.values())


def needed(
    plan: Mapping[str, Any],
    statuses: Statuses,
    release: str,
    recorded: str,
    configurations: Mapping[str, str],
    returning: Collection[str] = (),
) -> bool:
    """Whether there is anything to do. Without a recorded release, on a fleet that is being set up, there is not.

    returning: servers that are out of rotation and not of a silent host. Where none of them runs, as after their host
    has left the fleet, there is nothing to switch, and the record has to go.
    """
    if not release:
        return False
    unlike = [
        status["current"] != release or status["configuration"] != configurations.get(host, status["configuration"])
        for host, status in statuses.items()
    ]
    return bool(plan["canary"] or plan["steps"] or release != recorded or any(unlike) or returning)


def processes(statuses: Statuses) -> bool:
    """Whether any host has processes besides the instances, or gets some."""
    return any(status.get("processes") for status in statuses.values())


def changed(configurations: Mapping[str, str], former: Mapping[str, str]) -> bool:
    """Whether a host that had a configuration gets another one: then there is a way back."""
    return any(former.get(host, name) != name for host, name in configurations.items())


def accepted(
    former: Mapping[str, str], configurations: Mapping[str, str], results: Sequence[Mapping[str, Any]]
) -> dict[str, str]:
    """The configurations to record.

    A host that could not be reached in the end keeps its former one, unless all that shared it have another one by now:
    then it is to get that, from one of them, before it serves again (playbooks/reconcile.yml).
    """
    reached = {str(result["item"]) for result in results if result.get("rc") == 0}
    recorded = {**former, **{host: name for host, name in configurations.items() if host in reached}}
    for host in set(former) - reached:
        alike = {recorded[other] for other, name in former.items() if other in reached and name == former[host]}
        if len(alike) == 1:
            recorded[host] = alike.pop()
    return recorded


def announcement(
    plan: Mapping[str, Any],
    release: str,
    recorded: str,
    wanted: bool,
    lost: Sequence[str],
    broken: Mapping[str, str] | None = None,
) -> list[str]:
    """The steps, in lines for people. broken: the reasons of those among the lost that answer."""
    lines = [f"From {recorded or 'nothing'} to {release}" + ("" if wanted else ": nothing to do")]
    reasons = broken or {}
    if silent := [host for host in lost if host not in reasons]:
        lines.append(f"left out, does not answer: {', '.join(silent)}")
    lines += [f"left out, can't report its instances: {host} ({reasons[host]})" for host in lost if host in reasons]
    titles = ["canary: "] if plan["canary"] else []
    titles += [""] * len(plan["steps"])
    return lines + [f"{title}{place(step)}" for title, step in zip(titles, order.back(plan))]


def place(step: Mapping[str, Any]) -> str:
    """Where a step switches instances, for people."""
    return "; ".join(f"{part['host']} {', '.join(map(str, part['ports']))}" for part in step["parts"])


def canaries(plan: Mapping[str, Any], elsewhere: bool) -> list[str]:
    """The servers to judge: the canary's, and those that a killed roll-out left on the release."""
    return [*plan["canary"]["servers"], *(plan["already"] if elsewhere else [])]


def silent(
    hosts: Sequence[Mapping[str, Any]],
    lost: Collection[str],
    drained: Collection[str] = (),
    last_ports: Sequence[int] = (),
) -> list[str]:
    """The servers of hosts that did not answer, which stay out of rotation, as it is unknown what they will run.

    Those that are wanted there, `last_ports` (spares, sacrificial instances) beside them, and those that were drained
    already. On the other hosts every instance that runs was proven healthy, and one that does not run is proven when
    it is started. Where none of them answers, none stays out: the first to return has to serve.
    """
    without = [host for host in hosts if host["name"] in lost]
    serving = [host for host in without if host.get("ports")]
    if len(serving) == sum(bool(host.get("ports")) for host in hosts):
        return []
    servers = [endpoint.of(host["address"], port) for host in serving for port in [*host["ports"], *last_ports]]
    servers += [server for server in drained if endpoint.parts(server)[0] in {host["address"] for host in without}]
    return list(dict.fromkeys(servers))


def holding(statuses: Statuses, release: str) -> list[str]:
    """The hosts that have the release. One that was away when it was unpacked gets it by site.yml."""
    return [host for host, status in statuses.items() if release in status["releases"]]


def placed(statuses: Statuses, hosts: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """The statuses of hosts that have instances, wanted or running: an empty standby host has nothing to roll back."""
    wanted = {host["name"] for host in hosts if host.get("ports")}
    return {
        host: status
        for host, status in statuses.items()
        if host in wanted or any(one["active"] for one in status["instances"])
    }


def capped(stuck: Sequence[str], before: Collection[str]) -> list[str]:
    """The servers that a rollback leaves out of rotation: never more than were out before it began."""
    return list(dict.fromkeys(stuck))[: len(before)]


def result(stuck: Collection[str], elsewhere: bool, recorded: str) -> str:
    """How a roll-out that failed is recorded: rolled back when the whole fleet is back on the recorded release."""
    return "rolled back" if elsewhere and recorded and not stuck else "failed"


def ending(
    why: str,
    elsewhere: bool,
    recorded: str,
    stuck: Sequence[str],
    lost: Sequence[str] = (),
    broken: Mapping[str, str] | None = None,
) -> str:
    """The report of a roll-out that failed. broken: the reasons of those among the lost that answer."""
    sentence, reasons = why if why.endswith(".") else f"{why}.", broken or {}
    if silent := [host for host in lost if host not in reasons]:
        sentence += f" Left out, for they do not answer: {', '.join(silent)}."
    if failing := [f"{host} ({reasons[host]})" for host in lost if host in reasons]:
        sentence += f" Left out, for they can't report their instances: {', '.join(failing)}."
    if result(stuck, elsewhere, recorded) == "rolled back":
        return f"{sentence} The fleet is back on {recorded}."
    if stuck:
        return f"{sentence} Not back in order: {', '.join(stuck)}. Check the instances there, then run the play again."
    return f"{sentence} The instances that were not switched yet run as before; fix it, then run the play again."
