"""The order of a roll-out as operations, each done by the tasks of its name; and what undoes them.

  rotate   exactly `down` is out of rotation: recorded on control, then applied by every load balancer
  switch   the instances of `step`, which are out of rotation, are given the target, and are healthy with it
  watch    the canary `step` is asked by the load balancers, put into rotation and judged; until then it stays
           recorded as out
  processes  the processes besides the instances are given the target, and run with it
  finish   all healthy ones are in rotation, new instances get the target, and it is recorded, last of all

Whatever was begun is undone by the same operations towards the former target, from what the hosts report then:
processes undo processes, rotate and switch undo a switch, the next rotation undoes a rotation, and what finish recorded
is recorded back. So it does not matter where the roll-out was cut, or whether the play that undoes it is the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from phoenix.common import endpoint

Operation = dict[str, Any]


def forward(
    plan: Mapping[str, Any],
    drained: Sequence[str],
    hosts: Sequence[Mapping[str, Any]],
    processes: bool = False,
) -> list[Operation]:
    """The operations of a roll-out.

    `drained` is out of rotation when it begins; `hosts` are {name, address, ports}; processes: whether a host has
    others than instances, before or after.
    """
    operations: list[Operation] = []
    out = list(drained)
    if canary := plan["canary"]:
        operations += _switched(canary, out, hosts, rehearse=True)
        # A canary that fails is taken out by the balancer itself: there has to be another one in rotation. Where no
        # other host answers there is none, and requests are for the spare.
        beside = _without(down(out, canary, hosts), canary)
        operations.append({"do": "watch", "step": canary, "down": beside})
        out = _without(out, canary)
    for step in plan["steps"]:
        operations += _switched(step, out, hosts)
        out = _without(out, step)
    return [*operations, *([{"do": "processes"}] if processes else []), {"do": "finish"}]


def back(plan: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The steps of a way back, the canary's first. Each is rotated out and switched by itself: one may fail alone."""
    return [*([plan["canary"]] if plan["canary"] else []), *plan["steps"]]


def down(out: Sequence[str], step: Mapping[str, Any], hosts: Sequence[Mapping[str, Any]]) -> list[str]:
    """What is out of rotation while a step is switched: that step, and what is out already.

    Never everything: what is out may answer after all, and nginx tries elsewhere where it does not. With no server in
    rotation, nothing would be tried.
    """
    wanted = {endpoint.of(host["address"], port) for host in hosts for port in host.get("ports", [])}
    both = list(dict.fromkeys([*out, *step["servers"]]))
    return both if wanted - set(both) else list(step["servers"])


def also_down(down: Sequence[str], silent: Sequence[str], hosts: Sequence[Mapping[str, Any]]) -> list[str]:
    """What is out of rotation beside `down`: servers of hosts that do not answer, as each costs a client a second.

    As far as another ordinary server stays in rotation; without one they may answer after all. Their spares stay out:
    they would only hold up the one that answers.
    """
    wanted = {endpoint.of(host["address"], port) for host in hosts for port in host.get("ports", [])}
    others = [server for server in silent if server not in down]
    if wanted - set(down) - set(others):
        return others
    return [server for server in others if server not in wanted]


def _switched(
    step: Mapping[str, Any], out: Sequence[str], hosts: Sequence[Mapping[str, Any]], *, rehearse: bool = False
) -> list[Operation]:
    """Out of rotation, with the reload that puts the step before back; then switched."""
    rotate = {"do": "rotate", "step": step, "down": down(out, step, hosts)}
    return [rotate, {"do": "switch", "step": step, "rehearse": rehearse}]


def _without(out: Sequence[str], step: Mapping[str, Any]) -> list[str]:
    return [server for server in out if server not in step["servers"]]


def title(operation: Mapping[str, Any]) -> str:
    """An operation for people."""
    where = ", ".join(operation["step"]["servers"]) if "step" in operation else ""
    return f"{operation['do']} {where}".strip()


def estimate(plan: Mapping[str, Any], drain: float, start: float, canary: float) -> str:
    """On paper, how long a roll-out takes at most when requests are in flight throughout."""
    steps = back(plan)
    if not steps:
        return "nothing is switched"
    seconds = len(steps) * (drain + start) + (canary if plan["canary"] else 0)
    servers = sum(len(step["servers"]) for step in steps)
    return (
        f"{servers} instances in {len(steps)} steps: at most {seconds / 60:.0f} min, with {drain:.0f} s of requests in "
        f"flight in each step and {start:.0f} s of start, and {canary:.0f} s of canary, which few requests or slow "
        "ones may prolong"
    )
