"""Which fault comes when, and on which host: drawn from a seed, one after the other."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

# Seconds of calm before a fault, and for which what is lost stays away.
PAUSE_S = (5.0, 15.0)
HOLD_S = (5.0, 20.0)


@dataclass(frozen=True)
class Kind:
    """What is needed to draw a fault. group: one of its hosts is struck, or "" where no host is drawn.

    least: how many of them there have to be, so that the fleet serves without one. by_role: which one it is shows when
    the fault comes, as that has another role then.
    """

    name: str
    group: str = ""
    least: int = 1
    by_role: bool = False


@dataclass(frozen=True)
class Step:
    """A fault to come, pause_s after the fleet has recovered from the one before. host: "" where none is drawn."""

    number: int
    kind: str
    host: str
    pause_s: float
    hold_s: float


def possible(
    kinds: Sequence[Kind], groups: Mapping[str, Sequence[str]], spared: Collection[str] = ()
) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Return kind -> hosts that it may strike, and kind -> why the fleet cannot have it.

    spared: hosts that must not be struck, since they send the load.
    """
    can: dict[str, list[str]] = {}
    cannot: dict[str, str] = {}
    for kind in kinds:
        members = groups.get(kind.group, [])
        hosts = [name for name in members if name not in spared]
        if not kind.group:
            can[kind.name] = [""]
        elif len(members) < kind.least:
            cannot[kind.name] = f"{len(members)} of {kind.least} hosts that it needs are {kind.group}"
        elif not hosts:
            cannot[kind.name] = f"{', '.join(members)} sends the writes"
        else:
            can[kind.name] = [""] if kind.by_role else hosts
    return can, cannot


def steps(
    seed: int,
    can: Mapping[str, Sequence[str]],
    pause_s: tuple[float, float] = PAUSE_S,
    hold_s: tuple[float, float] = HOLD_S,
) -> Iterator[Step]:
    """Draw faults without end: every kind in turn, in an order that is new in each round, and on hosts in turn as well.

    A fault begins after the one before is over, so that there is never a second one. The same seed and fleet give the
    same faults, however long each takes.

    Raises:
        ValueError: there is no kind to draw.
    """
    if not can:
        raise ValueError("no kind of fault is possible on this fleet: nothing to draw")
    draw = random.Random(seed)
    left: dict[str, list[str]] = {name: [] for name in can}
    number = 0
    last = ""
    while True:
        order = sorted(can)
        draw.shuffle(order)
        if order[0] == last and len(order) > 1:
            order = [*order[1:], last]
        for kind in order:
            if not left[kind]:
                left[kind] = draw.sample(list(can[kind]), len(can[kind]))
            number, last = number + 1, kind
            yield Step(
                number, kind, left[kind].pop(), round(draw.uniform(*pause_s), 1), round(draw.uniform(*hold_s), 1)
            )
