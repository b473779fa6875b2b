"""Whom a step of TLS, or a certificate of another CA, would cut off from the database.

Judged by what the module database_clients has seen on each host: how programs connect that run, and how they would be
started again. Files alone do not say it: a run that was cut, or was limited to hosts or tags, has written more than it
has rolled out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from phoenix.database import authority, tls

# By host: what the module has returned; None where it was not asked, as the host takes no part in the run.
Seen = Mapping[str, "Mapping[str, Any] | None"]


def _listed(names: Mapping[str, list[str]]) -> str:
    return "; ".join(f"{host}: {', '.join(found)}" for host, found in names.items() if found)


def step_refusal(wanted: str, host: str, configuration: str, seen: Seen) -> str:
    """Why a member may not be given this mode; "" where it may.

    configuration: the one that its server was started with, or the one in place where none runs; "" on a new host.
    """
    refusal = tls.step_refusal(wanted, host, configuration)
    if (
        refusal
        or not configuration
        or wanted == tls.mode_of(configuration)
        or wanted not in (tls.MODES[0], tls.MODES[-1])
    ):
        return refusal
    return " ".join(_cut_off(wanted, tls.mode_of(configuration), seen))


def _cut_off(wanted: str, present: str, seen: Seen) -> Iterator[str]:
    by_tls = wanted == tls.MODES[-1]
    others = {
        host: [one["name"] for one in known["clients"] if one["tls"] is not by_tls]
        for host, known in seen.items()
        if known is not None
    }
    if listed := _listed(others):
        yield (
            f"mongodb_tls = {wanted} would cut off what connects {'without' if by_tls else 'by'} TLS: {listed}. "
            f"Run the whole site.yml with mongodb_tls = {present} first, for every host, to its end."
        )
    if absent := [host for host, known in seen.items() if known is None]:
        yield (
            f"mongodb_tls = {wanted}: {', '.join(absent)} is not in this run, or does not answer, so how it connects "
            "is not known. Run site.yml for every host; remove one that is lost for good with remove-host.yml."
        )


def distrusting(issuer: str, seen: Seen) -> list[str]:
    """What would refuse a server whose certificate is of this CA (PEM), as "host: names"; [] where all trust it.

    What connects without TLS refuses none, and begins with the CAs of its next start.
    """
    found = []
    for host, known in seen.items():
        if known is None:
            found.append(f"{host}: not in this run")
            continue
        connecting = [one for one in (*known["clients"], *known["member"]) if one["tls"]]
        names = [one["name"] for one in connecting if not {*authority.certificates(issuer)} <= _trusted(one)]
        found += [f"{host}: {', '.join(names)}"] if names else []
    return found


def bundles(seen: Seen) -> list[str]:
    """The CAs that are trusted (PEM), each text once, by what connects by TLS."""
    known = [one for one in seen.values() if one is not None]
    clients = [client for one in known for client in (*one["clients"], *one["member"])]
    return sorted({client["trusted"] for client in clients if client["tls"]} - {""})


def _trusted(client: Mapping[str, Any]) -> set[str]:
    return {*authority.certificates(client["trusted"])}
