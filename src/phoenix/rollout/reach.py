"""Hosts that do not answer: which are left out of a roll-out, and when they are too many."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any


def lost(results: Sequence[Mapping[str, Any]], known: Sequence[str] = ()) -> list[str]:
    """The hosts (`item`) of a looped task that Ansible could not reach, after those that are known already."""
    return list(dict.fromkeys([*known, *(str(result["item"]) for result in results if result.get("unreachable"))]))


def refusal(wanted: Collection[str], without: Collection[str], minimum_share: float) -> str:
    """Why it can't go on without some hosts; "" when it can.

    At least minimum_share of the wanted hosts has to answer, and one in any case. A host that is not wanted, such as an
    application host that no instance is placed on, never counts.
    """
    missing = sorted(set(without) & set(wanted))
    answering = len(set(wanted)) - len(missing)
    if not missing or (answering and answering >= minimum_share * len(set(wanted))):
        return ""
    return (
        f"{', '.join(missing)} can't be reached by SSH: {answering} of {len(set(wanted))} hosts are too few "
        f"(deploy_minimum_share is {minimum_share:g}). Bring them back, then run the play again."
    )


def wanted(hosts: Sequence[Mapping[str, Any]]) -> list[str]:
    """The application hosts that ordinary instances are wanted on."""
    return [str(host["name"]) for host in hosts if host.get("ports")]


def left(hosts: Sequence[Any], without: Collection[str]) -> list[Any]:
    """Hosts, by name or as {name, ...}, that are not lost."""
    return [host for host in hosts if (host["name"] if isinstance(host, Mapping) else host) not in without]


def answers(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The JSON output of each host that was reached, by its name."""
    return {str(result["item"]): json.loads(result["stdout"]) for result in results if result.get("stdout")}


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
