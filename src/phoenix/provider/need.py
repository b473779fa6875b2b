"""How many hosts on demand there ought to be: as many as the load needs, and no fewer until it has not for a while."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil


@dataclass(frozen=True)
class Want:
    """hosts: the number wanted; idle_since: since when fewer are enough; enough: the most that were, since then."""

    hosts: int = 0
    idle_since: float | None = None
    enough: int = 0


def required(needed: int, room: int, per_host: int) -> int:
    """Hosts for the instances that the inventory's own hosts do not hold."""
    return max(0, ceil((needed - room) / per_host))


def decide(want: Want, needed: int, room: int, per_host: int, now: float, idle_seconds: float) -> Want:
    """More at once, fewer after idle_seconds in which the fewer were enough without a break.

    needed: instances that there have to be hosts for; room: those that the inventory's own hosts hold.
    """
    count = required(needed, room, per_host)
    if count >= want.hosts:
        return Want(count)
    if want.idle_since is None:
        return Want(want.hosts, now, count)
    enough = max(want.enough, count)
    if now - want.idle_since >= idle_seconds:
        return Want(enough)
    return Want(want.hosts, want.idle_since, enough)
