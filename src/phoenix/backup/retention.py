"""Decide which backups may be deleted, as a pure function.

Only dumps proven good count. Nothing is deleted while the newest is not good, the last good one never, and nothing
early: ages are seconds of the store's running time (see clock), which neither jumps nor has a time zone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

DAY = 86400.0
GOOD = "good"


@dataclass(frozen=True)
class Kept:
    """One item in the store, or an attempt that left nothing (state failed).

    number: order of receipt; elapsed: running time of the store at receipt, in seconds. A safety dump is kept for its
    time and neither counts as the newest nor as the last good one.
    """

    name: str
    number: int
    elapsed: float
    state: str
    safety: bool = False


@dataclass(frozen=True)
class Verdict:
    name: str
    keep: bool
    reason: str


def decide(kept: Sequence[Kept], now: float, keep_days: float) -> list[Verdict]:
    """Verdicts in the order of receipt. now: running time of the store in seconds."""
    ordered = sorted(kept, key=lambda one: one.number)
    counted = [one for one in ordered if not one.safety]
    newest = counted[-1] if counted else None
    good = [one for one in counted if one.state == GOOD]
    verdicts = []
    for one in ordered:
        days = (now - one.elapsed) / DAY
        if days <= keep_days:
            verdicts.append(Verdict(one.name, True, f"{days:.1f} days old"))
        elif newest is None or newest.state != GOOD:
            state = newest.state if newest else "missing"
            verdicts.append(Verdict(one.name, True, f"{days:.1f} days old, but the newest is {state}"))
        elif one is good[-1]:
            verdicts.append(Verdict(one.name, True, f"{days:.1f} days old, but the last good one"))
        else:
            verdicts.append(Verdict(one.name, False, f"{days:.1f} days old, above {keep_days:g}"))
    return verdicts


def thin(kept: Sequence[Kept], now: float) -> list[Verdict]:
    """Verdicts on those that another one of the same day followed, once that is a day ago. now: as of decide().

    For what is sent whole whenever it changes. Days are those of the running time, so that the next call agrees.
    """
    newest: dict[int, Kept] = {}
    for one in sorted(kept, key=lambda one: one.number):
        newest[int(one.elapsed // DAY)] = one
    superseded = [one for one in kept if now - one.elapsed > DAY and newest[int(one.elapsed // DAY)] is not one]
    return [Verdict(one.name, False, "another one of the same day followed") for one in superseded]
